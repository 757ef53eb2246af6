"""Where metrics contradict one another: how alike they order the entrants, and inputs with two different winners."""

from collections.abc import Sequence
from itertools import combinations
from math import isnan
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from pellucid.benchmark.ranking import Judged, ranks_among
from pellucid.benchmark.results import Results
from pellucid.metrics.functional.agreement import kendall
from pellucid.report.leaderboard import Disagreement, TauMatrix

EXAMPLES = 6
"""Inputs that are shown."""
FEWEST = 3
"""Entrants below which two orders are not compared."""


def tau_matrix(found: Sequence[Judged]) -> TauMatrix:
    """Kendall's tau-b of the mean scores of the entrants that both metrics rank [kendall1945], better meaning higher.

    None where fewer than ``FEWEST`` are ranked by both, and where one of the metrics ties them all.
    """
    ranks = [dict(zip(each.entrants, ranks_among(each), strict=False)) for each in found]
    values = [[_tau(one, other) for other in ranks] for one in ranks]
    for place in range(len(found)):
        values[place][place] = 1.0
    return TauMatrix(tuple(each.metric for each in found), tuple(tuple(row) for row in values))


def _tau(first: dict[str, float], second: dict[str, float]) -> float | None:
    both = [name for name in first if name in second]
    if len(both) < FEWEST:
        return None
    tau = kendall(np.array([first[name] for name in both]), np.array([second[name] for name in both]))
    return None if isnan(tau) else tau


class _Example(NamedTuple):
    """An input on which each of two metrics prefers its own winner to that of the other."""

    strength: float
    """The smaller of the two leads, in standard deviations of the scores of an input."""
    case: int
    metrics: tuple[int, int]
    winners: tuple[str, str]


def disagreements(results: Results, found: Sequence[Judged]) -> tuple[Disagreement, ...]:
    """The clearest inputs with two winners: each of another input, and of another pair of families where there is one.

    Both metrics must prefer their winner to that of the other; the smaller of the two leads counts.
    """
    families = [str(results.entry(each.metric).facts.get("family", "")) for each in found]
    sizes = [_size(each) for each in found]
    examples = [
        example
        for one, other in combinations(range(len(found)), 2)
        if (example := _clearest(found, sizes, one, other)) is not None
    ]
    chosen: list[_Example] = []
    pairs: set[frozenset[str]] = set()
    for is_repeat in (False, True):
        for each in sorted(examples, key=lambda each: (-each.strength, each.metrics)):
            pair = frozenset(families[place] for place in each.metrics)
            if (
                len(chosen) < EXAMPLES
                and (pair in pairs) == is_repeat
                and each.case not in {old.case for old in chosen}
            ):
                chosen.append(each)
                pairs.add(pair)
    return _drawn(results, found, chosen)


def _size(found: Judged) -> float:
    """Standard deviation of the methods' scores of one input."""
    scores = found.scores[: found.ranked]
    return float(np.sqrt(scores.var(0).mean())) if scores.size else 0.0


def _clearest(found: Sequence[Judged], sizes: Sequence[float], one: int, other: int) -> _Example | None:
    """The input on which two metrics contradict each other the most; None where they do on none."""
    first, second = found[one], found[other]
    shared = set(second.entrants[: second.ranked])
    names = [name for name in first.entrants[: first.ranked] if name in shared]
    inputs = np.intersect1d(first.inputs, second.inputs)
    if len(names) < 2 or not len(inputs) or not sizes[one] or not sizes[other]:
        return None
    a, b = (_aligned(each, names, inputs) for each in (first, second))
    best_a, best_b, column = a.argmax(0), b.argmax(0), np.arange(len(inputs))
    leads = np.minimum(
        (a[best_a, column] - a[best_b, column]) / sizes[one], (b[best_b, column] - b[best_a, column]) / sizes[other]
    )
    place = int(leads.argmax())
    if not leads[place] > 0:
        return None
    winners = names[int(best_a[place])], names[int(best_b[place])]
    return _Example(float(leads[place]), int(inputs[place]), (one, other), winners)


def _aligned(found: Judged, names: Sequence[str], inputs: np.ndarray) -> Float[np.ndarray, "entrant input"]:
    """Scores of some entrants on some inputs, more being better."""
    rows = [found.entrants.index(name) for name in names]
    return found.sign * found.scores[rows][:, np.searchsorted(found.inputs, inputs)]


def _drawn(results: Results, found: Sequence[Judged], examples: Sequence[_Example]) -> tuple[Disagreement, ...]:
    """The examples with the attributions of both winners. Of inputs that may not be shown features are numbered."""
    cases = [results.cases[each.case] for each in examples]
    values = _attributions(results, cases, {name for each in examples for name in each.winners})
    texts = {row["case"]: row for row in results.table("cases").to_pylist() if row["case"] in cases}
    shown = []
    for each, case in zip(examples, cases, strict=True):
        first, second = (values.get((case, name)) for name in each.winners)
        if first is None or second is None or len(first) != len(second):
            continue
        labels = texts[case]["features"] if results.run.quotable else None
        if labels is None or len(labels) != len(first):
            labels = [str(number + 1) for number in range(len(first))]
        shown.append(
            Disagreement(
                case=case,
                text=(texts[case]["text"] or "") if results.run.quotable else "",
                first_metric=found[each.metrics[0]].metric,
                second_metric=found[each.metrics[1]].metric,
                first_winner=each.winners[0],
                second_winner=each.winners[1],
                features=tuple(labels),
                first_values=first,
                second_values=second,
            )
        )
    return tuple(shown)


def _attributions(results: Results, cases: Sequence[str], names: set[str]) -> dict[tuple[str, str], tuple[float, ...]]:
    """Scores by case and entrant, of the first seed, divided by the largest size."""
    table = results.table("attributions")
    wanted = pc.and_(
        pc.is_in(table["case"], pa.array(cases, pa.string())),
        pc.is_in(table["entrant"], pa.array(sorted(names), pa.string())),
    )
    found: dict[tuple[str, str], tuple[float, ...]] = {}
    for row in table.filter(wanted).sort_by("seed").to_pylist():
        values = np.array(row["values"], dtype=np.float64)
        largest = np.abs(values).max(initial=0.0) or 1.0
        found.setdefault((row["case"], row["entrant"]), tuple((values / largest).tolist()))
    return found
