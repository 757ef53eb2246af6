"""Axioms: what a sound attribution promises, and by how much this one misses it. 0 is good in all of them."""

import math
from typing import Annotated, ClassVar, final

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from pellucid.facts import MetricFacts
from pellucid.games import Coalitions
from pellucid.metrics.base import AbstractFaithfulness, AbstractGameMetric, Example, outcomes
from pellucid.metrics.functional import axioms
from pellucid.metrics.functional.inputs import pooled

SAME = 1e-6
"""Two values of the target are the same if they differ by no more than this share of the largest one."""
Contexts = Annotated[int, Field(ge=1)]


@final
class Completeness(AbstractGameMetric):
    """|sum of scores - (f(x) - f(b))| / |f(x) - f(b)| [sundararajan2017]; b is the empty input of the game.

    A method with a baseline of its own promises its own f(b); its free check measures that.
    """

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="completeness",
        title="Completeness error",
        family="axioms",
        higher_is_better=False,
        range=(0.0, math.inf),
        signed=True,
        scale_invariant=False,
        needs=("game",),
        chance="about 1 or more",
        cost="2",
        source="Sundararajan et al. 2017, proposition 1",
    )

    def rows(self, players: int) -> int:
        return 2

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        return np.array([[True] * len(values), [False] * len(values)])

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return axioms.completeness(values, float(outcomes[0]), float(outcomes[1]))


def contexts_of(players: int, count: int, seed: int) -> Bool[np.ndarray, "context player"]:
    """Coalitions in which features are looked at: the whole input, the empty one, and ``count`` - 2 random ones."""
    drawn = np.random.default_rng(seed).random((max(0, count - 2), players)) < 0.5
    return np.concatenate([np.ones((1, players), bool), np.zeros((1, players), bool), drawn])[:count]


def _is_same(differences: Float[np.ndarray, "..."], outcomes: Float[np.ndarray, "..."]) -> np.ndarray:
    return np.asarray(np.abs(differences) <= SAME * np.abs(outcomes).max())


@final
class Dummy(AbstractGameMetric):
    """Largest |score| of a feature that changes nothing, over the largest of all [sundararajan2017].

    A feature counts as a dummy if the target stays the same with and without it in every context that is tried; more
    contexts can only find that it is none. NaN where every feature changes something.
    """

    contexts: Contexts = 8
    """Coalitions that each feature is taken out of: the whole input, the empty one, random ones."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="dummy",
        title="Dummy axiom (non-sensitivity)",
        family="axioms",
        higher_is_better=False,
        range=(0.0, 1.0),
        signed=False,
        scale_invariant=True,
        needs=("game",),
        chance="above 0, less with more features",
        cost="contexts (n + 1)",
        source="Sundararajan et al. 2017, section 3; Nguyen and Martinez 2020",
    )

    def rows(self, players: int) -> int:
        return self.contexts * (players + 1)

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        contexts = contexts_of(len(values), self.contexts, seed)
        flipped = contexts[:, None, :] ^ np.eye(len(values), dtype=bool)
        return np.concatenate([contexts, flipped.reshape(-1, len(values))])

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        plain, flipped = outcomes[: self.contexts], outcomes[self.contexts :].reshape(self.contexts, -1)
        return axioms.dummy(values, np.all(_is_same(flipped - plain[:, None], outcomes), axis=0))


@final
class Symmetry(AbstractFaithfulness):
    """Largest difference of the scores of two interchangeable features, over the largest score [shapley1953].

    Two features count as interchangeable if the target stays the same when one stands in for the other, in every
    context that is tried: alone, missing from the whole, and in random coalitions. NaN where there are none.
    """

    contexts: Contexts = 8
    """Random coalitions that each pair is tried in."""
    most_pairs: Annotated[int, Field(ge=1)] = 64
    """Pairs that are tried in them, drawn among those that are alike alone and missing."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="symmetry",
        title="Symmetry axiom",
        family="axioms",
        higher_is_better=False,
        range=(0.0, 2.0),
        signed=False,
        scale_invariant=True,
        needs=("game",),
        chance="above 0, less with more features",
        cost="2 n + 2 contexts pairs",
        source="Shapley 1953, axiom 1; Sundararajan et al. 2017, section 3",
    )

    def rows(self, players: int) -> int:
        return 2 * players + 2 * self.contexts * min(self.most_pairs, players * (players - 1) // 2)

    def score(self, example: Example) -> float:
        values = pooled(example.values, self.sign)
        players, question = len(values), example.question
        single = np.eye(players, dtype=bool)
        found = outcomes(question, np.concatenate([single, ~single]), self.scale)
        alone, missing = np.split(found, 2)
        alike = _is_same(alone[:, None] - alone, found) & _is_same(missing[:, None] - missing, found)
        pairs = np.argwhere(np.triu(alike, 1))
        generator = np.random.default_rng(example.seed)
        pairs = generator.permutation(pairs)[: self.most_pairs]
        if not len(pairs):
            return math.nan
        # In each context exactly one of the two is there, and then the other.
        contexts = generator.random((self.contexts, len(pairs), 1, players)) < 0.5
        masks = np.repeat(contexts, 2, axis=2)
        pair = np.arange(len(pairs))
        for here, there, side in ((0, 1, 0), (1, 0, 1)):
            masks[:, pair, side, pairs[:, here]] = True
            masks[:, pair, side, pairs[:, there]] = False
        swapped = outcomes(question, masks.reshape(-1, players), self.scale).reshape(self.contexts, len(pairs), 2)
        interchangeable = _is_same(swapped[:, :, 0] - swapped[:, :, 1], swapped).all(0)
        return axioms.symmetry(values, pairs[interchangeable])
