"""Faithfulness feature by feature: does the target follow the scores as single features come or go?"""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.facts import MetricFacts
from pellucid.games import Coalitions
from pellucid.metrics.base import AbstractGameMetric
from pellucid.metrics.functional import monotonicity, removal


@final
class Monotonicity(AbstractGameMetric):
    """Whether features add the more the higher they score, as they come to an empty input, lowest first [arya2019].

    Spearman's correlation of scores and gains; high is good. The paper asks whether the target rises at every step
    (``reading="share"`` is 1 then): that is nearly never so, or in any order where every feature speaks for the target.
    NaN for fewer than three steps, equal scores or equal gains.
    """

    reading: monotonicity.Reading = "gain"
    """What is judged: the order of the gains, that of the target's values, or the share of steps without a fall."""
    steps: Annotated[int, Field(ge=3)] | None = None
    """Steps in which the features come, a group each; None: one by one."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="monotonicity",
        title="Monotonicity (rank correlation)",
        family="correlation",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's: below 0 where the target saturates",
        cost="n + 1",
        source="Arya et al. 2019; with gains instead of values",
    )

    def rows(self, players: int) -> int:
        return (players if self.steps is None else min(players, self.steps)) + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        players = len(values)
        sizes = removal.steps_of(players, self.steps or players)
        return removal.inserted(removal.order(values, seed)[::-1], sizes)

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return monotonicity.monotonicity(values, masks, outcomes, self.reading)


class _OneByOne(AbstractGameMetric):
    """A metric over the removal of each feature alone."""

    def rows(self, players: int) -> int:
        return players + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        players = len(values)
        return np.concatenate([np.ones((1, players), dtype=bool), ~np.eye(players, dtype=bool)])


@final
class MonotonicityCorrelation(_OneByOne):
    """Rank correlation of |a_i| with (f(x) - f(x without i))^2 [nguyen2020]. High is good.

    Sizes alone count, so that an explanation and its negation get the same. Where what stands for a feature is drawn,
    the game takes the mean of f before the square is taken, and the paper after. Attributing what each feature's
    removal costs, as occlusion does, scores 1: a reference row.
    """

    sign: Literal["absolute"] = "absolute"
    """It is made of sizes."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="monotonicity_correlation",
        title="Monotonicity correlation",
        family="correlation",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=False,
        scale_invariant=True,
        needs=("game",),
        chance="0; occlusion with the same imputer gets 1, being its target",
        centred=True,
        cost="n + 1",
        source="Nguyen & Martinez 2020",
    )

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return monotonicity.monotonicity_correlation(values, outcomes[0] - outcomes[1:])


@final
class FaithfulnessEstimate(_OneByOne):
    """Correlation of a_i with f(x) - f(x without i) [alvarezmelis2018senn]. High is good.

    Its target is what occlusion attributes: read occlusion's 1 as a reference row, and the metric as how close a method
    is to occlusion, which sees no redundancy. NaN for fewer than three features, equal scores or equal drops.
    """

    ranks: bool = False
    """Whether ranks are correlated (Spearman) instead of values (Pearson)."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="faithfulness_estimate",
        title="Faithfulness estimate (single deletion)",
        family="correlation",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="0; occlusion with the same imputer gets 1, being its target",
        centred=True,
        cost="n + 1",
        source="Alvarez-Melis & Jaakkola 2018, self-explaining networks",
    )

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return monotonicity.faithfulness_estimate(values, outcomes[0] - outcomes[1:], self.ranks)
