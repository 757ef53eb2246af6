"""The layer map in a terminal: the strongest features over some of the layers, as signed numbers."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pellucid.explanation import Explanation
from pellucid.report.colour import NEGATIVE, POSITIVE
from pellucid.report.grid import layer_rows, short
from pellucid.report.heatmap import by_strength, digits, totals
from pellucid.report.view import AttributionView, plural
from pellucid.report.visible import visible

MOST_FEATURES = 8
"""Columns: the features with the strongest scores at the input, in their order."""
MOST_LAYERS = 8
"""Rows where not every layer is asked for: the first, the last, and evenly between."""


def layers_renderable(explanation: Explanation, *, every: bool = False) -> RenderableType:
    """Relevance of the strongest features from the last layer down, summed over the targets; at the end the input's."""
    view = AttributionView.of(explanation)
    values = totals(view)
    written = [place for place, feature in enumerate(view.features) if feature.role == "input"]
    strongest = [place for place in by_strength(values) if place in written][:MOST_FEATURES]
    columns = sorted(strongest)
    names, rows = view.layer_names[::-1], layer_rows(view, None)
    shown = range(len(rows)) if every else evenly(len(rows), MOST_LAYERS)
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for place in columns:
        table.add_column(Text(short(view.features[place].label or "")), justify="right", no_wrap=True)
    for index in shown:
        table.add_row(Text(visible(names[index], 40)), *(_number(rows[index][place]) for place in columns))
    table.add_row(Text("input"), *(_number(values[place]) for place in columns))
    title = Text(f"\nrelevance by layer, {visible(view.unit)}", style="bold")
    counted = [
        f"{len(shown)} of {len(rows)} layers" if len(shown) < len(rows) else "",
        f"the {len(columns)} strongest of {len(written)} {plural(view.kind)}" if len(columns) < len(written) else "",
    ]
    said = ", ".join(filter(None, counted))
    return Group(title, table, *([Text(said, style="dim")] if said else []))


def evenly(count: int, most: int) -> list[int]:
    """At most so many of ``count`` places, the first and the last among them.

    >>> evenly(30, 8), evenly(3, 8)
    ([0, 4, 8, 12, 17, 21, 25, 29], [0, 1, 2])
    """
    if count <= most:
        return [*range(count)]
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]


def _number(value: float) -> Text:
    return Text(digits(value, signed=True), style=NEGATIVE if value < 0 else POSITIVE)
