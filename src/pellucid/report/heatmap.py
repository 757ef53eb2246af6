"""From attributions to cells and bars: colour, sign glyph, printed number and place, all on one symmetric scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from pellucid.report.colour import ZERO, stop_of
from pellucid.report.view import AttributionView, plural

BAR_WIDTH, BAR_HEIGHT = 200, 16
"""User units of one bar's drawing; the page stretches it."""
_HALF = BAR_WIDTH / 2 - 2
_FAINT = 2
MINUS = "\N{MINUS SIGN}"
"""As wide as the plus, unlike the hyphen."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value made ready to be drawn."""

    number: str
    """The value in digits, signed."""
    error: str
    """Its standard error in digits; empty where there is none."""
    sign: str
    """Plus, minus, or nothing where the colour is faint: what it says, for whoever does not see it."""
    stop: int
    """Index into the colour map."""
    start: float
    """Left end of the bar."""
    width: float
    """Width of the bar."""
    whisker: tuple[float, float] | None
    """Ends of value plus and minus one standard error; None without one."""
    clipped: bool
    """Whether the value lies beyond the scale."""

    @property
    def spoken(self) -> str:
        """The number with its error, for hovering and for screen readers."""
        return f"{self.number} ± {self.error}" if self.error else self.number


def digits(value: float, signed: bool = False) -> str:
    """A number for reading: three decimals, or scientific where those would hide it; a true minus sign.

    >>> digits(0.5), digits(-0.25, signed=True), digits(0.00012), digits(float("nan"))
    ('0.500', '−0.250', '1.20e−4', 'not a number')
    """
    if value != value:
        return "not a number"
    if not isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:.3f}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return f"{'+' if signed and value > 0 else ''}{text.replace('-', MINUS)}"


def cell(value: float, limit: float, error: float | None = None) -> Cell:
    """A value on the scale from -limit to +limit."""
    stop = stop_of(value, limit)
    at, zero = _place(value, limit), BAR_WIDTH / 2
    has_error = error is not None and isfinite(error) and isfinite(value)
    return Cell(
        number=digits(value, signed=True),
        error="" if error is None else digits(error),
        sign="" if abs(stop - ZERO) < _FAINT else "+" if stop > ZERO else MINUS,
        stop=stop,
        start=min(at, zero),
        width=round(abs(at - zero), 2),
        whisker=(_place(value - error, limit), _place(value + error, limit)) if has_error and error else None,
        clipped=abs(value) > limit * (1 + 1e-6),
    )


def _place(value: float, limit: float) -> float:
    if limit <= 0 or value != value:
        return BAR_WIDTH / 2
    return round(BAR_WIDTH / 2 + _HALF * max(-1.0, min(1.0, value / limit)), 2)


def totals(attribution: AttributionView) -> list[float]:
    """Each feature's attribution summed over the targets; for one target, its own."""
    return [sum(column) for column in zip(*attribution.values, strict=True)]


def in_sum(attribution: AttributionView) -> str:
    """What the parts of a picture add up to, and those of its text."""
    sums = [f"its {plural(half.kind)} sum to {digits(sum(totals(half)), True)}" for half in attribution.halves]
    return f"Of the input {' and '.join(sums)}."


def errors(attribution: AttributionView) -> list[float | None]:
    """Standard errors of ``totals``: None for several targets, whose errors are not independent."""
    if attribution.standard_error is None or len(attribution.values) != 1:
        return [None] * len(attribution.features)
    return list(attribution.standard_error[0])


def largest(values: Iterable[float]) -> float:
    """The largest finite magnitude; 0 where there is none."""
    return max((abs(value) for value in values if isfinite(value)), default=0.0)


def by_strength(values: Sequence[float]) -> list[int]:
    """Indices from the largest magnitude down; NaN comes last, and equals stay in their order."""
    return sorted(range(len(values)), key=lambda i: (-abs(values[i]) if values[i] == values[i] else 1.0, i))


def strongest(attribution: AttributionView, most: int) -> AttributionView:
    """The attribution of the strongest features alone, the strongest first; without its picture and its layers."""
    kept = by_strength(totals(attribution))[:most]
    error = attribution.standard_error
    return replace(
        attribution,
        features=tuple(attribution.features[i] for i in kept),
        values=tuple(tuple(row[i] for i in kept) for row in attribution.values),
        standard_error=None if error is None else tuple(tuple(row[i] for i in kept) for row in error),
        picture=None,
        layer_values=(),
        layer_names=(),
        experts=None,
    )


def limit_of(shown: AttributionView, beside: Sequence[AttributionView] = ()) -> float:
    """The scale of an attribution: common to all ``beside`` it whose scores can be compared with its own.

    Those are the ones by the same method, in the same unit, against the same baseline. The scale is set by what the
    person wrote, not by the chat template.
    """
    alike = [each for each in beside if _kin(each) == _kin(shown)] or [shown]
    return largest(
        value
        for attribution in alike
        for feature, value in zip(attribution.features, totals(attribution), strict=True)
        if feature.role == "input"
    ) or largest(value for attribution in alike for value in totals(attribution))


def _kin(attribution: AttributionView) -> tuple[str, str, str]:
    return attribution.method, attribution.unit, attribution.baseline


def any_clipped(attribution: AttributionView, limit: float) -> bool:
    """Whether some value lies beyond the scale, which the legend then says."""
    return any(cell(value, limit).clipped for value in totals(attribution))
