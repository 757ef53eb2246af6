"""Geometry of a leaderboard: intervals on a common axis, quality against rows, ranks and what joins them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np

from pellucid.report.figures import Chart, Line, Tick, short, ticks
from pellucid.report.leaderboard import CurvePoint, MetricTable, RankDiagram, Standing
from pellucid.report.leaderboard_words import amount, interval

WHISKER_WIDTH, WHISKER_HEIGHT = 200, 20
"""User units of one row's drawing; the page stretches it."""
_MARGIN = 6.0
PANEL = 5
"""Curves in one panel."""
PANEL_WIDTH = 620
_CURVES_RIGHT, _LABEL_GAP = 400.0, 15.0
RANKS_WIDTH = 620.0
_RANKS_LEFT, _RANKS_RIGHT, _RANKS_TOP, _RANK_ROW, _JOIN = 208.0, 480.0, 44.0, 18.0, 9.0
_GRID_LABEL = re.compile(r"(\d{1,2}),(\d{1,2})")


@dataclass(frozen=True, slots=True)
class Whisker:
    """One interval on the axis of its metric."""

    at: float
    """Place of the mean."""
    low: float
    """Place of the lower end."""
    high: float
    """Place of the upper end."""
    clipped: bool
    """Whether the mean lies beyond the axis, and is drawn at its end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The axis of one metric, common to all of its rows."""

    low: float
    """Value at its left end."""
    high: float
    """Value at its right end."""

    def place(self, value: float) -> float:
        """Where a value is drawn, within the axis."""
        if not isfinite(value):
            return WHISKER_WIDTH / 2
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(_MARGIN + (WHISKER_WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, share)), 1)

    def whisker(self, standing: Standing) -> Whisker | None:
        """The interval of one row; None where it has no mean."""
        if not isfinite(standing.mean):
            return None
        low, high = (end if isfinite(end) else standing.mean for end in (standing.low, standing.high))
        clipped = not self.low <= standing.mean <= self.high
        return Whisker(self.place(standing.mean), self.place(low), self.place(high), clipped)


def scale_of(table: MetricTable) -> Scale:
    """An axis that shows the bulk: what is further off than the width of the middle four fifths ends at its edge."""
    means = sorted(each.mean for each in table.standings if isfinite(each.mean))
    ends = [end for each in table.standings for end in (each.low, each.high, each.mean) if isfinite(end)]
    if not means:
        return Scale(0.0, 1.0)
    inner_low, inner_high = np.quantile(means, [0.1, 0.9])
    span = float(inner_high - inner_low) or max(ends) - min(ends)
    low, high = max(min(ends), float(inner_low) - span), min(max(ends), float(inner_high) + span)
    return Scale(low, high) if high > low else Scale(low - 0.5, low + 0.5)


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality of one entrant over its rows."""

    name: str
    """The entrant."""
    line: Line
    """Where it runs."""
    bars: tuple[tuple[float, float, float], ...]
    """Place, lower and upper end of each interval."""
    label_y: float
    """Height of its name."""
    spoken: str
    """The numbers in words."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A few curves over a common axis, with all the others faint behind them."""

    chart: Chart
    """The frame."""
    curves: tuple[Curve, ...]
    """Those that are named, the best first."""
    faint: tuple[str, ...]
    """Points of the others."""

    @property
    def spoken(self) -> str:
        """All named curves in words."""
        return " ".join(curve.spoken for curve in self.curves)


def panels(points: Sequence[CurvePoint], higher_is_better: bool | None = True) -> list[Panel]:
    """Quality against rows on a logarithmic axis, ``PANEL`` curves in each drawing, the best at the end first."""
    drawn = [point for point in points if point.rows > 0 and isfinite(point.score)]
    if not drawn:
        return []
    chart = _curve_frame(drawn)
    mine: dict[str, list[CurvePoint]] = {}
    for point in sorted(drawn, key=lambda point: point.rows):
        mine.setdefault(point.entrant, []).append(point)
    worst_first = -1.0 if higher_is_better is not False else 1.0
    order = sorted(mine, key=lambda name: (worst_first * mine[name][-1].score, name))
    lines = {name: _curve(name, mine[name], drawn) for name in order}
    found = []
    for start in range(0, len(order), PANEL):
        named = order[start : start + PANEL]
        faint = tuple(lines[name].line.points for name in order if name not in named)
        found.append(Panel(chart, _apart([lines[name] for name in named]), faint))
    return found


def _curve_frame(points: Sequence[CurvePoint]) -> Chart:
    frame = Chart(right=_CURVES_RIGHT, x_ticks=(), y_ticks=())
    low, high = _ends(points)
    first, last = _decades(points)
    factors = (1, 2, 5) if last - first < 1.6 else (1,)
    rows = [factor * 10.0**power for power in range(floor(first), floor(last) + 1) for factor in factors]
    across = [value for value in rows if first <= log10(value) <= last]
    return Chart(
        right=_CURVES_RIGHT,
        x_ticks=tuple(Tick(_across(value, points, frame), amount(value)) for value in across),
        y_ticks=tuple(Tick(_up(value, points, frame), short(value)) for value in ticks(low, high)),
    )


def _ends(points: Sequence[CurvePoint]) -> tuple[float, float]:
    ends = [end for point in points for end in (point.low, point.high, point.score) if isfinite(end)]
    return min(ends), max(ends)


