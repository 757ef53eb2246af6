"""The leaderboard of a task, from the folder that a run has written."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from pellucid.benchmark.curves import curves
from pellucid.benchmark.disagreement import disagreements, tau_matrix
from pellucid.benchmark.ranking import Judged, by_cluster, judged, ranks_among, standings
from pellucid.benchmark.remarks import described, failures, notes, provenance
from pellucid.benchmark.results import Results, read_results, short_name
from pellucid.benchmark.store import run_folders
from pellucid.metrics.statistics import ENOUGH, cliques, friedman
from pellucid.report.leaderboard import Board, FamilyRanks, MetricTable, Price, RankDiagram

LEVEL = 0.05
"""Of Friedman's test and of Nemenyi's critical difference."""
FEWEST = 3
"""Entrants that a critical-difference diagram has at least."""


class _Judgement(NamedTuple):
    """One metric with what the gate found."""

    found: Judged
    valid: bool
    findings: tuple[tuple[str, bool, str], ...]

    @property
    def counts(self) -> bool:
        """Whether it decides between entrants: valid, with a way that is good, and with somebody to rank."""
        found = self.found
        return self.valid and found.higher_is_better is not None and bool(found.ranked) and bool(len(found.inputs))


def read_boards(folder: Path) -> list[Board]:
    """The leaderboards of all tasks in a folder. Raises InputError and RecordError, see ``read_board``."""
    return [read_board(each) for each in run_folders(folder)]


def read_board(folder: Path) -> Board:
    """The leaderboard of one task.

    Raises:
        InputError: the folder holds no results, or none is finished.
        RecordError: they are of another version, or broken.
    """
    results = read_results(folder)
    # A metric that refused every input has a name in the failures alone.
    judgements = [
        _judgement(results, each) for each, asked in zip(results.metrics, results.asked, strict=True) if asked.any()
    ]
    valid = [each.found for each in judgements if each.valid]
    deciding = [each.found for each in judgements if each.counts]
    tables = tuple(_table(results, each) for each in judgements)
    metric, points = curves(results, [each.metric for each in deciding])
    clusters = len(set(results.clusters.tolist()))
    run = results.run
    return Board(
        task=run.task,
        title=run.title,
        model=run.model,
        target=run.target,
        features=run.features,
        inputs=len(results.cases),
        clusters=clusters,
        enough=clusters >= ENOUGH,
        tables=tables,
        prices=_prices(results),
        families=_families(results, deciding),
        diagram=_diagram(deciding[0]) if deciding else None,
        tau=tau_matrix(deciding),
        curves=points,
        curve_metric=metric,
        disagreements=disagreements(results, deciding),
        failures=failures(results, valid),
        absent=run.absent,
        provenance=provenance(results),
        notes=notes(results, valid, [each.found.metric for each in judgements if not each.valid]),
    )


def _judgement(results: Results, metric: str) -> _Judgement:
    findings = results.findings(metric)
    return _Judgement(judged(results, metric), all(passed for _, passed, _ in findings), findings)


def _table(results: Results, judgement: _Judgement) -> MetricTable:
    found, facts = judgement.found, results.entry(judgement.found.metric).facts
    families = {each.name: each.family for each in results.run.entrants}
    # The imputer comes first among the conditions of a metric that removes features.
    imputer = found.metric.partition(" [")[2].removesuffix("]").split(", ")[0]
    return MetricTable(
        name=found.metric,
        metric=short_name(found.metric),
        title=str(facts.get("title", "")),
        family=str(facts.get("family", "")),
        higher_is_better=found.higher_is_better,
        chance=str(facts.get("chance", "")),
        source=str(facts.get("source", "")),
        standings=standings(found, families) if judgement.valid else (),
        valid=judgement.valid,
        findings=judgement.findings,
        inputs=len(found.inputs),
        clusters=len(set(found.clusters.tolist())),
        same_imputer=tuple(each.name for each in results.run.entrants if each.baseline and each.baseline == imputer),
    )


def _families(results: Results, found: Sequence[Judged]) -> tuple[FamilyRanks, ...]:
    """Median ranks of the entrants that every metric of a family ranks."""
    groups: dict[str, list[Judged]] = {}
    for each in found:
        groups.setdefault(str(results.entry(each.metric).facts.get("family", "")), []).append(each)
    made = []
    for family, members in groups.items():
        ranks = [dict(zip(each.entrants, ranks_among(each).tolist(), strict=False)) for each in members]
        shared = [name for name in ranks[0] if all(name in each for each in ranks)]
        medians = sorted(
            ((name, float(median(each[name] for each in ranks))) for name in shared), key=lambda one: one[1]
        )
        made.append(FamilyRanks(family, tuple(each.metric for each in members), tuple(medians)))
    return tuple(made)


def _diagram(found: Judged) -> RankDiagram | None:
    """Mean ranks over clusters; None with fewer than ``FEWEST`` entrants or two clusters.

    Where Friedman's test finds no difference at all, nothing is told apart.
    """
    blocks = by_cluster(found.scores[: found.ranked], found.clusters).T
    if found.ranked < FEWEST or len(blocks) < 2:
        return None
    test = friedman(blocks, higher_is_better=bool(found.higher_is_better), alpha=LEVEL)
    order = np.argsort(test.ranks, kind="stable").tolist()
    runs = cliques(test.ranks, test.critical_difference) if test.p_value < LEVEL else [tuple(order)]
    return RankDiagram(
        metric=found.metric,
        ranks=tuple((found.entrants[place], float(test.ranks[place])) for place in order),
        critical_difference=test.critical_difference,
        blocks=len(blocks),
        p_value=test.p_value,
        groups=tuple(tuple(found.entrants[place] for place in run) for run in runs),
    )


def _prices(results: Results) -> tuple[Price, ...]:
    """What each entrant costs, over inputs and seeds."""
    entries = {each.name: each for each in results.run.entrants}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in results.table("costs").to_pylist():
        rows.setdefault(row["entrant"], []).append(row)
    made = []
    for name in (each for each in results.entrants if each in rows):
        mine, entry = rows[name], entries.get(name)
        memory = [row["memory"] for row in mine]
        made.append(
            Price(
                entrant=name,
                kind=results.kinds[name],
                rows=float(np.mean([row["rows"] or 0 for row in mine])),
                backwards=float(np.mean([row["backwards"] or 0 for row in mine])),
                seconds=float(median(row["seconds"] for row in mine)),
                memory_bytes=None if None in memory else float(median(memory)),
                settings="" if entry is None else described(entry.settings),
                tuned=entry is not None and entry.tuned,
            )
        )
    return tuple(made)
