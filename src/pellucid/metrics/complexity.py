"""On how few features an attribution stands. A control beside other metrics, never a quality."""

from typing import ClassVar, final

from pellucid.facts import MetricFacts
from pellucid.metrics.base import AbstractMetric, Example
from pellucid.metrics.functional import complexity


@final
class Sparseness(AbstractMetric):
    """Gini index of the scores' sizes [chalasani2020]: 0 for equal ones, nearly 1 for a single one."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="sparseness",
        title="Sparseness (Gini index)",
        family="complexity",
        higher_is_better=None,
        range=(0.0, 1.0),
        signed=False,
        scale_invariant=True,
        chance="about 0.4 for normal noise",
        cost="0",
        source="Chalasani et al. 2020",
    )

    def rows(self, players: int) -> int:
        return 0

    def score(self, example: Example) -> float:
        return complexity.sparseness(example.values)


@final
class Complexity(AbstractMetric):
    """Entropy of the scores' sizes over its largest value [bhatt2020]: 1 for equal ones, 0 for a single one."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="complexity",
        title="Complexity (normalised entropy)",
        family="complexity",
        higher_is_better=None,
        range=(0.0, 1.0),
        signed=False,
        scale_invariant=True,
        chance="near 1",
        cost="0",
        source="Bhatt et al. 2020, def. 5",
    )

    def rows(self, players: int) -> int:
        return 0

    def score(self, example: Example) -> float:
        return complexity.complexity(example.values)