def _decades(points: Sequence[CurvePoint]) -> tuple[float, float]:
    """Logarithms of the fewest and of the most rows, with a little room."""
    rows = [log10(point.rows) for point in points]
    room = 0.04 * (max(rows) - min(rows)) or 0.5
    return min(rows) - room, max(rows) + room


def _across(rows: float, points: Sequence[CurvePoint], frame: Chart) -> float:
    first, last = _decades(points)
    return round(frame.left + (frame.right - frame.left) * (log10(rows) - first) / (last - first), 1)


def _up(value: float, points: Sequence[CurvePoint], frame: Chart) -> float:
    low, high = _ends(points)
    share = (value - low) / ((high - low) or 1.0)
    return round(frame.bottom - (frame.bottom - frame.top) * share, 1)


def _curve(name: str, mine: Sequence[CurvePoint], points: Sequence[CurvePoint]) -> Curve:
    frame = Chart(right=_CURVES_RIGHT, x_ticks=(), y_ticks=())
    dots = tuple((_across(each.rows, points, frame), _up(each.score, points, frame)) for each in mine)
    bars = tuple(
        (x, _up(each.low, points, frame), _up(each.high, points, frame))
        for (x, _), each in zip(dots, mine, strict=True)
        if isfinite(each.low) and isfinite(each.high)
    )
    told = ", ".join(f"{amount(each.rows)} rows {interval(each.score, each.low, each.high)}" for each in mine)
    line = Line(" ".join(f"{x:g},{y:g}" for x, y in dots), "", dots)
    return Curve(name, line, bars, dots[-1][1], f"{name}: {told}.")


def _apart(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """The curves from the top, with their names moved down until none covers another."""
    order = sorted(curves, key=lambda curve: curve.line.dots[-1][1])
    bottom = Chart(x_ticks=(), y_ticks=()).bottom
    heights, above = [], -_LABEL_GAP
    for curve in order:
        above = max(curve.line.dots[-1][1], above + _LABEL_GAP)
        heights.append(above)
    overshoot = max(0.0, heights[-1] - bottom)
    limit = heights[-1] - overshoot
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], limit - _LABEL_GAP * (len(heights) - 1 - index))
    return tuple(
        Curve(each.name, each.line, each.bars, round(y, 1), each.spoken) for each, y in zip(order, heights, strict=True)
    )


@dataclass(frozen=True, slots=True)
class RankRow:
    """One entrant of the diagram."""

    name: str
    """The entrant."""
    y: float
    """Height of its row."""
    at: float
    """Place of its mean rank."""
    spoken: str
    """The rank in words."""


@dataclass(frozen=True, slots=True)
class RankChart:
    """A critical-difference diagram set upright, so that its names can be read: bars join what is not told apart."""

    rows: tuple[RankRow, ...]
    """From the best."""
    ticks: tuple[Tick, ...]
    """Mean ranks."""
    joins: tuple[tuple[float, float, float], ...]
    """Bars: place, upper and lower end."""
    ruler: tuple[float, float]
    """Ends of a line that is as long as the critical difference."""
    bottom: float
    """Where the rows end."""
    height: float
    """Height of the drawing."""
    width: float
    """Width of the drawing."""


def rank_chart(diagram: RankDiagram) -> RankChart:
    """The diagram of mean ranks."""
    order = sorted(diagram.ranks, key=lambda each: each[1])
    low, high = 1.0, max(float(len(order)), max(rank for _, rank in order))

    def place(rank: float) -> float:
        return round(_RANKS_LEFT + (_RANKS_RIGHT - _RANKS_LEFT) * (rank - low) / ((high - low) or 1.0), 1)

    heights = {name: _RANKS_TOP + _RANK_ROW * (index + 0.5) for index, (name, _) in enumerate(order)}
    rows = tuple(RankRow(name, heights[name], place(rank), f"mean rank {rank:.2f}") for name, rank in order)
    joins = tuple(
        (
            _RANKS_RIGHT + 16 + _JOIN * index,
            min(heights[name] for name in group) - 6,
            max(heights[name] for name in group) + 6,
        )
        for index, group in enumerate(group for group in diagram.groups if len(group) > 1)
    )
    bottom = _RANKS_TOP + _RANK_ROW * len(order)
    return RankChart(
        rows=rows,
        ticks=tuple(Tick(place(value), short(value)) for value in ticks(low, high, 6)),
        joins=joins,
        ruler=(place(low), place(min(high, low + diagram.critical_difference))),
        bottom=bottom,
        height=bottom + 8,
        width=max(RANKS_WIDTH, _RANKS_RIGHT + 24 + _JOIN * len(joins)),
    )


def patches(labels: Sequence[str]) -> list[list[int]] | None:
    """Rows of indices where the labels are the places ``row,column`` of a full grid; None where they are not.

    >>> patches(["0,0", "0,1", "1,0", "1,1"]), patches(["good", "bad"])
    ([[0, 1], [2, 3]], None)
    """
    found = [_GRID_LABEL.fullmatch(label) for label in labels]
    places = {(int(each[1]), int(each[2])): index for index, each in enumerate(found) if each}
    rows, columns = ({place[axis] for place in places} for axis in (0, 1))
    if len(places) != len(labels) or len(rows) * len(columns) != len(places) or not places:
        return None
    return [[places[row, column] for column in sorted(columns)] for row in sorted(rows)]
