"""The pictures of an explanation as matplotlib figures, for papers and slides. Needs the extra ``plots``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pellucid.account import Entry
from pellucid.errors import InputError, MissingPackageError, UnknownNameError
from pellucid.explanation import Explanation
from pellucid.report import experts as mixtures
from pellucid.report import overlays, pictures, places
from pellucid.report.accounts import AMOUNTS, account_chart
from pellucid.report.colour import VIK, ink_on, stop_of
from pellucid.report.grid import layer_rows, runs, scale, short
from pellucid.report.view import AttributionView
from pellucid.report.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

VIEWS = ("heat", "contour", "top-k")
"""How a picture can be viewed under its attributions."""

# Inches: a cell of a map, what stands beside and below it, and a bar of the account.
_CELL, _BESIDE, _BELOW, _BAR = (0.13, 0.3), 2.2, 1.1, 0.13
# Characters of a line of text below a picture, and inches from one line to the next.
_COLUMNS, _LINE = 72, 0.25
_FILLS = {"in": "#565d66", "out": "#1d5c7d", "absorbed": "none", "leaked": "#a3201a"}


def layers(explanation: Explanation, target: int | None = None) -> "Figure":
    """The relevance of every feature at every layer, from the input at the bottom up.

    Args:
        explanation: one by a method that passes through layers.
        target: index of the target; None: the sum over all.

    Raises:
        InputError: it has no ``layer_values``, or no such target.
        MissingPackageError: matplotlib is not installed.
    """
    if explanation.layer_values is None:
        raise InputError(
            f"{explanation.method} gave no layer_values, so there is no map of layers; use a relevance method."
        )
    if target is not None:
        _require_target(explanation, target)
    view = AttributionView.of(explanation)
    return _map(view, view.layer_names[::-1], layer_rows(view, target), _named(view, target))


def experts(explanation: Explanation, layer: int | None = None, target: int | None = None) -> "Figure":
    """The relevance of what every expert gave: every layer over its experts, or one layer's experts over the features.

    Args:
        explanation: one of a network with a mixture of experts, by a relevance method.
        layer: index into ``expert_layer_names``; None: all layers, in sum over the features.
        target: index of the target; None: the sum over all.

    Raises:
        InputError: it has no ``expert_values``, or no such layer or target.
        MissingPackageError: matplotlib is not installed.
    """
    view = AttributionView.of(explanation)
    if view.experts is None:
        raise InputError(
            f"{explanation.method} gave no expert_values, so there is no map of experts; use a relevance method on a "
            "language model that has a mixture of experts."
        )
    if target is not None:
        _require_target(explanation, target)
    count = len(view.experts.names)
    if layer is None:
        rows, names = mixtures.layer_rows(view.experts, target), mixtures.short_names(view.experts.names)[::-1]
        heads = replace(view, features=tuple(mixtures.columns(view.experts)))
        return _map(heads, names, rows, f"experts, {_named(view, target)}")
    if not 0 <= layer < count:
        raise InputError(f"there is no layer {layer}; the explanation has {count} with experts, counted from 0.")
    found, rows = mixtures.feature_rows(view.experts, layer, target)
    return _map(view, found, rows, f"{view.experts.names[layer]}, {_named(view, target)}")


def matrix(explanation: Explanation) -> "Figure":
    """Every target, from the top in their order, over every feature. Raises MissingPackageError."""
    view = AttributionView.of(explanation)
    return _map(view, view.output_names, view.values, f"{len(view.output_names)} targets")


def account(explained: Explanation | Sequence[Entry]) -> "Figure":
    """What came into each kind of operation, and what it handed on, absorbed and leaked; the largest leak on top.

    Raises:
        InputError: no account was kept.
        MissingPackageError: matplotlib is not installed.
    """
    entries = explained.account if isinstance(explained, Explanation) else explained
    if not entries:
        raise InputError("no conservation account was kept, so there is nothing to draw; ask for account=True.")
    rows = account_chart(entries).rows
    figure = _figure(8.0, 1.2 + _BAR * (len(AMOUNTS) + 1) * len(rows))
    axes = figure.subplots()
    middle = (len(AMOUNTS) - 1) / 2
    for index, name in enumerate(AMOUNTS):
        amounts = [_finite(row.bars[index].amount) for row in rows]
        places = [place + (index - middle) * 0.2 for place in range(len(rows))]
        line = "#1a1d21" if name == "absorbed" else "none"
        axes.barh(places, amounts, 0.18, color=_FILLS[name], edgecolor=line, linewidth=0.8, label=name)
    for place, row in enumerate(rows):
        leak = row.bars[AMOUNTS.index("leaked")]
        if leak.alarming:
            at = max(0.0, _finite(leak.amount))
            words = f" leaked {leak.number}"
            axes.text(at, place + middle * 0.2, words, color=_FILLS["leaked"], fontsize=8, va="center")
    axes.set_yticks(range(len(rows)), [visible(row.operation, 40) for row in rows], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color="#1a1d21", linewidth=0.8)
    unit = explained.unit if isinstance(explained, Explanation) else "unit of the target"
    axes.set_xlabel(f"relevance, {visible(unit)}", parse_math=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def overlay(explanation: Explanation, target: int = 0, view: str = "heat") -> "Figure":
    """The picture under the attributions of one target: a heat map, lines of equal strength, or the strongest tenth.

    Of a picture with a text about it the text stands below, its words on the same scale.

    Raises:
        InputError: the explanation has no picture, no such target, or there is no such view.
        MissingPackageError: matplotlib is not installed.
    """
    if explanation.picture is None:
        raise InputError("the explanation has no picture to lay anything over; its input is not an image.")
    if view not in VIEWS:
        raise UnknownNameError("view of a picture", view, VIEWS)
    _require_target(explanation, target)
    drawn, *texts = AttributionView.of(explanation).halves
    limit, picture = pictures.limit_of_targets(drawn), drawn.picture
    assert picture is not None
    draw: dict[str, Callable[[], tuple[pictures.Colours, str]]] = {
        "heat": lambda: (places.marked(pictures.heat(drawn, target, limit), picture), places.place_in_words(picture)),
        "contour": lambda: (overlays.contours(drawn, target), overlays.lines_in_words(drawn, target)),
        "top-k": lambda: (overlays.top_mask(drawn, target), overlays.mask_in_words(drawn, target)),
    }
    shown, words = draw[view]()
    lines = [_lines(text) for text in texts]
    heights = [5.0, *(_LINE * (len(each) + 1) for each in lines)]
    figure = _figure(6.0, sum(heights))
    axes, *below = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for place, text, each in zip(below, texts, lines, strict=True):
        _write(place, text.values[target], each, limit)
    axes.imshow(shown, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title("\n".join(filter(None, (_named(drawn, target), fill(words, 60)))), fontsize=9, parse_math=False)
    if view == "heat":
        figure.colorbar(_colours(limit), ax=axes, label=visible(drawn.unit), shrink=0.8)
    return figure


class _Word(NamedTuple):
    """A feature of a text in a line of it."""

    place: int
    """Index of the feature."""
    column: int
    """Characters to the left of it."""
    shown: str
    """What is drawn."""


def _lines(text: AttributionView) -> list[list[_Word]]:
    """The features of a text in lines of at most ``_COLUMNS`` characters, but for longer ones."""
    lines: list[list[_Word]] = [[]]
    column = 0
    for place, feature in enumerate(text.features):
        shown = visible((feature.label or "").strip(), _COLUMNS)
        if column and column + len(shown) > _COLUMNS:
            lines.append([])
            column = 0
        lines[-1].append(_Word(place, column, shown))
        column += len(shown) + 2
    return lines


def _write(axes: "Axes", values: Sequence[float], lines: list[list[_Word]], limit: float) -> None:
    """Lines of words on coloured grounds."""
    axes.set(xlim=(0, _COLUMNS), ylim=(len(lines), -1))
    axes.set_axis_off()
    for row, line in enumerate(lines):
        for word in line:
            ground = VIK[stop_of(values[word.place], limit)]
            box = {"facecolor": ground, "edgecolor": "none", "pad": 1.5}
            style: dict[str, Any] = {"color": ink_on(ground), "family": "monospace", "fontsize": 8, "va": "center"}
            axes.text(word.column, row, word.shown, bbox=box, parse_math=False, **style)


def _map(view: AttributionView, names: Sequence[str], rows: Sequence[Sequence[float]], title: str) -> "Figure":
    """A grid of colours, cut into bands that fit a page."""
    bands = runs(len(view.features))
    cell = max(_CELL[0], min(_CELL[1], 9 / max(1, len(bands[0]))))
    height = 0.5 + (_BELOW + min(cell, 0.2) * len(names)) * len(bands)
    figure = _figure(_BESIDE + cell * len(bands[0]), height)
    limit = scale(rows, view.features)
    colours, values = _colours(limit), np.asarray(rows, np.float64)
    every = figure.subplots(len(bands), 1, squeeze=False)[:, 0]
    for axes, band in zip(every, bands, strict=True):
        # Each band has the width of the widest, so that its cells are as large.
        part = np.full((len(names), len(bands[0])), np.nan)
        part[:, : len(band)] = values[:, band.start : band.stop]
        axes.imshow(part, cmap=colours.cmap, norm=colours.norm, aspect="auto", interpolation="nearest")
        heads = [short(view.features[place].label or "") for place in band]
        _ticks(axes, heads, [visible(name, 30) for name in names])
    figure.suptitle(f"{view.method}: {title}", fontsize=10, parse_math=False)
    long = min(0.9 * height, 4.0)
    beyond: Literal["both", "neither"] = "both" if bool((np.abs(values) > limit).any()) else "neither"
    figure.colorbar(
        colours, ax=list(every), label=visible(view.unit), shrink=long / height, aspect=long / 0.15, extend=beyond
    )
    return figure


def _ticks(axes: "Axes", heads: Sequence[str], names: Sequence[str]) -> None:
    axes.set_xticks(range(len(heads)), heads, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _colours(limit: float) -> "ScalarMappable":
    """The diverging map of all pictures, symmetric around 0."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    end = limit or 1.0
    return ScalarMappable(Normalize(-end, end), ListedColormap(VIK, name="vik"))


def _figure(width: float, height: float) -> "Figure":
    """An empty figure in inches, free of any global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib", "pip install 'pellucid[plots]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def _finite(amount: float) -> float:
    """0 in place of what has no length; its number says so."""
    return amount if isfinite(amount) else 0.0


def _named(view: AttributionView, target: int | None) -> str:
    if target is None and len(view.output_names) > 1:
        return f"the sum over {len(view.output_names)} targets"
    return f"“{visible(view.output_names[target or 0], 60)}”"


def _require_target(explanation: Explanation, target: int) -> None:
    count = len(explanation.output_names)
    if not 0 <= target < count:
        raise InputError(f"there is no target {target}; the explanation has {count}, counted from 0.")
