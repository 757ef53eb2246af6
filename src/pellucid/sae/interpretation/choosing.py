"""Which examples explain a latent and which score its explanation: of different documents, negatives truly silent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from pellucid.records import Record
from pellucid.sae.interpretation.examples import Example
from pellucid.sae.interpretation.near import Near
from pellucid.sae.interpretation.places import Places
from pellucid.sae.interpretation.sources import Events, Store
from pellucid.sae.interpretation.windows import Activity, Windows, quantile_of

LEAST = 3
"""Fewer examples of a kind than this give no score."""
TRIES = 12
"""Places that are looked at for each example that is wanted; then the corpus counts as having no more."""
Side = Literal["explain", "score"]
Silent = Literal["neighbour", "same token", "random"]


class Choice(Record):
    """How examples are chosen."""

    radius: Annotated[int, Field(ge=0, le=512)] = 16
    """Tokens on each side of the active one."""
    explain: Annotated[int, Field(ge=1, le=200)] = 16
    """Examples that an explanation is made from: half the strongest, half from all parts of the activations."""
    score: Annotated[int, Field(ge=LEAST, le=1000)] = 20
    """Examples with the latent that score it, from all parts evenly; as many without it beside them."""
    quantiles: Annotated[int, Field(ge=1, le=100)] = 10
    """Parts that the events are divided into by activation."""
    same_token: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the examples without the latent that stand at a word on which it is active elsewhere."""
    neighbour: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of them at which a latent with a similar direction is active. The rest is random."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of every draw."""

    @model_validator(mode="after")
    def _shares(self) -> "Choice":
        if self.same_token + self.neighbour > 1:
            raise ValueError("same_token and neighbour are shares of one whole, so their sum is at most 1")
        return self


class Chosen(NamedTuple):
    """The examples of one latent."""

    latent: int
    """Its number."""
    explain: tuple[Example, ...]
    """For the explanation, all with the latent."""
    score: tuple[Example, ...]
    """For the scores, with and without it, in random order; none where it cannot be scored."""
    reason: str
    """Why it cannot be scored; empty where it can."""


