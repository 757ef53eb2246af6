"""Quality against rows: the methods that draw, at several budgets, all on the same inputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from pellucid.benchmark.ranking import DRAWS, MOST_MISSING
from pellucid.benchmark.results import Results
from pellucid.metrics.statistics import bootstrap
from pellucid.report.leaderboard import CurvePoint


class _Drawn(NamedTuple):
    """One entrant at its budgets, from the smallest."""

    entrant: str
    rows: Float[np.ndarray, "budget case"]
    """Rows of the network; NaN on inputs that lack one of the budgets."""
    scores: Float[np.ndarray, "budget case"]
    """Means over seeds."""


def curves(results: Results, valid: Sequence[str]) -> tuple[str, tuple[CurvePoint, ...]]:
    """The metric and the points of the first valid metric that has any; ("", ()) where there is none.

    The largest number of budgets that an entrant was run with on some input counts. An input on which one of them is
    missing is left out for everybody; an entrant that lacks more than ``MOST_MISSING`` of the inputs is left out
    instead.
    """
    table = results.table("curves")
    metric = next((each for each in valid if each in set(table["metric"].unique().to_pylist())), None)
    if metric is None:
        return "", ()
    table = table.filter(pc.equal(table["metric"], metric))
    drawn = [_drawn(results, table, name) for name in results.entrants]
    costs = results.table("costs")
    lines = [_with_main_run(results, metric, costs, each) for each in drawn if each is not None]
    # Curves may have been drawn on some of the inputs only.
    tried = np.array([np.isfinite(each.scores).all(0) for each in lines])
    tried = tried[:, tried.any(0)]
    kept = [line for line, known in zip(lines, tried, strict=True) if 1 - known.mean() <= MOST_MISSING]
    if not kept:
        return "", ()
    shared = np.flatnonzero(np.array([np.isfinite(each.scores).all(0) for each in kept]).all(0))
    if len(set(results.clusters[shared].tolist())) < 2:
        return "", ()
    return metric, tuple(point for each in kept for point in _points(each, shared, results.clusters[shared]))


def _drawn(results: Results, table: Any, entrant: str) -> _Drawn | None:
    """The budgets of one entrant; None where it has none.

    What a budget costs differs from input to input, so budgets are told by their order.
    """
    mine = table.filter(pc.equal(table["entrant"], entrant))
    if not mine.num_rows:
        return None
    case = pc.index_in(mine["case"], pa.array(results.cases, pa.string())).to_numpy()
    seeds, seed = np.unique(mine["seed"].to_numpy(), return_inverse=True)
    rows = mine["rows"].to_numpy()
    scores = pc.fill_null(mine["score"], np.nan).to_numpy()
    order = np.lexsort((rows, seed, case))
    case, seed, rows, scores = case[order], seed[order], rows[order], scores[order]
    group = case * len(seeds) + seed
    level = np.arange(len(group)) - np.searchsorted(group, group)
    shape = (int(level.max()) + 1, len(seeds), len(results.cases))
    spent, quality = np.full(shape, np.nan), np.full(shape, np.nan)
    spent[level, seed, case], quality[level, seed, case] = rows, scores
    return _Drawn(entrant, spent.mean(1), quality.mean(1))


def _with_main_run(results: Results, metric: str, costs: Any, line: _Drawn) -> _Drawn:
    """The same with the budget that the entrant was ranked with, where that is another one."""
    entrant = results.entrants.index(line.entrant)
    scores = results.scores[results.metrics.index(metric), entrant, 0] if metric in results.metrics else None
    costs = costs.filter(pc.and_(pc.equal(costs["entrant"], line.entrant), pc.equal(costs["seed"], 0)))
    if scores is None or not costs.num_rows:
        return line
    rows = np.full(len(results.cases), np.nan)
    rows[pc.index_in(costs["case"], pa.array(results.cases, pa.string())).to_numpy()] = costs["rows"].to_numpy()
    known = np.isfinite(line.rows).all(0) & np.isfinite(rows) & np.isfinite(scores)
    if not known.any() or any(np.allclose(rows[known], each[known]) for each in line.rows):
        return line
    place = int((np.nanmean(line.rows[:, known], axis=1) < rows[known].mean()).sum())
    return line._replace(rows=np.insert(line.rows, place, rows, 0), scores=np.insert(line.scores, place, scores, 0))


def _points(line: _Drawn, shared: Int[np.ndarray, " case"], clusters: Int[np.ndarray, " case"]) -> list[CurvePoint]:
    found: list[CurvePoint] = []
    for rows, scores in zip(line.rows[:, shared], line.scores[:, shared], strict=True):
        # Where everything is enumerated, a larger budget buys nothing more.
        if found and found[-1].rows == rows.mean():
            continue
        interval = bootstrap(scores, clusters.tolist(), draws=DRAWS)
        found.append(CurvePoint(line.entrant, float(rows.mean()), interval.mean, interval.low, interval.high))
    return found
