"""Coloured grids of features: layers by features, and targets by features, cut into bands that fit a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple

from pellucid.report.colour import ZERO, stop_of
from pellucid.report.heatmap import cell, digits, largest
from pellucid.report.view import AttributionView, FeatureView
from pellucid.report.visible import visible

Width = Literal["wide", "medium", "narrow", "dense"]

MOST_COLUMNS = 80
"""Features side by side; of more the grid is cut into bands, one below the other like the lines of a text."""
MOST_NUMBERED = 4000
"""Cells of a grid that all carry their number; of a larger one those do whose colour is not that of 0."""
MOST_CELLS = 16_000
"""Cells that a page draws of single targets, on top of the grid of their sum."""
_LABEL = 14
# Columns up to which a cell is that wide: so a band is never wider than the page.
_WIDTHS: tuple[tuple[int, Width], ...] = ((26, "wide"), (52, "medium"), (64, "narrow"), (MOST_COLUMNS, "dense"))
_SIGNED, _TALL = 52, 16


class Square(NamedTuple):
    """One cell of a grid."""

    stop: int
    """Index into the colour map."""
    sign: str
    """Plus, minus, or nothing where the colour is faint."""
    spoken: str
    """Row, column and number, for hovering; empty in the neutral cells of a large grid."""


class Column(NamedTuple):
    """The head of a column."""

    label: str
    """The feature, cut short."""
    spoken: str
    """The feature, less short."""
    is_template: bool
    """Whether the chat template wrote it."""


class Row(NamedTuple):
    """One row of a band."""

    label: str
    """The layer or the target."""
    spoken: str
    """The same with the sum over all features."""
    squares: tuple[Square, ...]
    """From the first feature of the band to its last."""


class Band(NamedTuple):
    """A run of columns."""

    columns: tuple[Column, ...]
    """From left to right."""
    rows: tuple[Row, ...]
    """From the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid made ready to be drawn."""

    bands: tuple[Band, ...]
    """The columns, cut to the width of a page."""
    limit: float
    """The end of the colour scale."""
    clipped: bool
    """Whether some value lies beyond it."""
    width: Width
    """How wide a cell can be."""
    tall: bool
    """Whether a cell has room for its sign."""
    sparse: bool
    """Whether neutral cells carry no number."""


def layer_map(a: AttributionView, target: int | None = None) -> Grid:
    """Layers from the top down to the input, over the features; None: the sum over the targets."""
    return grid(a.layer_names[::-1], layer_rows(a, target), a.features)


def layer_rows(a: AttributionView, target: int | None) -> list[list[float]]:
    """Relevance as [layer][feature], the top layer first; None: the sum over the targets."""
    chosen = a.layer_values if target is None else a.layer_values[target : target + 1]
    rows = [[sum(values) for values in zip(*layer, strict=True)] for layer in zip(*chosen, strict=True)]
    return rows[::-1]


def answer_map(a: AttributionView) -> Grid:
    """Targets in their order, such as the tokens of an answer, over the features."""
    return grid(a.output_names, a.values, a.features, a.shared_limit)


def grid(
    names: Sequence[str], rows: Sequence[Sequence[float]], features: Sequence[FeatureView], limit: float = 0.0
) -> Grid:
    """Values [row][feature] on one scale, up to ``limit``; 0: as far as what the person wrote, not the template."""
    limit = limit or scale(rows, features)
    sparse = len(rows) * len(features) > MOST_NUMBERED
    cut = runs(len(features))
    return Grid(
        bands=tuple(_band(names, rows, features, run, limit, sparse) for run in cut),
        limit=limit,
        clipped=any(abs(value) > limit * (1 + 1e-6) for row in rows for value in row),
        width=next(name for most, name in _WIDTHS if len(cut[0]) <= most),
        tall=len(cut[0]) <= _SIGNED and len(rows) <= _TALL,
        sparse=sparse,
    )


def scale(rows: Sequence[Sequence[float]], features: Sequence[FeatureView]) -> float:
    """The largest magnitude over what the person wrote; over everything where they wrote nothing that scores."""
    written = [place for place, feature in enumerate(features) if feature.role == "input"]
    return largest(row[place] for row in rows for place in written) or largest(value for row in rows for value in row)


def runs(columns: int) -> list[range]:
    """The columns of each band, as many in each as nearly as can be.

    >>> runs(200)
    [range(0, 67), range(67, 134), range(134, 200)]
    """
    across = max(1, ceil(columns / max(1, ceil(columns / MOST_COLUMNS))))
    return [range(start, min(start + across, columns)) for start in range(0, columns, across)] or [range(0)]


def _band(
    names: Sequence[str],
    rows: Sequence[Sequence[float]],
    features: Sequence[FeatureView],
    run: range,
    limit: float,
    sparse: bool,
) -> Band:
    heads = [visible(feature.label or "", 40) for feature in features]

    def square(name: str, value: float, head: str) -> Square:
        drawn = cell(value, limit)
        spoken = "" if sparse and drawn.stop == ZERO else f"{name} · {head}: {drawn.number}"
        return Square(stop_of(value, limit), drawn.sign, spoken)

    labels = [visible(name, 40) for name in names]
    return Band(
        columns=tuple(
            Column(short(features[place].label or ""), heads[place], features[place].role == "template")
            for place in run
        ),
        rows=tuple(
            Row(
                label=label,
                spoken=f"{label}: {digits(sum(row), signed=True)} in sum",
                squares=tuple(square(label, row[place], heads[place]) for place in run),
            )
            for label, row in zip(labels, rows, strict=True)
        ),
    )


def short(label: str) -> str:
    """A column's label: without the space around it, and cut."""
    text = label.strip() or label
    return visible(text) if len(text) <= _LABEL else f"{visible(text[: _LABEL - 1])}…"
