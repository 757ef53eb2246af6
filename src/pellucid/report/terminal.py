"""An explanation in a terminal: checks first, then bars whose sign is a glyph as well as a colour."""

from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pellucid.account import Entry
from pellucid.explanation import Explanation
from pellucid.records import Checks
from pellucid.report.accounts import AMOUNTS, account_chart, in_words
from pellucid.report.blocks import Blocks
from pellucid.report.colour import NEGATIVE, POSITIVE, VIK, ink_on
from pellucid.report.heatmap import MINUS, Cell, by_strength, cell, digits, errors, in_sum, limit_of, totals
from pellucid.report.view import AttributionView, plural
from pellucid.report.visible import visible

WIDTH = 100
"""Columns of the plain text."""
BAR = 12
"""Columns of the longest bar, on either side."""
MOST_ROWS = 24
"""Rows shown; of more features only the strongest, and the rest is counted."""


def _state(checks: Checks) -> Text:
    """The verdict, before any number."""
    reliable = checks.reliable
    if reliable:
        return Text("✓ reliable", style="bold green")
    if reliable is False:
        return Text("✗ NOT RELIABLE", style="bold red")
    return Text("○ not checked: nothing was run that could tell whether to rely on this", style="bold yellow")


def _evidence(checks: Checks) -> Text:
    lines = Text().append_text(_state(checks))
    for item in sorted(checks.items, key=lambda item: item.passed is not False):
        glyph = {True: "✓", False: "✗", None: "·"}[item.passed]
        lines.append(
            f"\n  {glyph} {visible(item.name)}: {visible(item.detail)}", style="red" if item.passed is False else ""
        )
    return lines


def _bar(drawn: Cell, value: float, limit: float) -> Text:
    """A bar that grows from the middle: − to the left, + to the right."""
    length = min(BAR, round(BAR * abs(value) / limit)) if limit and value == value else 0
    if value < 0:
        return Text(f"{MINUS * length:>{BAR}}│{'':{BAR}}", style=NEGATIVE)
    return Text(f"{'':{BAR}}│{'+' * length:<{BAR}}", style=POSITIVE)


def _running_text(view: AttributionView, values: list[float], limit: float) -> Text:
    """The text with a coloured ground; on a terminal without colours the bars below carry everything."""
    text = Text()
    for feature, value in zip(view.features, values, strict=True):
        ground = VIK[cell(value, limit).stop]
        style = "dim" if feature.role == "template" else f"{ink_on(ground)} on {ground}"
        text.append(visible(feature.label or "", 80), style=style)
        text.append("" if view.kind == "token" else " ")
    return text


def _table(view: AttributionView, values: list[float], limit: float) -> Table:
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="bold")
    table.add_column(view.kind, max_width=24, overflow="fold")
    if view.is_named:
        table.add_column("given" if view.kind == "column" else "text", max_width=28, overflow="fold")
    table.add_column(MINUS + " " * (2 * BAR - 1) + "+", no_wrap=True, min_width=2 * BAR + 1)
    table.add_column(view.unit, justify="right", no_wrap=True)
    if view.standard_error is not None and len(view.values) == 1:
        table.add_column("± SE", justify="right", no_wrap=True)
    kept, spreads = by_strength(values)[:MOST_ROWS], errors(view)
    for index in kept if view.is_pictorial or view.firings is not None else sorted(kept):
        feature, value, error = view.features[index], values[index], spreads[index]
        drawn = cell(value, limit, error)
        name = Text(visible(feature.label or "", 60), style="dim" if feature.role == "template" else "")
        text = [Text(visible(feature.text or "", 60))] if view.is_named else []
        spread = [Text(drawn.error)] if error is not None else []
        table.add_row(name, *text, _bar(drawn, value, limit), Text(drawn.number), *spread)
    return table


def _account(entries: tuple[Entry, ...]) -> Table:
    """One line for each kind of operation, the largest leak first."""
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="bold")
    table.add_column("operation", max_width=30, overflow="fold")
    for name in AMOUNTS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in account_chart(entries).rows[:MOST_ROWS]:
        numbers = [Text(bar.number, style="bold red" if bar.alarming else "") for bar in row.bars]
        table.add_row(Text(visible(row.operation, 60)), *numbers)
    return table


def _balance(view: AttributionView) -> str:
    full = digits(sum(view.full_values), True)
    if not view.is_of_target:
        return f"{view.target_unit} {full} on the input; the scores are no shares of it"
    return f"{digits(sum(view.base_values), True)} on the baseline ({visible(view.baseline, 80)}), {full} on the input"


def _scores(view: AttributionView, limit: float) -> list[RenderableType]:
    """The features as running text, where they are that, and as bars."""
    values, parts = totals(view), list[RenderableType]()
    if not view.is_named and not view.is_pictorial:
        parts += [_running_text(view, values, limit), Text()]
    parts.append(_table(view, values, limit))
    if len(values) > MOST_ROWS:
        parts.append(Text(f"the {MOST_ROWS} strongest of {len(values)} {plural(view.kind)}", style="dim"))
    return parts


def explanation_renderable(explanation: Explanation) -> RenderableType:
    """The explanation for a rich console, in colour."""
    view = AttributionView.of(explanation)
    limit = limit_of(view)
    of = "the sum over " + ", ".join(visible(name, 20) for name in view.output_names)
    target = of if len(view.output_names) > 1 else repr(visible(view.output_names[0], 60)) if view.output_names else ""
    parts: list[RenderableType] = [
        _evidence(view.checks),
        Text(f"\n{view.method}: {view.unit} of {target}", style="bold"),
        Text(_balance(view) + "\n"),
    ]
    if view.picture is not None:
        parts.append(Blocks(view))
    for half in view.halves:
        parts += _scores(half, limit)
    if len(view.halves) > 1:
        parts.append(Text(in_sum(view), style="dim"))
    if view.firings is not None:
        told = view.firings
        parts.append(
            Text(
                f"{told.active} latents of {visible(told.name, 60)} are active at {visible(told.site, 60)}; they leave "
                f"{told.error_share:.1%} unexplained there",
                style="dim",
            )
        )
    if view.account:
        parts += [Text("\nwhere the relevance went", style="bold"), _account(view.account)]
        parts.append(Text(in_words(view.account, view.unit), style="dim"))
    if view.notice:
        parts.append(Text(f"\n{visible(view.notice, 1200)}", style="dim"))
    cost = view.cost
    parts.append(Text(f"\n{cost.forwards} forward passes, {cost.rows} rows, {cost.seconds:.2f} s", style="dim"))
    return Group(*parts)


def explanation_text(explanation: Explanation) -> str:
    """The explanation as plain text, the same on every terminal."""
    console = Console(
        file=StringIO(), width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False, _environ={}
    )
    with console.capture() as capture:
        console.print(explanation_renderable(explanation))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n") + "\n"
