"""Geometry of the figures: from numbers to places in a drawing. The drawing itself is ``templates/figures.html.j2``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from pellucid.report.heatmap import MINUS, digits
from pellucid.report.run_view import Accuracy, CohortField, Deletion, Interval
from pellucid.report.view import Mark

WIDTH = 420
_LABELS, _RIGHT, _ROW, _TOP = 118, 12, 26, 8
_FRAME_LEFT, _FRAME_RIGHT, _FRAME_TOP, _FRAME_BOTTOM = 58.0, 406.0, 10.0, 250.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    """Place in the drawing."""
    label: str
    """The number there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One interval of a dot plot."""

    label: str
    """What it belongs to."""
    mark: Mark
    """Expected, decoy or neither."""
    y: float
    """Middle of the row."""
    at: float
    """Place of the mean."""
    low: float
    """Place of the lower end."""
    high: float
    """Place of the upper end."""
    negative: bool
    """Whether the mean lies below zero."""
    spoken: str
    """The numbers in words."""


@dataclass(frozen=True, slots=True)
class DotPlot:
    """Rows of intervals over a common axis."""

    rows: tuple[Row, ...]
    """From the top."""
    ticks: tuple[Tick, ...]
    """Of the axis below."""
    zero: float
    """Place of zero."""
    bottom: float
    """Where the rows end."""
    height: float
    """Height of the drawing."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve with its band."""

    points: str
    """Of the mean, as SVG writes them."""
    band: str
    """Outline of the interval."""
    dots: tuple[tuple[float, float], ...]
    """The means, to be marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves or dots in a square frame."""

    left: float = _FRAME_LEFT
    """Left edge of the frame."""
    right: float = _FRAME_RIGHT
    """Right edge."""
    top: float = _FRAME_TOP
    """Upper edge."""
    bottom: float = _FRAME_BOTTOM
    """Lower edge."""
    x_ticks: tuple[Tick, ...]
    """Of the horizontal axis."""
    y_ticks: tuple[Tick, ...]
    """Of the vertical axis."""
    lines: tuple[Line, ...] = ()
    """Curves."""
    dots: tuple[tuple[float, float, float, str], ...] = ()
    """Dots: x, y, radius, and the numbers in words."""


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers inside [low, high], at most ``most`` or one more.

    >>> ticks(-0.4, 1.1)
    [0.0, 0.5, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def dot_plot(fields: Sequence[CohortField], which: str) -> DotPlot:
    """Mean ``signed`` or ``absolute`` attribution of every field with its interval."""
    intervals: list[Interval] = [getattr(field, which) for field in fields]
    low = min(0.0, *(interval.low for interval in intervals)) if intervals else 0.0
    high = max(0.0, *(interval.high for interval in intervals)) if intervals else 1.0
    span = (high - low) or 1.0
    inner = WIDTH - _LABELS - _RIGHT

    def place(value: float) -> float:
        return round(_LABELS + inner * (value - low) / span, 1)

    rows = tuple(
        Row(
            label=field.name,
            mark=field.mark,
            y=_TOP + _ROW * (index + 0.5),
            at=place(interval.mean),
            low=place(interval.low),
            high=place(interval.high),
            negative=interval.mean < 0,
            spoken=in_words(interval),
        )
        for index, (field, interval) in enumerate(zip(fields, intervals, strict=True))
    )
    bottom = float(_TOP + _ROW * len(rows))
    marks = tuple(Tick(place(value), short(value)) for value in ticks(low, low + span))
    return DotPlot(rows=rows, ticks=marks, zero=place(0.0), bottom=bottom, height=bottom + 24)


def in_words(interval: Interval, signed: bool = True) -> str:
    """Estimate and interval, for hovering and for tables."""
    return f"{digits(interval.mean, signed)} [{digits(interval.low, signed)}, {digits(interval.high, signed)}]"


def short(value: float) -> str:
    """A tick's label."""
    return f"{value:g}".replace("-", MINUS)


def _axes(low: float, high: float) -> tuple[tuple[Tick, ...], tuple[Tick, ...]]:
    """Ticks of an x axis from 0 to 1 and of a y axis from ``low`` to ``high``."""
    across = tuple(Tick(_x(value), short(value)) for value in ticks(0.0, 1.0))
    return across, tuple(Tick(_y(value, low, high), short(value)) for value in ticks(low, high))


def _x(fraction: float) -> float:
    return round(_FRAME_LEFT + (_FRAME_RIGHT - _FRAME_LEFT) * fraction, 1)


def _y(value: float, low: float, high: float) -> float:
    return round(_FRAME_BOTTOM - (_FRAME_BOTTOM - _FRAME_TOP) * (value - low) / ((high - low) or 1.0), 1)


def calibration_chart(accuracy: Accuracy) -> Chart:
    """The reliability diagram: observed over predicted share, the area of a dot by its count."""
    most = max((each.count for each in accuracy.bins), default=1)
    dots = tuple(
        (
            _x(each.predicted),
            _y(each.observed, 0.0, 1.0),
            round(4 + 9 * (each.count / most) ** 0.5, 1),
            f"predicted {digits(each.predicted)}, observed {digits(each.observed)}, {each.count} cases",
        )
        for each in accuracy.bins
    )
    across, up = _axes(0.0, 1.0)
    return Chart(x_ticks=across, y_ticks=up, dots=dots)


def deletion_chart(deletion: Deletion) -> Chart:
    """Both removal curves with their bands: first the attribution's order, then the random one."""
    intervals = [*deletion.attributed, *deletion.random]
    low, high = min(each.low for each in intervals), max(each.high for each in intervals)

    def line(curve: Sequence[Interval]) -> Line:
        across = [_x(fraction) for fraction in deletion.fraction]
        dots = [(x, _y(each.mean, low, high)) for x, each in zip(across, curve, strict=True)]
        upper = [(x, _y(each.high, low, high)) for x, each in zip(across, curve, strict=True)]
        lower = [(x, _y(each.low, low, high)) for x, each in zip(across, curve, strict=True)]
        return Line(_points(dots), _points([*upper, *reversed(lower)]), tuple(dots))

    across, up = _axes(low, high)
    return Chart(x_ticks=across, y_ticks=up, lines=(line(deletion.attributed), line(deletion.random)))


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
