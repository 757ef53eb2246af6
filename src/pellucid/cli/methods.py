"""``pellucid methods``: the table of facts."""

from typing import TYPE_CHECKING

from pellucid.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pellucid.facts import Facts


def methods(as_json: options.AsJson = False) -> None:
    """List the methods with what each needs, promises and costs.

    Example: pellucid methods --json
    """
    from pellucid.methods import all_methods

    facts = [method.facts for method in all_methods().values()]
    if as_json:
        output.document([each.to_dict() for each in facts])
        return
    output.drawn(table(facts))
    for each in facts:
        if each.notice:
            output.line(f"{each.name}: {each.notice}")


def table(facts: "Sequence[Facts]") -> "Table":
    """One row a method."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("name", "title", "family", "needs", "signed", "complete", "by class", "sampled", "cost"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading == "name")
    for each in facts:
        known = (each.signed, each.complete, each.class_specific, each.sampled)
        flags = ["yes" if flag else "-" for flag in known]
        cells = [each.name, each.title, each.family, ", ".join(each.needs) or "-", *flags, each.cost or "-"]
        drawn.add_row(*(Text(cell) for cell in cells))
    return drawn
