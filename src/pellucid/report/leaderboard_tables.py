"""The tables of a leaderboard: everything at a glance, one metric at a time, and how far metrics agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

from pellucid.report.colour import ZERO, stop_of
from pellucid.report.heatmap import MINUS, digits
from pellucid.report.leaderboard import Board, Disagreement, FamilyRanks, Kind, MetricTable, Price, Standing, TauMatrix
from pellucid.report.leaderboard_figures import Scale, Whisker, scale_of
from pellucid.report.leaderboard_words import interval, is_alike, ranked, short_names


@dataclass(frozen=True, slots=True)
class Cell:
    """A place in the table at a glance."""

    text: str
    """The rank; a dash where there is none."""
    spoken: str
    """The score in words, for hovering."""
    stop: int | None
    """Index into the colour map; None: no colour."""
    alike: bool = False
    """Whether it is the best or cannot be told apart from it."""
    opens: bool = False
    """Whether a family begins here."""


@dataclass(frozen=True, slots=True)
class GlanceRow:
    """One entrant under everything."""

    entrant: str
    kind: Kind
    family: str
    """Family of the method."""
    cells: tuple[Cell, ...]
    price: Price | None


@dataclass(frozen=True, slots=True)
class Glance:
    """Ranks of all entrants under all metrics, family by family."""

    families: tuple[tuple[str, int], ...]
    """Family and its number of columns."""
    columns: tuple[tuple[str, str, bool], ...]
    """Short name, whole name, and whether a family begins."""
    rows: tuple[GlanceRow, ...]
    """In the order of the first family's median rank."""


def glance(board: Board) -> Glance:
    """The ranks of a board; metrics without a winner (controls, invalid ones) are left out."""
    tables = [table for table in board.tables if table.valid and table.higher_is_better is not None]
    families = {each.family: each for each in board.families}
    groups = [(family, [table for table in tables if table.family == family]) for family in by_family(tables)]
    names, columns, spans = short_names(tables), [], []
    for family, mine in groups:
        middle = [("median", f"median rank over {family}", True)] if family in families and len(mine) > 1 else []
        own = [*middle, *((names[each.name], each.name, False) for each in mine)]
        columns += [(short, whole, index == 0) for index, (short, whole, _) in enumerate(own)]
        spans.append((family, len(own)))
    prices = {price.entrant: price for price in board.prices}
    rows = [
        GlanceRow(
            each.entrant, each.kind, each.family, _cells(each.entrant, groups, families), prices.get(each.entrant)
        )
        for each in _order(board, tables)
    ]
    return Glance(tuple(spans), tuple(columns), tuple(rows))


def by_family(tables: Sequence[MetricTable]) -> list[str]:
    """The families of metrics, in the order in which they first come."""
    return list(dict.fromkeys(table.family for table in tables))


def _order(board: Board, tables: Sequence[MetricTable]) -> list[Standing]:
    """Ranked entrants, those first that the first family ranks first."""
    found = {each.entrant: each for table in tables for each in ranked(table)}
    if not tables:
        return []
    lead = next((each.ranks for each in board.families if each.family == tables[0].family), ())
    first, own = dict(lead), {each.entrant: each.rank or inf for each in ranked(tables[0])}
    return sorted(
        found.values(), key=lambda each: (first.get(each.entrant, inf), own.get(each.entrant, inf), each.entrant)
    )


def _cells(
    entrant: str, groups: Sequence[tuple[str, Sequence[MetricTable]]], families: Mapping[str, FamilyRanks]
) -> tuple[Cell, ...]:
    found: list[Cell] = []
    for family, tables in groups:
        mine = [_cell(entrant, table) for table in tables]
        if family in families and len(tables) > 1:
            rank = dict(families[family].ranks).get(entrant)
            text = "\N{EN DASH}" if rank is None else f"{rank:g}"
            mine.insert(0, Cell(text, "median rank over the family", None))
        found += [Cell(each.text, each.spoken, each.stop, each.alike, index == 0) for index, each in enumerate(mine)]
    return tuple(found)


def _cell(entrant: str, table: MetricTable) -> Cell:
    mine = next((each for each in ranked(table) if each.entrant == entrant), None)
    if mine is None:
        return Cell("\N{EN DASH}", "not ranked", None)
    stop = None if mine.normalised is None else stop_of(-mine.normalised, 1.0)
    spoken = f"{entrant}, {table.name}: {interval(mine.mean, mine.low, mine.high)}"
    best = ranked(table)[0].entrant == entrant
    return Cell(f"{mine.rank:g}", spoken, stop, best or is_alike(mine))


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One entrant under one metric."""

    standing: Standing
    whisker: Whisker | None
    price: Price | None
    alike: bool
    """Whether it cannot be told apart from the best."""
    home: bool
    """Whether its own baseline is the metric's imputer."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """All entrants under one metric."""

    table: MetricTable
    scale: Scale
    rows: tuple[ScoreRow, ...]
    """Methods and peers."""
    references: tuple[ScoreRow, ...]
    """Rows that show what the scores mean."""
    lines: tuple[tuple[str, float], ...]
    """Reference rows as lines across the drawing: name and place."""
    has: Mapping[str, bool]
    """Which columns have anything in them."""


