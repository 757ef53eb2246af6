"""The gate that a metric must pass before any number of it is shown.

Twice: on a small network whose Shapley values are known exactly, and on the task's own reference rows. A metric that
cannot tell Shapley values from noise on these inputs says nothing about a method on them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from pellucid.benchmark.references import INVERTED, ORACLE, RANDOM
from pellucid.metrics import AbstractMetric, Finding
from pellucid.metrics.statistics import bootstrap, wilcoxon
from pellucid.metrics.validity import SIGNIFICANT
from pellucid.testing import metric_gate

FEWEST = 8
"""Independent inputs below which no test can reach the level: 2 / 2^8 is the smallest p-value of eight differences."""
DECIDED_BY_SHAPLEY = ("removal", "correlation")
"""Families whose question Shapley values answer; a rationale, or an axiom, is another."""


@cache
def promises_kept(metric: AbstractMetric) -> tuple[Finding, ...]:
    """Every promise of the metric's facts, tried where the truth is known."""
    return tuple(metric_gate().check(metric))


def on_the_task(metric: AbstractMetric, scores: Mapping[str, Float[np.ndarray, " cluster"]]) -> list[Finding]:
    """Whether the oracle beats random and random the inverted oracle on these inputs, and random is centred at 0.

    ``scores``: of each reference row the mean of each cluster, on the same clusters, random draws averaged. Empty for
    metrics that ask another question, and where there are too few inputs for a test.
    """
    facts = metric.facts
    rows = (ORACLE, RANDOM, f"{INVERTED}{ORACLE}")
    if (
        facts.family not in DECIDED_BY_SHAPLEY
        or facts.higher_is_better is None
        or any(each not in scores for each in rows)
    ):
        return []
    best, random, worst = (scores[each] for each in rows)
    if len(best) < FEWEST:
        return []
    sign = 1 if facts.higher_is_better else -1
    found = [_better("the oracle beats random on this task", sign * best, sign * random)]
    if facts.signed:
        found.append(_better("random beats the inverted oracle on this task", sign * random, sign * worst))
    if facts.centred:
        interval = bootstrap(random, level=0.999)
        detail = f"mean {interval.mean:.3g}, {interval.low:.3g} to {interval.high:.3g}."
        found.append(Finding("random is centred at 0 on this task", interval.low <= 0 <= interval.high, detail))
    return found


def _better(name: str, first: Float[np.ndarray, " cluster"], second: Float[np.ndarray, " cluster"]) -> Finding:
    p, difference = wilcoxon(first, second).p_value, float((first - second).mean())
    passed = difference > 0 and p < SIGNIFICANT
    return Finding(name, passed, f"mean difference {difference:.3g}, p = {p:.1e}, to be below {SIGNIFICANT}.")


def by_cluster(rows: Sequence[tuple[str, str, float | None]]) -> dict[str, Float[np.ndarray, " cluster"]]:
    """The mean score of each cluster for each reference row, on the clusters that all of them have a score of.

    rows: reference row, cluster and score of every input and draw.
    """
    sums: dict[str, dict[str, list[float]]] = {}
    for name, cluster, score in rows:
        if score is not None:
            sums.setdefault(name, {}).setdefault(cluster, []).append(score)
    shared = sorted(set.intersection(*(set(each) for each in sums.values()))) if sums else []
    return {name: np.array([np.mean(each[cluster]) for cluster in shared]) for name, each in sums.items()}


def findings(found: Sequence[Finding]) -> list[list[Any]]:
    """As they stand in a manifest."""
    return [[each.name, bool(each.passed), each.detail] for each in found]
