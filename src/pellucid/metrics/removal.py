"""Faithfulness by removal: what the target does as features go in the order of their scores.

Scores of two imputers, of two units or of two scales are different metrics: all three are part of the name.
"""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.facts import MetricFacts
from pellucid.games import Coalitions
from pellucid.metrics.base import AbstractGameMetric, Scale
from pellucid.metrics.functional import removal

Steps = Annotated[int, Field(ge=1)]
NO_BOUND = (-math.inf, math.inf)


class _Removal(AbstractGameMetric):
    """A metric whose best and worst value differ from model to model [edin2025]."""

    @property
    def compares_models(self) -> bool:
        return False


class _Curve(_Removal):
    """A metric over one curve from the whole input to the empty one, or back."""

    steps: Steps = 20
    """Points of the curve beside its start."""

    def rows(self, players: int) -> int:
        return min(players, self.steps) + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        sizes = removal.steps_of(len(values), self.steps)
        return self.curve(removal.order(values, seed), sizes)

    @abstractmethod
    def curve(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        """The coalitions along the curve, given the features from the highest score down."""

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        sizes = removal.steps_of(len(values), self.steps)
        return removal.area(outcomes, sizes / len(values))


@final
class Morf(_Curve):
    """Area under the curve as the most relevant features are removed first [bach2015; samek2017]. Low is good."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="morf",
        title="Most relevant first (pixel flipping)",
        family="removal",
        higher_is_better=False,
        range=NO_BOUND,
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="steps + 1",
        source="Bach et al. 2015; Samek et al. 2017",
    )

    def curve(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        return removal.removed(order, sizes)


@final
class Lerf(_Curve):
    """Area under the curve as the least relevant features are removed first [samek2017]. High is good."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="lerf",
        title="Least relevant first",
        family="removal",
        higher_is_better=True,
        range=NO_BOUND,
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="steps + 1",
        source="Samek et al. 2017",
    )

    def curve(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        return removal.removed(order[::-1], sizes)


@final
class Srg(_Removal):
    """Symmetric relevance gain, area(LeRF) - area(MoRF) [blucher2024]. High is good, 0 is chance.

    The best default: it depends on the imputer less than either curve, and the inverted attribution gets exactly the
    negated score.
    """

    steps: Steps = 20
    """Points of each curve beside its start."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="srg",
        title="Symmetric relevance gain",
        family="removal",
        higher_is_better=True,
        range=NO_BOUND,
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="0",
        centred=True,
        cost="2 steps",
        source="Blücher et al. 2024",
    )

    def rows(self, players: int) -> int:
        # Both curves begin at the whole input and end at the empty one.
        return 2 * min(players, self.steps)

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        order, sizes = removal.order(values, seed), removal.steps_of(len(values), self.steps)
        return np.concatenate([removal.removed(order[::-1], sizes), removal.removed(order, sizes)])

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        sizes = removal.steps_of(len(values), self.steps)
        lerf, morf = np.split(outcomes, 2)
        return removal.srg(lerf, morf, sizes / len(values))


class _Bins(_Removal):
    """A metric over the bins of ERASER. The first coalition is the whole input."""

    scale: Scale = "probability"
    """ERASER reads the probability of the predicted class."""
    bins: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = removal.BINS
    """Shares of the features that are taken."""

    def rows(self, players: int) -> int:
        return len(self.bins) + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        order, sizes = removal.order(values, seed), removal.bin_sizes(len(values), self.bins)
        return np.concatenate([np.ones((1, len(values)), dtype=bool), self.taken(order, sizes)])

    def taken(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        """The coalition of each bin."""
        return removal.removed(order, sizes)


@final
class Comprehensiveness(_Bins):
    """What is lost without the top features, mean over bins [deyoung2020, eq. 1]. High is good."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="comprehensiveness",
        title="Comprehensiveness (AOPC over bins)",
        family="removal",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="bins + 1",
        source="DeYoung et al. 2020, eq. 1 and 3",
    )

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return removal.comprehensiveness(float(outcomes[0]), outcomes[1:])


@final
class Sufficiency(_Bins):
    """What is lost with the top features alone, mean over bins [deyoung2020, eq. 2]. Low is good."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="sufficiency",
        title="Sufficiency (AOPC over bins)",
        family="removal",
        higher_is_better=False,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="bins + 1",
        source="DeYoung et al. 2020, eq. 2 and 3",
    )

    def taken(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        return removal.inserted(order, sizes)

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return removal.sufficiency(float(outcomes[0]), outcomes[1:])


@final
class LogOdds(_Bins):
    """Change of the log-probability without the top features, mean over bins [shrikumar2017]. Low is good."""

    scale: Literal["log-probability"] = "log-probability"
    """It is made of log-probabilities."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="log_odds",
        title="Log-odds",
        family="removal",
        higher_is_better=False,
        range=(removal.RARE, -removal.RARE),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="bins + 1",
        source="Shrikumar et al. 2017, section 4.1",
    )

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return removal.log_odds(float(outcomes[0]), outcomes[1:])


@final
class Deletion(_Curve):
    """Area under the probability as the top features are removed [petsiuk2018]. Low is good."""

    scale: Scale = "probability"
    """The paper reads the probability of the class."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="deletion",
        title="Deletion",
        family="removal",
        higher_is_better=False,
        range=(0.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="steps + 1",
        source="Petsiuk et al. 2018, section 3.3",
    )

    def curve(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        return removal.removed(order, sizes)


@final
class Insertion(_Curve):
    """Area under the probability as the top features are put into an empty input [petsiuk2018]. High is good."""

    scale: Scale = "probability"
    """The paper reads the probability of the class."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="insertion",
        title="Insertion",
        family="removal",
        higher_is_better=True,
        range=(0.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="steps + 1",
        source="Petsiuk et al. 2018, section 3.3",
    )

    def curve(self, order: np.ndarray, sizes: np.ndarray) -> Coalitions:
        return removal.inserted(order, sizes)


@final
class Aopc(_Removal):
    """Area over the perturbation curve, 1/(L + 1) sum of f(x0) - f(xk) over k = 0 .. L [samek2017]. High is good.

    How large it can get differs from model to model, so that two models are compared only by ``naopc`` [edin2025].
    """

    steps: Steps | None = None
    """L, the features that are removed one by one; None: all."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="aopc",
        title="Area over the perturbation curve",
        family="removal",
        higher_is_better=True,
        range=NO_BOUND,
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="a random order's",
        cost="L + 1",
        source="Samek et al. 2017",
    )

    def rows(self, players: int) -> int:
        return (players if self.steps is None else min(players, self.steps)) + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        return removal.removed(removal.order(values, seed), np.arange(self.rows(len(values))))

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return removal.aopc(outcomes)
