"""Geometry and colours of the pages about latents: histograms, shaded tokens, pictures under their patches."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby
from math import ceil, floor, log10

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pellucid.report.colour import VIK, ZERO, stop_of
from pellucid.report.figures import Tick, short, ticks
from pellucid.report.latents_view import HistogramView, PatchesView, TokenView
from pellucid.report.pictures import scaled

WIDTH, HEIGHT = 420, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 412.0, 10.0, 132.0
SIDE = 224
"""Pixels of the longer side of a picture on a page, at most."""
SHARE = 0.66
_PALETTE = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in VIK], dtype=np.float64)
# As in the pictures of explanations: beneath this a colour could not be told from its neighbours.
_DARKEST = 110.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin of a histogram."""

    x: float
    """Left end."""
    y: float
    """Upper end."""
    width: float
    """From edge to edge."""
    height: float
    """Down to the axis."""
    spoken: str
    """The numbers in words."""


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram over a logarithmic axis."""

    bars: tuple[Bar, ...]
    """From the left; empty bins are left out."""
    x_ticks: tuple[Tick, ...]
    """Round numbers."""
    y_ticks: tuple[Tick, ...]
    """Counts."""
    bottom: float = _BOTTOM
    """Where the bars stand."""
    left: float = _LEFT
    """Where the axis begins."""
    right: float = _RIGHT
    """Where it ends."""


def histogram(view: HistogramView, noun: str) -> Bars:
    """Places of the bars; ``noun`` is what is counted."""
    logs = [log10(edge) for edge in view.edges]
    low, span = logs[0], (logs[-1] - logs[0]) or 1.0
    most = max(view.counts, default=0) or 1

    def place(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / span, 1)

    def up(count: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * count / most, 1)

    bars = tuple(
        Bar(
            x=place(logs[at]),
            y=up(float(count)),
            width=round(max(0.5, place(logs[at + 1]) - place(logs[at]) - 0.6), 1),
            height=round(_BOTTOM - up(float(count)), 1),
            spoken=f"{view.edges[at]:.3g} to {view.edges[at + 1]:.3g}: {count:,} {noun}",
        )
        for at, count in enumerate(view.counts)
        if count
    )
    across = tuple(Tick(place(log10(value)), short(value)) for value in log_ticks(view.edges[0], view.edges[-1]))
    counts = [value for value in ticks(0.0, float(most), 3) if value == int(value)]
    return Bars(bars, across, tuple(Tick(up(value), f"{int(value):,}") for value in counts))


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high: 1, 2 and 5 times powers of ten where they are few, else powers alone.

    >>> log_ticks(0.3, 4.0), log_ticks(1e-6, 0.1), log_ticks(10.2, 16.7)
    ([0.5, 1.0, 2.0], [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1], [12.0, 14.0, 16.0])
    """
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) <= most:
            # Within less than a factor of two there may be none.
            return found if len(found) > 1 else ticks(low, high, 4)
    return found[:: ceil(len(found) / most)]


def shade(value: float, limit: float) -> int:
    """Index into the colour map of an activation between 0 and the scale's end; never quite 0 where it is active.

    >>> shade(0.0, 2.0), shade(0.001, 2.0), shade(2.0, 2.0)
    (16, 17, 28)
    """
    if value <= 0:
        return ZERO
    # The darkest shades would hide the letters' ink.
    return ZERO + max(1, round((stop_of(value, limit) - ZERO) * 0.75))


def merged(tokens: Sequence[TokenView]) -> list[TokenView]:
    """The tokens with each run of those where the latent is not active as one, which keeps pages small.

    Spaces before an active token go to what is before it, so that no frame is torn at the end of a line.
    """
    parts: list[TokenView] = []
    for one in tokens:
        bare = one.text.lstrip(" ")
        if not _is_plain(one) and bare and bare != one.text:
            parts += [TokenView(one.text[: -len(bare)], 0.0), replace(one, text=bare)]
        else:
            parts.append(one)
    found: list[TokenView] = []
    for plain, run in groupby(parts, key=_is_plain):
        same = list(run)
        found += [TokenView("".join(one.text for one in same), 0.0)] if plain else same
    return found


def _is_plain(one: TokenView) -> bool:
    return one.value <= 0 and not one.is_peak and not one.is_picture


def significant(value: float) -> str:
    """An activation for reading: three digits.

    >>> significant(391.67), significant(0.00123456), significant(12345.6)
    ('392', '0.00123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{float(f'{value:.3g}'):g}"


def png_of(view: PatchesView, limit: float, *, heat: bool) -> str:
    """A ``data:`` address of the picture, or of it in grey with its patches coloured by their activation."""
    shown = _colours(view)
    height, width = _size(*shown.shape[:2])
    drawn = scaled(shown, height, width)
    if heat:
        stops = np.vectorize(lambda value: shade(float(value), limit))(view.values)
        coloured = scaled(_PALETTE[stops], height, width)
        grey = _DARKEST + np.asarray(Image.fromarray(drawn).convert("L"), np.float64) * (255 - _DARKEST) / 255
        drawn = (SHARE * coloured + (1 - SHARE) * grey[:, :, None]).round().astype(np.uint8)
    file = BytesIO()
    Image.fromarray(drawn).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def _colours(view: PatchesView) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, or plain grey of its patches' shape where it is gone."""
    if view.colours is not None:
        return view.colours
    rows, columns = view.values.shape
    return np.full((8 * rows, 8 * columns, 3), 190, np.uint8)


def _size(height: int, width: int) -> tuple[int, int]:
    """Large pictures are reduced; the page enlarges small ones."""
    shrink = min(1.0, SIDE / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def patches_spoken(values: Float[np.ndarray, "row column"]) -> str:
    """What a heat map says, for whoever does not see it."""
    rows, columns = values.shape
    active = int((values > 0).sum())
    if not active:
        return f"none of its {rows} by {columns} patches is active"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return (
        f"{active} of its {rows} by {columns} patches are active, the most in row {int(row) + 1}, column "
        f"{int(column) + 1}: {float(values.max()):.3g}"
    )


def density_bins(densities: Sequence[float], count: int = 40) -> HistogramView:
    """Latents by density, in bins of even width in the logarithm; dead ones are left out."""
    alive = np.array([each for each in densities if each > 0])
    if not len(alive):
        return HistogramView((1e-3, 1.0), (0,))
    low, high = float(np.log10(alive.min())), float(np.log10(alive.max()))
    if high - low < 0.1:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.log10(alive), count, (low, high))
    return HistogramView(tuple(float(each) for each in 10**edges), tuple(int(each) for each in counts))
