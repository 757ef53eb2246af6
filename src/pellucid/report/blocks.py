"""A picture and its heat maps in a terminal: two pixels to a character, as its ink and its ground."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from rich.console import Console, ConsoleOptions, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from pellucid.report.heatmap import digits
from pellucid.report.pictures import Colours, colours, heat, limit_of_targets, scaled
from pellucid.report.view import AttributionView, PictureView
from pellucid.report.visible import visible

MOST_COLUMNS = 36
"""Characters that the longer side of a picture takes."""
MOST_TARGETS = 4
"""Targets whose heat map is drawn."""


class Blocks:
    """The picture beside the heat map of each target; nothing where a terminal has too few colours for that."""

    def __init__(self, view: AttributionView) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if console.color_system not in ("256", "truecolor") or options.ascii_only or self._view.picture is None:
            return
        view, picture = self._view, self._view.picture
        limit = limit_of_targets(view)
        drawn = [(colours(picture), "the picture")]
        for target, name in enumerate(view.output_names[:MOST_TARGETS]):
            drawn.append((heat(view, target, limit), visible(name, 30)))
        height, width = _size(picture, options.max_width)
        beside = max(1, (options.max_width + 2) // (width + 2))
        for start in range(0, len(drawn), beside):
            row = drawn[start : start + beside]
            table = Table.grid(padding=(0, 2))
            table.add_row(*(half_blocks(scaled(array, height, width)) for array, _ in row))
            table.add_row(*(Text(name, style="dim") for _, name in row))
            yield table
        scale = f"blue {digits(-limit, True)}, red {digits(limit, True)}"
        rest = len(view.output_names) - MOST_TARGETS
        more = f"; {rest} further targets are not drawn" if rest > 0 else ""
        yield Text(f"{scale}{more}\n", style="dim")


def half_blocks(array: Colours) -> Text:
    """Rows of ``▀``; the last ground stays bare where the height is odd."""
    lines = []
    for top in range(0, len(array), 2):
        line = Text()
        for column in range(array.shape[1]):
            ground = array[top + 1, column] if top + 1 < len(array) else None
            line.append("▀", Style(color=_hex(array[top, column]), bgcolor=None if ground is None else _hex(ground)))
        lines.append(line)
    return Text("\n").join(lines)


def _size(picture: PictureView, room: int) -> tuple[int, int]:
    shrink = min(1.0, min(MOST_COLUMNS, room) / max(picture.height, picture.width))
    return max(1, round(picture.height * shrink)), max(1, round(picture.width * shrink))


def _hex(shade: UInt8[np.ndarray, " 3"]) -> str:
    return "#" + "".join(f"{part:02x}" for part in shade.tolist())
