"""``pellucid composites``: the rules that relevance is traced by."""

from typing import TYPE_CHECKING, Any

from pellucid.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from pellucid.relevance import Composite


def composites(name: options.MaybeComposite = None, as_json: options.AsJson = False) -> None:
    """List the composites that relevance is traced by; with a NAME, the rules of one.

    Example: pellucid composites attnlrp
    """
    from pellucid.relevance import all_composites, composite

    if name is not None:
        one(composite(name), as_json)
        return
    known = [*all_composites().values()]
    if as_json:
        output.document([facts_of(each) for each in known])
        return
    output.drawn(table(known))
    for each in known:
        if each.facts.notice:
            output.line(f"{each.name}: {each.facts.notice}")


def one(rules: "Composite", as_json: bool) -> None:
    """Print every rule of a composite, in the order in which they are looked up."""
    if as_json:
        # A kind of operation and a pattern of names are text; a type and a function have a name.
        named = [(key if isinstance(key, str) else key.__name__, repr(rule)) for key, rule in rules.items()]
        output.document(facts_of(rules) | {"rules": [{"key": str(key), "rule": rule} for key, rule in named]})
        return
    for line in repr(rules).splitlines():
        output.line(line)
    for line in filter(None, (rules.facts.source, rules.facts.notice)):
        output.line(line)


def facts_of(rules: "Composite") -> dict[str, Any]:
    """The facts of a composite and what it carries, as plain JSON values."""
    return rules.facts.to_dict() | {"carrier": rules.carrier}


def table(known: "Sequence[Composite]") -> "Table":
    """One row a composite."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("name", "title", "carries", "class-specific", "conserving", "cost"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading in ("name", "carries"))
    for each in known:
        flags = ["yes" if flag else "-" for flag in (each.facts.class_specific, each.facts.conserving)]
        cells = [each.name, each.facts.title, f"the {each.carrier}", *flags, each.facts.cost]
        drawn.add_row(*(Text(cell) for cell in cells))
    return drawn
