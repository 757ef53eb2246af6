"""A run's files, and the work that fills them group by group."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.files import write_atomically
from pellucid.progress import Advance, progress
from pellucid.sae.interpretation.asking import Ledger
from pellucid.sae.interpretation.choosing import Chooser, Chosen
from pellucid.sae.interpretation.directions import RandomDirections
from pellucid.sae.interpretation.explaining import Explainer
from pellucid.sae.interpretation.judging import Judge, Oracle, grouped
from pellucid.sae.interpretation.places import Places
from pellucid.sae.interpretation.results import (
    EXPLANATIONS,
    INTERPRETATIONS,
    PROMPTS,
    RANDOM,
    Explanation,
    Interpretation,
    Lines,
    Prompts,
    read_lines,
)
from pellucid.sae.interpretation.rounds import Round, judged
from pellucid.sae.interpretation.settings import Settings
from pellucid.sae.interpretation.sources import Events, Store
from pellucid.sae.site import Site

LEDGER = "ledger.json"


class Ways(NamedTuple):
    """Who explains and who judges."""

    explainer: Explainer
    """Makes phrases."""
    judges: dict[str, Judge]
    """Judges, by score."""
    spent: Callable[[], Ledger] = Ledger
    """What was spent on them in this session."""


def read_ledger(folder: Path | str) -> Ledger:
    """What a run has spent so far, over all of its sessions."""
    path = Path(folder) / LEDGER
    return Ledger.model_validate_json(path.read_bytes()) if path.is_file() else Ledger()


class Run:
    """The files of a run, open for more."""

    def __init__(self, folder: Path, settings: Settings, ways: Ways) -> None:
        self._folder, self._settings, self._ways = folder, settings, ways
        self._before = read_ledger(folder)

    def __enter__(self) -> "Run":
        files = (Lines(self._folder / name) for name in (EXPLANATIONS, INTERPRETATIONS, RANDOM))
        self._explanations, self._interpretations, self._random = files
        self._prompts = Prompts(self._folder / PROMPTS) if self._settings.keep_prompts else None
        return self

    def __exit__(self, *failure: Any) -> None:
        self._account()
        for each in (self._explanations, self._interpretations, self._random, self._prompts):
            if each is not None:
                each.close()

    def _account(self) -> None:
        total = self._before + self._ways.spent()
        write_atomically(self._folder / LEDGER, f"{total.model_dump_json(indent=1)}\n".encode())

    def of_latents(self, chooser: Chooser, events: Events, wanted: Sequence[int]) -> None:
        """Explain and score latents, group by group, so that whatever ends the run leaves whole latents."""
        known = {each.latent: each for each in read_lines(self._folder / EXPLANATIONS, Explanation)}
        done = {each.latent for each in read_lines(self._folder / INTERPRETATIONS, Interpretation)}
        counts = np.asarray(events.counts)
        compared = self._compared([latent for latent in wanted if counts[latent]])
        with progress("Interpreting latents", len(wanted)) as advance:
            for group, missing in self._groups(wanted, done, advance):
                chosen = [chooser.choose(latent) for latent in missing]
                made = self._explained([each for each in chosen if each.latent not in known])
                self._explanations.add(each.model_dump(mode="json") for each in made)
                known |= {each.latent: each for each in made}
                scored = self._scored(chosen, known, _others(group, known, compared), counts)
                self._interpretations.add(each.model_dump(mode="json") for each in scored)

    def of_directions(self, store: Store, site: Site | str, places: Places, active: int) -> None:
        """Explain and score random directions."""
        count, seed = self._settings.random_directions, self._settings.choice.seed
        done = {each.latent for each in read_lines(self._folder / RANDOM, Interpretation)}
        if len(done) >= count:
            return
        drawn = RandomDirections(store, site, count, active, seed)
        chooser = Chooser(drawn, store, places, self._settings.choice)
        with progress("Interpreting random directions", count) as advance:
            for _, missing in self._groups(range(count), done, advance):
                chosen = [chooser.choose(latent) for latent in missing]
                known = {each.latent: each for each in self._explained(chosen)}
                scored = self._scored(chosen, known, {}, drawn.counts)
                self._random.add(each.model_dump(mode="json") for each in scored)

    def _groups(
        self, wanted: Sequence[int], done: Container[int], advance: Advance
    ) -> Iterator[tuple[Sequence[int], list[int]]]:
        """Groups of the latents with those that are not done; after each the books are brought up to date.

        A group is the same whatever of it is done, so that a run that was stopped ends as one that was not.
        """
        for group in grouped(wanted, self._settings.together):
            missing = [latent for latent in group if latent not in done]
            if missing:
                yield group, missing
                self._account()
            advance(len(group))

    def _explained(self, chosen: Sequence[Chosen]) -> list[Explanation]:
        able = [each for each in chosen if each.explain]
        made = iter(self._ways.explainer.explain([each.explain for each in able]))
        found = []
        for each in chosen:
            if not each.explain:
                found.append(Explanation(latent=each.latent, explanation="", reason=each.reason))
                continue
            one = next(made)
            digests = self._prompts.add(each.latent, "explanation", one.prompts) if self._prompts else ()
            reason = "" if one.phrase else "no explanation could be read in the answer"
            found.append(Explanation(latent=each.latent, explanation=one.phrase or "", reason=reason, prompts=digests))
        return found

    def _compared(self, live: Sequence[int]) -> set[int]:
        """The latents that are also scored with the explanation of another one."""
        order = np.random.default_rng([self._settings.choice.seed, 1]).permutation(len(live))
        return {live[place] for place in order[: self._settings.baselines]}

    def _scored(
        self, chosen: Sequence[Chosen], known: Mapping[int, Explanation], others: Mapping[int, int], counts: Any
    ) -> list[Interpretation]:
        able = [each for each in chosen if each.score and known[each.latent].explanation]
        own = {each.latent: known[each.latent].explanation for each in able}
        other = {each.latent: known[others[each.latent]].explanation for each in able if each.latent in others}
        oracle = Oracle()
        knowing: dict[str, Judge] = {name: oracle for name in oracle.scorers if name in self._ways.judges}
        rounds = (
            judged(able, own, self._ways.judges, self._prompts, "score"),
            judged(able, other, self._ways.judges, self._prompts, "shuffled"),
            judged(able, own, knowing, None, "oracle"),
        )
        return [self._interpretation(each, known[each.latent], rounds, others, counts) for each in chosen]

    def _interpretation(
        self,
        chosen: Chosen,
        explanation: Explanation,
        rounds: tuple[Round, Round, Round],
        others: Mapping[int, int],
        counts: Any,
    ) -> Interpretation:
        latent = chosen.latent
        own, shuffled, oracle = (each.scores.get(latent, {}) for each in rounds)
        asked = tuple(digest for each in rounds for digest in each.prompts.get(latent, ()))
        return Interpretation(
            latent=latent,
            explanation=explanation.explanation,
            reason=explanation.reason or chosen.reason,
            scores=own,
            shuffled=shuffled,
            shuffled_from=others.get(latent) if shuffled else None,
            oracle=oracle,
            explainer=self._settings.explainer,
            judges=self._settings.judges,
            events=int(counts[latent]),
            explained_from=tuple(f"{each.sample}:{each.position}" for each in chosen.explain),
            scored_on=tuple(f"{each.sample}:{each.position}" for each in chosen.score),
            prompts=explanation.prompts + asked,
            seed=self._settings.choice.seed,
        )


def _others(group: Sequence[int], known: Mapping[int, Explanation], compared: Container[int]) -> dict[int, int]:
    """For those that are compared the next one of their group that has an explanation."""
    able = [latent for latent in group if latent in known and known[latent].explanation]
    following = zip(able, [*able[1:], *able[:1]], strict=True)
    return {latent: other for latent, other in following if latent in compared and other != latent}
