"""What a finished run says of a model, kept for ``method="best"``."""

from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from pellucid.benchmark.board import read_board
from pellucid.benchmark.ranking import Judged, judged, standings
from pellucid.benchmark.results import read_results
from pellucid.benchmark.store import Store, read_manifest
from pellucid.metrics.statistics import normalised
from pellucid.report.leaderboard import Board, MetricTable
from pellucid.verdicts import Entry, Verdict

DECIDING = "srg"
"""The metric that decides: it depends on the imputer least, and 0 is chance."""
ORACLE, RANDOM = "oracle", "random"


def verdict_of(folder: Path) -> Verdict | None:
    """The ranking of pellucid's methods by SRG; None where the metric took no part, was invalid, or ranked nobody."""
    board, manifest = read_board(folder), read_manifest(folder)
    table = _deciding(board)
    if table is None:
        return None
    results = read_results(folder)
    alone = standings(_without_peers(judged(results, table.name)), {})
    ends = {each.entrant: each.mean for each in alone}
    settings = {each["name"]: each["settings"] for each in manifest["entrants"]}
    prices = {each.entrant: each.rows for each in board.prices}
    players = [count for (count,) in Store(folder).columns("cases", "players") if count is not None]
    entries = [
        Entry(
            method=each.entrant,
            settings=settings[each.entrant],
            score=each.normalised,
            low=normalised(each.low, ends[RANDOM], ends[ORACLE]),
            high=normalised(each.high, ends[RANDOM], ends[ORACLE]),
            p_value=each.p_value,
            is_worse=each.is_worse,
            rows=prices[each.entrant],
        )
        for each in alone
        if each.kind == "method" and each.rank is not None and each.normalised is not None
    ]
    if not entries:
        return None
    return Verdict(
        task=board.task,
        model=board.model,
        weights=manifest["weights"],
        features=board.features,
        target=board.target.partition(",")[0],
        imputer=manifest["imputers"][0],
        rows=manifest["selection"]["rows"],
        players=float(median(players)),
        metric=table.name,
        inputs=table.clusters,
        enough=board.enough,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=str(folder.resolve()),
        entries=tuple(sorted(entries, key=lambda each: -each.score)),
    )


def _without_peers(found: Judged) -> Judged:
    """The same scores without those of other libraries: the best is then one that pellucid can run."""
    kept = [place for place, kind in enumerate(found.kinds) if kind != "peer"]
    return found._replace(
        entrants=tuple(found.entrants[place] for place in kept),
        kinds=tuple(found.kinds[place] for place in kept),
        scores=found.scores[kept],
        undefined=tuple(found.undefined[place] for place in kept),
        spread=tuple(found.spread[place] for place in kept),
    )


def _deciding(board: Board) -> MetricTable | None:
    found = (each for each in board.tables if each.metric == DECIDING and each.valid and each.standings)
    return next(found, None)