def score_table(table: MetricTable, prices: Sequence[Price]) -> ScoreTable:
    """The rows of a metric with what they cost."""
    scale, paid = scale_of(table), {price.entrant: price for price in prices}
    best = ranked(table)[0].entrant if ranked(table) else ""
    rows = [
        ScoreRow(
            standing=each,
            whisker=scale.whisker(each),
            price=paid.get(each.entrant),
            alike=each.rank is not None and each.entrant != best and is_alike(each),
            home=each.entrant in table.same_imputer,
        )
        for each in table.standings
    ]
    mine = tuple(row for row in rows if row.standing.kind != "reference")
    references = tuple(row for row in rows if row.standing.kind == "reference")
    drawn = [row for row in references if row.whisker is not None and not row.whisker.clipped]
    lines = tuple((row.standing.entrant, row.whisker.at) for row in drawn if row.whisker is not None)
    return ScoreTable(table, scale, mine, references, lines, _filled(rows))


def _filled(rows: Sequence[ScoreRow]) -> Mapping[str, bool]:
    standings = [row.standing for row in rows]
    prices = [row.price for row in rows if row.price is not None]
    return {
        "normalised": any(each.normalised is not None for each in standings),
        "difference": any(each.difference is not None for each in standings),
        "seeds": any(each.seeds is not None for each in standings),
        "undefined": any(each.undefined for each in standings),
        "price": bool(prices),
        "backwards": any(each.backwards for each in prices),
        "memory": any(each.memory_bytes is not None for each in prices),
    }


@dataclass(frozen=True, slots=True)
class TauRow:
    """One metric beside all others."""

    number: int
    name: str
    cells: tuple[tuple[str, int], ...]
    """Tau in digits, and an index into the colour map."""


def tau_rows(tau: TauMatrix, tables: Sequence[MetricTable]) -> list[TauRow]:
    """The matrix ready to be drawn: blue where two metrics order the entrants alike, red where they contradict."""
    names = short_names([table for table in tables if table.name in tau.metrics])
    return [
        TauRow(
            number=index + 1,
            name=names.get(metric, metric),
            cells=tuple(
                ("\N{EN DASH}", ZERO) if value is None else (_tau(value), stop_of(-value, 1.0)) for value in row
            ),
        )
        for index, (metric, row) in enumerate(zip(tau.metrics, tau.values, strict=True))
    ]


def _tau(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS).replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.0f}"


def agreement(tau: TauMatrix, names: Mapping[str, str]) -> tuple[str, str, float] | None:
    """The two metrics that contradict each other the most, and their tau; None with fewer than two."""
    pairs = [
        (value, names.get(tau.metrics[i], tau.metrics[i]), names.get(tau.metrics[j], tau.metrics[j]))
        for i, row in enumerate(tau.values)
        for j, value in enumerate(row[:i])
        if value is not None
    ]
    if not pairs:
        return None
    value, first, second = min(pairs)
    return first, second, value


@dataclass(frozen=True, slots=True)
class MapRow:
    """One winner's scores over the features of an input."""

    winner: str
    metric: str
    cells: tuple[tuple[str, str, int, str], ...]
    """Label, number, index into the colour map, and the sign where the colour is not faint."""


def maps(each: Disagreement, names: Mapping[str, str]) -> tuple[MapRow, MapRow]:
    """Both winners' heat maps, on one scale from -1 to 1."""

    def row(winner: str, metric: str, values: Sequence[float]) -> MapRow:
        cells = []
        for label, value in zip(each.features, values, strict=True):
            stop = stop_of(value, 1.0)
            sign = "" if abs(stop - ZERO) < 2 else "+" if stop > ZERO else MINUS
            cells.append((label, digits(value, signed=True), stop, sign))
        return MapRow(winner, names.get(metric, metric), tuple(cells))

    return (
        row(each.first_winner, each.first_metric, each.first_values),
        row(each.second_winner, each.second_metric, each.second_values),
    )


@dataclass(frozen=True, slots=True)
class FamilyView:
    """The metrics of one family."""

    name: str
    tables: tuple[ScoreTable, ...]
    """Those that are valid."""
    entrants: int
    """Methods and peers in the first of them."""


def families(board: Board) -> list[FamilyView]:
    """The valid metrics, family by family."""
    valid = sorted(
        (each for each in board.tables if each.valid), key=lambda each: by_family(board.tables).index(each.family)
    )
    found = []
    for name, group in groupby(valid, key=lambda each: each.family):
        tables = tuple(score_table(each, board.prices) for each in group)
        found.append(FamilyView(name, tables, len(tables[0].rows)))
    return found
