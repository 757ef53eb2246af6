"""Geometry of the curves of a steering experiment: from ``summary.json`` to places in a drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from pellucid.report.colour import NEGATIVE, POSITIVE
from pellucid.report.figures import Chart, Line, Tick, short, ticks
from pellucid.report.heatmap import digits

ARMS = {
    "steered": ("the latent", POSITIVE, ""),
    "random-direction": ("a random direction", "currentColor", "5 4"),
    "random-latent": ("a random latent", "currentColor", "1.5 3"),
    "difference-of-means": ("difference of means", NEGATIVE, ""),
}
"""Name, colour and dashes of each curve."""
LEVELS = {"unsteered": ("unsteered", "currentColor", ""), "prompted": ("asked in words", NEGATIVE, "7 4")}
"""The same of what has no strength and is a level."""
_LEAST_RATIO, _MOST_RATIO = 0.25, 64.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One condition over strength."""

    name: str
    """What was done."""
    colour: str
    """Of the line."""
    dashes: str
    """Of the line; empty: none."""
    line: Line
    """Where it runs."""
    spoken: tuple[str, ...]
    """The numbers at each dot."""


@dataclass(frozen=True, slots=True)
class Level:
    """A condition without a strength."""

    name: str
    """What was done."""
    colour: str
    """Of the line."""
    dashes: str
    """Of the line; empty: none."""
    y: float
    """Its height."""
    spoken: str
    """The number."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One measure over strength."""

    title: str
    """What is measured."""
    unit: str
    """What stands beside the axis."""
    chart: Chart
    """Its frame."""
    curves: tuple[Curve, ...]
    """Of the conditions with a strength."""
    levels: tuple[Level, ...]
    """Of the others."""
    zero: float
    """Where the strength is 0."""

    @property
    def spoken(self) -> str:
        """All numbers in words."""
        told = [f"{level.name} {level.spoken}" for level in self.levels]
        return "; ".join([*told, *(f"{curve.name}: {', '.join(curve.spoken)}" for curve in self.curves)])


MEASURES = {
    "on_target": ("How often the concept appears", "share of answers"),
    "flips": ("Other concepts that appear or vanish", "share of the concepts"),
    "shift": ("How much the other latents change", "0: as before, 1: wholly"),
    "ratio": ("Perplexity under the unsteered model", "times the unsteered one"),
    "distinct": ("Neighbouring pairs that differ", "share of all pairs"),
    "harmonic": ("Harmonic mean of the ratings", "0 to 2"),
}
"""Title and unit of each measure that is drawn."""


def plots(points: Sequence[Mapping[str, Any]], mode: str) -> list[Plot]:
    """The measures of one way to steer over strength; those that were never taken are left out."""
    drawn = [point for point in points if point["condition"]["mode"] in (mode, "")]
    strengths = sorted({point["condition"]["strength"] for point in drawn} - {None})
    if len(strengths) < 2:
        return []
    known = [name for name in MEASURES if any(point["condition"]["mode"] and point[name] for point in drawn)]
    return [_plot(drawn, name, strengths) for name in known]


def _plot(points: Sequence[Mapping[str, Any]], name: str, strengths: Sequence[float]) -> Plot:
    title, unit = MEASURES[name]
    left, right = min(0.0, strengths[0]), max(0.0, strengths[-1])
    frame = Chart(x_ticks=(), y_ticks=())

    def x(strength: float) -> float:
        return round(frame.left + (frame.right - frame.left) * (strength - left) / (right - left), 1)

    low, high = _range(points, name)

    def y(value: float) -> float:
        share = (_scaled(name, value) - low) / (high - low)
        return round(frame.bottom - (frame.bottom - frame.top) * min(1.0, max(0.0, share)), 1)

    marks = _ratio_ticks(low, high) if name == "ratio" else ticks(low, high)
    chart = Chart(
        x_ticks=tuple(Tick(x(value), short(value)) for value in ticks(left, right, 8)),
        y_ticks=tuple(Tick(y(value), short(value)) for value in marks),
    )
    curves = [_curve(points, name, arm, x, y) for arm in ARMS]
    levels = [_level(points, name, arm, y) for arm in LEVELS]
    return Plot(
        title=title,
        unit=unit,
        chart=chart,
        curves=tuple(curve for curve in curves if curve is not None),
        levels=tuple(level for level in levels if level is not None),
        zero=x(0.0),
    )


def _scaled(name: str, value: float) -> float:
    """A value as it is drawn: ratios by their logarithm, within limits."""
    return log2(min(_MOST_RATIO, max(_LEAST_RATIO, value))) if name == "ratio" else value


def _ratio_ticks(low: float, high: float) -> list[float]:
    return [2.0**power for power in range(-2, 7) if low - 1e-9 <= power <= high + 1e-9]


def _range(points: Sequence[Mapping[str, Any]], name: str) -> tuple[float, float]:
    """From where to where the axis runs."""
    if name == "harmonic":
        return 0.0, 2.0
    if name != "ratio":
        return 0.0, 1.0
    found = [_scaled(name, each) for point in points if point[name] for each in _ends(point[name])]
    return min(-0.5, *found), max(1.0, *found)


def _ends(interval: Mapping[str, Any]) -> tuple[float, float]:
    """Both ends of an interval; its middle where it has none."""
    low, high = interval["low"], interval["high"]
    return (interval["mean"] if low is None else low), (interval["mean"] if high is None else high)


def _curve(points: Sequence[Mapping[str, Any]], name: str, arm: str, x: Any, y: Any) -> Curve | None:
    mine = [point for point in points if point["condition"]["arm"] == arm and point[name]]
    if not mine:
        return None
    mine.sort(key=lambda point: point["condition"]["strength"])
    across = [x(point["condition"]["strength"]) for point in mine]
    dots = [(place, y(point[name]["mean"])) for place, point in zip(across, mine, strict=True)]
    upper = [(place, y(_ends(point[name])[1])) for place, point in zip(across, mine, strict=True)]
    lower = [(place, y(_ends(point[name])[0])) for place, point in zip(across, mine, strict=True)]
    called, colour, dashes = ARMS[arm]
    spoken = tuple(f"at {short(point['condition']['strength'])}: {in_words(point[name])}" for point in mine)
    line = Line(_points(dots), _points([*upper, *reversed(lower)]), tuple(dots))
    return Curve(called, colour, dashes, line, spoken)


def _level(points: Sequence[Mapping[str, Any]], name: str, arm: str, y: Any) -> Level | None:
    found = next((point for point in points if point["condition"]["arm"] == arm and point[name]), None)
    if found is None:
        return None
    called, colour, dashes = LEVELS[arm]
    return Level(called, colour, dashes, y(found[name]["mean"]), in_words(found[name]))


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def in_words(interval: Mapping[str, Any]) -> str:
    """Estimate and interval."""
    if interval["low"] is None:
        return digits(interval["mean"])
    return f"{digits(interval['mean'])} [{digits(interval['low'])}, {digits(interval['high'])}]"
