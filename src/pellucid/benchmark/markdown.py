"""A leaderboard as Markdown."""

from collections.abc import Iterable, Sequence
from math import isfinite

from pellucid.report.heatmap import digits
from pellucid.report.leaderboard import Board, MetricTable, Price, RankDiagram, Standing, TauMatrix
from pellucid.report.leaderboard_words import amount, disputed_in_words, headline, memory, outcome, short_names
from pellucid.report.leaderboard_words import interval as with_ends

DASH = "-"


def board_markdown(board: Board) -> str:
    """One leaderboard: what to read first, who wins, every metric, prices, and what failed."""
    parts = [
        f"# {_plain(board.title or board.task)}",
        f"Model `{board.model}`, target {board.target}, features: {board.features}; {board.inputs} inputs, "
        f"{board.clusters} independent.",
        *(f"**{_plain(note)}**" for note in board.notes),
        _list(headline(board)),
        *_metrics(board),
        *_families(board),
        *([] if board.diagram is None else [_diagram(board.diagram)]),
        *_agreement(board.tau, board.tables),
        *_prices(board.prices),
        *_titled("Failures", [f"{_failure(board, place)}" for place in range(len(board.failures))]),
        *_titled("Not taking part", [f"`{name}`: {reason}" for name, reason in board.absent]),
        *_titled("Provenance", [f"{name}: {value}" for name, value in board.provenance]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metrics(board: Board) -> list[str]:
    parts, prices = [], {price.entrant: price for price in board.prices}
    for table in board.tables:
        better = {True: "high is good", False: "low is good", None: "a control: neither is good"}
        parts += [
            f"## {table.name}",
            f"{_plain(table.title)} ({_plain(table.source)}), family {table.family}; "
            f"{better[table.higher_is_better]}; chance: {_plain(table.chance) or 'not known'}; on {table.inputs} "
            f"inputs, {table.clusters} independent.",
        ]
        if not table.valid:
            failed = [f"{name}: {detail}" for name, passed, detail in table.findings if not passed]
            verdict = "failed" if table.is_tried else "was not tried by"
            parts += [f"It {verdict} the validity gate, so no number is shown:", _list(failed)]
        elif table.standings:
            parts.append(_standings(table, prices))
            won = outcome(table)
            parts.append("" if won is None else _plain(disputed_in_words(won)))
        else:
            parts.append("No input has a score of everybody, so there is nothing to compare.")
    return parts


def _standings(table: MetricTable, prices: dict[str, Price]) -> str:
    header = ["rank", "entrant", "mean [95 %]", "0 random, 1 oracle", "to the best [95 %]", "p (Holm)", "wins", "rows"]
    return _table(header, [_row(each, table, prices.get(each.entrant)) for each in table.standings], left=(1,))


def _row(each: Standing, table: MetricTable, price: Price | None) -> list[str]:
    home = " (its own imputer)" if each.entrant in table.same_imputer else ""
    kind = "" if each.kind == "method" else f" *{each.kind}*"
    return [
        DASH if each.rank is None else f"{each.rank:g}",
        f"`{each.entrant}`{kind}{home}",
        _interval(each.mean, each.low, each.high),
        _number(each.normalised),
        DASH if each.difference is None else _interval(*each.difference, signed=True),
        _number(each.p_value),
        DASH if each.win_rate is None else f"{each.win_rate:.0%}",
        DASH if price is None else amount(price.rows),
    ]


def _families(board: Board) -> list[str]:
    lines = [
        f"{each.family} ({len(each.metrics)} metrics): "
        + "; ".join(f"`{entrant}` {rank:g}" for entrant, rank in each.ranks)
        for each in board.families
        if each.ranks
    ]
    return _titled("Median ranks within families", lines)


def _diagram(diagram: RankDiagram) -> str:
    groups = [", ".join(f"`{name}`" for name in group) for group in diagram.groups]
    ranks = "; ".join(f"`{name}` {rank:.2f}" for name, rank in diagram.ranks)
    return "\n\n".join(
        [
            "## Mean ranks over inputs",
            f"Under {diagram.metric}, on {diagram.blocks} independent inputs; Friedman's test: p = "
            f"{digits(diagram.p_value)}; ranks that differ by less than {diagram.critical_difference:.2f} (Nemenyi, "
            f"5 %) are not told apart. {ranks}.",
            _list(f"not told apart: {group}" for group in groups),
        ]
    )


def _agreement(tau: TauMatrix, tables: Sequence[MetricTable]) -> list[str]:
    if len(tau.metrics) < 2:
        return []
    names = short_names([table for table in tables if table.name in tau.metrics])
    shown = [names.get(metric, metric) for metric in tau.metrics]
    rows = [
        [str(place + 1), name, *(DASH if value is None else f"{value:.2f}" for value in row)]
        for place, (name, row) in enumerate(zip(shown, tau.values, strict=True))
    ]
    header = ["", "metric", *(str(place + 1) for place in range(len(shown)))]
    says = "Kendall's tau between the orders of the entrants: 1 is the same order, -1 the opposite one."
    return ["## How far metrics agree", says, _table(header, rows, left=(1,))]


def _prices(prices: Sequence[Price]) -> list[str]:
    if not prices:
        return []
    rows = [
        [
            f"`{each.entrant}`",
            amount(each.rows),
            amount(each.backwards),
            amount(each.seconds),
            memory(each.memory_bytes),
            (_plain(each.settings) or "defaults") + (" (tuned)" if each.tuned else ""),
        ]
        for each in sorted(prices, key=lambda each: each.rows)
    ]
    header = ["entrant", "rows", "differentiated", "seconds (median)", "memory (median)", "settings"]
    return ["## What an explanation of one input costs", _table(header, rows, left=(0, 5))]


def _failure(board: Board, place: int) -> str:
    each = board.failures[place]
    ranked = "ranked on the others" if each.ranked else "not ranked"
    return f"`{each.entrant}`: {each.inputs} of {each.of} inputs, {ranked}: {each.reason}"


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", _list(lines)] if lines else []


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    rule = [":--" if place in left else "--:" for place in range(len(header))]
    return "\n".join(f"| {' | '.join(_cell(each) for each in row)} |" for row in (header, rule, *rows))


def _cell(text: str) -> str:
    return _plain(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """One line, whatever it was."""
    return " ".join(text.split())


def _interval(mean: float, low: float, high: float, signed: bool = False) -> str:
    """An estimate with its ends, as far as there are any."""
    return with_ends(mean, low, high, signed) if isfinite(low) and isfinite(high) else digits(mean, signed)


def _number(value: float | None) -> str:
    return DASH if value is None else digits(value)
