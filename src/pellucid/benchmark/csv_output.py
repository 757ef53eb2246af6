"""A leaderboard as CSV: one row for each entrant under each metric."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from io import StringIO
from math import isfinite
from typing import Any

from pellucid.report.leaderboard import Board, MetricTable, Price, Standing

TABLE = ("metric", "title", "family", "higher_is_better", "valid", "inputs", "clusters")
STANDING = (
    "entrant",
    "kind",
    "rank",
    "mean",
    "low",
    "high",
    "normalised",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
    "win_rate",
    "seeds",
    "undefined",
)
PRICE = ("rows", "backwards", "seconds", "memory_bytes", "settings", "tuned")


def board_csv(boards: Sequence[Board]) -> str:
    """All standings of some leaderboards. A metric that nobody has a number under has one row, without an entrant.

    ``metric`` is the whole name; what is undefined or does not apply is an empty cell.
    """
    text = StringIO()
    writer = csv.DictWriter(text, ["task", *TABLE, *STANDING, "same_imputer", *PRICE], lineterminator="\n")
    writer.writeheader()
    for board in boards:
        prices = {each.entrant: each for each in board.prices}
        for table in board.tables:
            writer.writerows({"task": board.task, **row} for row in _rows(table, prices))
    return text.getvalue()


def _rows(table: MetricTable, prices: dict[str, Price]) -> Iterator[dict[str, Any]]:
    known = {**asdict(table), "metric": table.name}
    shared = {name: _cell(known[name]) for name in TABLE}
    if not table.standings:
        yield shared
    for each in table.standings:
        price = prices.get(each.entrant)
        paid = {} if price is None else {name: _cell(value) for name, value in asdict(price).items() if name in PRICE}
        home = _cell(each.entrant in table.same_imputer)
        yield {**shared, **_standing(each), "same_imputer": home, **paid}


def _standing(each: Standing) -> dict[str, Any]:
    mean, low, high = each.difference or (None, None, None)
    known = asdict(each) | {"difference": mean, "difference_low": low, "difference_high": high}
    return {name: _cell(known[name]) for name in STANDING}


def _cell(value: Any) -> Any:
    """A value as a cell: nothing for what is undefined, small letters for true and false."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or (isinstance(value, float) and not isfinite(value)) else value
