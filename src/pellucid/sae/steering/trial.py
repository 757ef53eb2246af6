"""One condition of an experiment: the prompts answered under it, and every answer measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor

from pellucid.sae.steering.bench import Bench
from pellucid.sae.steering.generating import Asked, answers, asked, written
from pellucid.sae.steering.journal import Generation
from pellucid.sae.steering.judging import rate
from pellucid.sae.steering.matchers import AbstractMatcher
from pellucid.sae.steering.measuring import Read, read_back, shift
from pellucid.sae.steering.modes import mode_of
from pellucid.sae.steering.plan import PROMPTED, Condition, Subject, asking_for, text_of
from pellucid.sae.steering.positions import Positions
from pellucid.sae.steering.steer import Steer
from pellucid.sae.steering.texts import distinct, edit_distance, longest_run

Place = tuple[int, int]
"""Number of a prompt and of an answer to it."""


@final
@dataclass(frozen=True)
class Trial:
    """One condition, tried on the prompts."""

    bench: Bench
    condition: Condition
    matchers: Sequence[AbstractMatcher]
    """Of which concepts it is told whether they appear."""
    subject: Subject | None
    """What is steered; None: nothing."""
    before: Mapping[Place, Generation]
    """The unsteered answers."""
    scales: tuple[float, ...] | None
    """What a strength of 1 is."""

    def answered(self, chunk: range, sample: int, directions: dict[str, Tensor | None]) -> list[Generation]:
        """The answers to some prompts, measured. ``directions`` keeps those of each arm for the next call."""
        bench, how = self.bench, self.bench.settings.sampling
        raws = [bench.prompts[place] for place in chunk]
        prompts = asked(bench.model, raws)
        if self.condition.arm == PROMPTED and self.subject is not None:
            worded = asked(bench.model, [asking_for(self.subject.prefix, raw) for raw in raws])
            found = answers(worded, how, sample=sample)
        else:
            found = answers(prompts, how, sample=sample, steer=self._steer(directions), site=bench.site)
        return list(self._measured(prompts, chunk, sample, found))

    def _steer(self, directions: dict[str, Tensor | None]) -> Steer | None:
        subject, condition = self.subject, self.condition
        if subject is None or self.scales is None or condition.strength is None:
            return None
        if condition.arm not in directions:
            directions[condition.arm] = self.bench.along(condition.arm, subject.latents)
        steer = Steer(
            self.bench.sae,
            subject.latents,
            self.scales,
            condition.strength,
            mode_of(condition.mode),
            Positions.of(self.bench.settings.positions),
        )
        return replace(steer, along=directions[condition.arm])

    def _measured(
        self, prompts: Asked, chunk: range, sample: int, found: Sequence[tuple[int, ...]]
    ) -> Iterator[Generation]:
        texts = [written(prompts.reader, ids) for ids in found]
        verdicts = {matcher.name: matcher.found(texts) for matcher in self.matchers}
        reads = read_back(prompts, found, self.bench.sae, self.bench.site)
        ratings = self._ratings(chunk, texts)
        for n, place in enumerate(chunk):
            yield Generation(
                condition=self.condition,
                prompt=place,
                sample=sample,
                ids=found[n],
                text=texts[n],
                found={name: given[n] for name, given in verdicts.items()},
                distinct=distinct(found[n], 2),
                run=longest_run(found[n]),
                ratings=ratings[n],
                **self._beside((place, sample), found[n], reads[n]),
            )

    def _beside(self, place: Place, ids: tuple[int, ...], read: Read) -> dict[str, Any]:
        """What is measured against the unsteered answer to the same prompt."""
        plain = self.before.get(place)
        if plain is None or self.subject is None:
            return {"nll": read.nll, "edit": 0.0, "own": {}, "shift": 0.0, "active": read.active}
        own = {latent: read.active.get(latent, 0.0) for latent in self.subject.latents}
        moved = shift(plain.active, read.active, self.subject.latents)
        return {"nll": read.nll, "edit": edit_distance(plain.ids, ids), "own": own, "shift": moved}

    def _ratings(self, chunk: range, texts: Sequence[str]) -> Sequence[Any]:
        if self.bench.judge is None or self.subject is None:
            return [None] * len(chunk)
        prompts = [text_of(self.bench.prompts[place]) for place in chunk]
        return rate(self.bench.judge, self.subject.concept, prompts, texts)
