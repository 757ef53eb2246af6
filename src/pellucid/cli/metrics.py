"""``pellucid metrics``: the table of facts."""

from pellucid.cli import options, output


def metrics(as_json: options.AsJson = False) -> None:
    """List the metrics: what each asks, which way is good, what chance gives, what it costs.

    Example: pellucid metrics --json
    """
    from rich.table import Table
    from rich.text import Text

    from pellucid.metrics import all_metrics

    facts = [metric.facts for metric in all_metrics().values()]
    if as_json:
        output.document([each.to_dict() for each in facts])
        return
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("name", "family", "good", "range", "chance", "needs", "model evaluations"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading in ("name", "family"))
    for each in facts:
        good = {True: "high", False: "low", None: "-"}[each.higher_is_better]
        low, high = each.range
        cells = [each.name, each.family, good, f"{low:.3g} .. {high:.3g}", each.chance or "-"]
        drawn.add_row(*(Text(cell) for cell in [*cells, ", ".join(each.needs) or "-", each.cost]))
    output.drawn(drawn)