@dataclass
class _Used:
    """Which documents and stretches of the corpus are taken."""

    sides: dict[str, Side] = field(default_factory=dict)
    """Of each document."""
    stretches: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each sample, first position and one past the last."""

    def admits(self, side: Side, document: str) -> bool:
        """Whether a document is of that side, or of none yet."""
        return self.sides.get(document, side) == side

    def take(self, side: Side, example: Example) -> bool:
        """Whether a window can be had for one side; if so, it and its document are taken."""
        taken = self.stretches.setdefault(example.sample, [])
        overlaps = any(example.start < end and start < example.end for start, end in taken)
        if overlaps or not self.admits(side, example.document):
            return False
        self.sides[example.document] = side
        taken.append((example.start, example.end))
        return True


@dataclass
class _Draw:
    """Examples with the latent that are wanted for one side."""

    side: Side
    order: Iterator[int]
    """Events, in the order in which they are tried."""
    wanted: int
    found: list[Example] = field(default_factory=list)


class Chooser:
    """Chooses the examples of any latent. The memory holds one latent's events and a few samples.

    Args:
        events: the event store.
        store: the corpus behind it.
        places: tokens drawn from the corpus.
        choice: how.
        directions: the decoder's rows [latent, d_in], for neighbours; None: there are none.
    """

    def __init__(
        self,
        events: Events,
        store: Store,
        places: Places,
        choice: Choice,
        directions: Float[Tensor, "latent dim"] | None = None,
    ) -> None:
        self._events, self._choice = events, choice
        self._windows = Windows(store, choice.radius)
        self._near = Near(events, self._windows, places, directions)

    def choose(self, latent: int) -> Chosen:
        """The examples of a latent; the same seed gives the same ones, whichever others are asked for."""
        activity = Activity(self._events, latent)
        if not len(activity):
            return Chosen(latent, (), (), "it is active nowhere in this corpus")
        generator, used = np.random.default_rng([self._choice.seed, latent]), _Used()
        explain, positives = self._positives(activity, used, generator)
        if len(positives) < LEAST:
            reason = f"only {len(positives)} examples of documents apart from those of the explanation were found"
            return Chosen(latent, tuple(explain), (), f"{reason}, and a score needs {LEAST}")
        negatives = self._negatives(activity, used, generator, positives)
        if len(negatives) < LEAST:
            reason = f"only {len(negatives)} windows without it were found, and a score needs {LEAST}"
            return Chosen(latent, tuple(explain), (), reason)
        score = [*positives, *negatives]
        order = generator.permutation(len(score))
        return Chosen(latent, tuple(explain), tuple(score[number] for number in order), "")

    def _positives(
        self, activity: Activity, used: _Used, generator: np.random.Generator
    ) -> tuple[list[Example], list[Example]]:
        """Examples with the latent, drawn by turns, so that a few documents are shared out between both sides."""
        choice = self._choice
        parts = quantile_of(activity.values, choice.quantiles)
        strong, typical = choice.explain - choice.explain // 2, choice.explain // 2
        draws = [
            _Draw("explain", islice(_strongest(activity.values), TRIES * strong), strong),
            _Draw("score", islice(_by_turns(parts, generator), TRIES * choice.score), choice.score),
            _Draw("explain", islice(_by_turns(parts, generator), TRIES * typical), typical),
        ]
        open_draws = draws
        while open_draws:
            open_draws = [each for each in open_draws if self._one_more(each, activity, used, parts)]
        return draws[0].found + draws[2].found, draws[1].found

    def _one_more(self, draw: _Draw, activity: Activity, used: _Used, parts: Int[np.ndarray, " event"]) -> bool:
        """Add an example to a draw; False where it has all that it wants, or there is none any more."""
        if len(draw.found) >= draw.wanted:
            return False
        for event in draw.order:
            place = int(activity.samples[event]), int(activity.positions[event])
            if not used.admits(draw.side, self._windows.documents(place[0])):
                continue
            example = self._windows.example(activity, *place, "active", int(parts[event]))
            if used.take(draw.side, example):
                draw.found.append(example)
                return True
        return False

    def _negatives(
        self, activity: Activity, used: _Used, generator: np.random.Generator, positives: list[Example]
    ) -> list[Example]:
        """As many examples without the latent; what near misses cannot be found for is random."""
        count, found = len(positives), list[Example]()
        near = round(self._choice.neighbour * count), round(self._choice.same_token * count)
        pictured = sum(example.on_picture for example in positives) * 2 > count
        kinds: tuple[tuple[Silent, int, Iterator[tuple[int, int]]], ...] = (
            ("neighbour", near[0], self._near.neighbours(activity.latent, generator)),
            ("same token", near[1], self._near.same_tokens(positives, generator)),
            ("random", count, self._near.anywhere(pictured, generator)),
        )
        for kind, most, places in kinds:
            most = min(most, count - len(found))
            found += self._silent(activity, used, kind, most, places)
        return found

    def _silent(
        self,
        activity: Activity,
        used: _Used,
        kind: Silent,
        most: int,
        places: Iterable[tuple[int, int]],
    ) -> list[Example]:
        """Up to ``most`` windows in which the latent is active nowhere."""
        found: list[Example] = []
        for sample, position in islice(places, TRIES * most):
            if len(found) == most:
                break
            fits = used.admits("score", self._windows.documents(sample))
            if fits and self._windows.is_clear(activity, sample, position):
                example = self._windows.example(activity, sample, position, kind)
                if used.take("score", example):
                    found.append(example)
        return found


def _strongest(values: Float[np.ndarray, " event"]) -> Iterator[int]:
    return (int(event) for event in np.argsort(-values, kind="stable"))


def _by_turns(parts: Int[np.ndarray, " event"], generator: np.random.Generator) -> Iterator[int]:
    """Random events, one of each part by turns, so that any number of them is spread over all parts."""
    shuffled = generator.permutation(len(parts))
    shuffled = shuffled[np.argsort(parts[shuffled], kind="stable")]
    rank = np.arange(len(parts)) - np.searchsorted(parts[shuffled], parts[shuffled], "left")
    return (int(event) for event in shuffled[np.argsort(rank, kind="stable")])
