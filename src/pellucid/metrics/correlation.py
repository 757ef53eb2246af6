"""Faithfulness as agreement with what the removal, whole or in part, of random features costs."""

import math
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from pellucid.facts import MetricFacts
from pellucid.games import Coalitions, Path, Question
from pellucid.metrics.base import AbstractGameMetric, AbstractMetric, Example
from pellucid.metrics.functional import correlation
from pellucid.metrics.functional.inputs import Sign, pooled
from pellucid.metrics.graded import graded_baseline

Count = Annotated[int, Field(ge=3)]
Share = Annotated[float, Field(gt=0, le=1)]


def _size(players: int, share: float) -> int:
    return min(players, max(1, round(share * players)))


@final
class FaithfulnessCorrelation(AbstractGameMetric):
    """Correlation over random subsets S of the sum of scores in S and f(x) - f(x without S) [bhatt2020]. High is good.

    Its noise is about 1/sqrt(subsets). NaN where it is undefined: equal scores, or a target that does not move.
    """

    subsets: Count = 100
    """Subsets drawn."""
    share: Share = 0.2
    """Share of the features in each."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="faithfulness_correlation",
        title="Faithfulness correlation",
        family="correlation",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="0",
        centred=True,
        cost="subsets + 1",
        source="Bhatt et al. 2020, def. 3",
    )

    def rows(self, players: int) -> int:
        return self.subsets + 1

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        players = len(values)
        members = correlation.subsets(players, _size(players, self.share), self.subsets, seed)
        return np.concatenate([np.ones((1, players), dtype=bool), ~members])

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        return correlation.faithfulness_correlation(values, ~masks[1:], outcomes[0] - outcomes[1:])


@final
class SensitivityN(AbstractGameMetric):
    """The same correlation at several sizes of the subsets, and its mean over them [ancona2018]. High is good.

    ``curve`` gives the correlation at each size. Sizes at which it is undefined are left out of the mean.
    """

    subsets: Count = 50
    """Subsets drawn of each size."""
    sizes: Annotated[int, Field(ge=1)] = 5
    """Sizes, evenly from one feature to all but one."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="sensitivity_n",
        title="Sensitivity-n (mean over n)",
        family="correlation",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("game",),
        chance="0",
        centred=True,
        cost="sizes * subsets + 1",
        source="Ancona et al. 2018, section 4",
    )

    def rows(self, players: int) -> int:
        return len(self._sizes(players)) * self.subsets + 1

    def _sizes(self, players: int) -> list[int]:
        most = max(1, players - 1)
        return [int(size) for size in np.unique(np.linspace(1, most, min(self.sizes, most)).round())]

    def masks(self, values: Float[np.ndarray, " player"], seed: int) -> Coalitions:
        players = len(values)
        members = correlation.subsets_by_size(players, self._sizes(players), self.subsets, seed)
        return np.concatenate([np.ones((1, players), dtype=bool), ~members.reshape(-1, players)])

    def curve(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> Float[np.ndarray, " size"]:
        """The correlation at each size, NaN where it is undefined."""
        count = len(self._sizes(len(values)))
        members = ~masks[1:].reshape(count, self.subsets, -1)
        return correlation.sensitivity_n(values, members, (outcomes[0] - outcomes[1:]).reshape(count, -1))

    def reduce(
        self, values: Float[np.ndarray, " player"], masks: Coalitions, outcomes: Float[np.ndarray, " coalition"]
    ) -> float:
        curve = self.curve(values, masks, outcomes)
        known = curve[~np.isnan(curve)]
        return float(known.mean()) if len(known) else math.nan


@final
class Infidelity(AbstractMetric):
    """Mean of (I a - (f(x) - f(x - I)))^2 over random perturbations I [yeh2019, def. 2.1]. Low is good.

    I takes a share of each feature's presence away, uniform in [0, 1], on the straight line from the baseline to the
    input in the network's own embeddings. The baseline is what the imputer puts there; one that cannot be reached by
    degrees, such as deletion, is refused. Scores are contributions, in the unit of the target, so that
    I a is what they predict. Without ``optimal_scale`` it depends on the scale of the scores, as the paper has it.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive."""
    draws: Count = 64
    """Perturbations drawn."""
    baseline: str | None = None
    """What stands for an absent position; None: what the imputer puts there."""
    optimal_scale: bool = False
    """First multiply the scores by the factor that makes them fit best, for methods that promise only a ranking."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="infidelity",
        title="Infidelity",
        family="correlation",
        higher_is_better=False,
        range=(0.0, math.inf),
        signed=True,
        scale_invariant=False,
        chance="that of noise as large",
        cost="draws + 1",
        source="Yeh et al. 2019, def. 2.1",
    )

    def rows(self, players: int) -> int:
        return self.draws + 1

    def conditions(self, question: Question) -> tuple[str, ...]:
        return (f"graded to {graded_baseline(self, question, self.baseline)}", question.unit, question.target.unit)

    def score(self, example: Example) -> float:
        values = pooled(example.values, self.sign)
        path = Path(example.question, graded_baseline(self, example.question, self.baseline))
        generator = torch.Generator().manual_seed(example.seed)
        taken = torch.rand((self.draws, path.players), generator=generator)
        place = path.owner.cpu().clamp(min=0)
        full = path.value(path.input[None]).sum(1)
        found = []
        for part in path.chunks(self.draws):
            presence = (1 - taken[part])[:, place, None].to(path.input)
            points = path.baseline + presence * (path.input - path.baseline)
            found.append((full - path.value(points).sum(1)).cpu())
        drops = torch.cat(found).double().numpy()
        return correlation.infidelity(values, taken.double().numpy(), drops, self.optimal_scale)
