"""What a leaderboard means, in sentences: who wins what, what cannot be told apart, and who loses to random."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from pellucid.report.heatmap import digits
from pellucid.report.leaderboard import LEVEL, Board, MetricTable, Standing

FAMILIES = {
    "removal": "does the output change when what an explanation marks is taken away, and only then?",
    "correlation": "do the scores follow what the model does when features are taken away?",
    "randomisation": "does the explanation look at the model at all? It must change when the weights do.",
    "robustness": "does it hold still when the input hardly changes?",
    "plausibility": "does it point where people point? That asks about people, not about the model.",
    "axioms": "does it keep the promises that its method makes?",
    "complexity": "how many features does it mark? A control, not a quality.",
}
"""What each family of metrics asks."""
NO_BETTER, AT_HOME, DISPUTED = "not above random", "at home", "means and ranks disagree"
CAUTIONS = {
    NO_BETTER: "its interval holds the mean of the random row, or lies beyond it",
    AT_HOME: "the baseline of the method is the imputer of the metric",
    DISPUTED: "the test of ranks tells another entrant from it, and the means do not bear that out",
}
"""What can be wrong with a victory, and what that means."""
_NAMED = 4
"""Entrants that a sentence names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Who wins under one metric."""

    table: MetricTable
    """The metric."""
    best: Standing
    """The first in rank."""
    alike: tuple[str, ...]
    """Entrants that cannot be told apart from it."""
    worse: int
    """Entrants that can."""
    against: str
    """Pellucid's best method against the best peer: better, alike, worse, or empty where one side has no entrant."""
    other: str
    """The best entrant of the side that did not win; empty where there is none."""
    cautions: tuple[str, ...]
    """What is wrong with the victory, of ``CAUTIONS``."""
    disputed: tuple[str, ...] = ()
    """Those of the alike whose ranks differ from its own, though the means do not bear it out."""


def ranked(table: MetricTable) -> list[Standing]:
    """Methods and peers that take part in the ranking, the best first."""
    return sorted((each for each in table.standings if each.rank is not None), key=lambda each: each.rank or 0.0)


def is_alike(standing: Standing) -> bool:
    """Whether it cannot be told apart from the best; so too where no test could be made."""
    return not standing.is_worse


def outcome(table: MetricTable) -> Outcome | None:
    """Who wins; None for a control, for a metric that is not valid, and where nobody is ranked."""
    if not table.valid or table.higher_is_better is None or not (order := ranked(table)):
        return None
    best, *rest = order
    alike = tuple(each.entrant for each in rest if is_alike(each))
    other = next((each for each in rest if each.kind != best.kind), None)
    return Outcome(
        table=table,
        best=best,
        alike=alike,
        worse=len(rest) - len(alike),
        against=_against(best, other),
        other=other.entrant if other else "",
        cautions=tuple(_cautions(table, best)),
        disputed=tuple(each.entrant for each in rest if each.is_disputed),
    )


def _against(best: Standing, other: Standing | None) -> str:
    if other is None:
        return ""
    if is_alike(other):
        return "alike"
    return "better" if best.kind == "method" else "worse"


def _cautions(table: MetricTable, best: Standing) -> Iterator[str]:
    """Whether random does as well, and whether the winner plays with its own imputer."""
    chance = next((each for each in table.standings if each.kind == "reference" and each.entrant == "random"), None)
    end = best.low if table.higher_is_better else best.high
    if chance is not None and (end <= chance.mean if table.higher_is_better else end >= chance.mean):
        yield NO_BETTER
    if best.entrant in table.same_imputer:
        yield AT_HOME
    if any(each.is_disputed for each in ranked(table)):
        yield DISPUTED


def outcomes(board: Board) -> list[Outcome]:
    """Who wins under each metric that has a winner."""
    return [found for found in map(outcome, board.tables) if found is not None]


def winner_in_words(found: Outcome, name: str) -> str:
    """Who leads under a metric of that name, with its interval, and whom it cannot be told apart from."""
    best = found.best
    told = [f"{name}: {best.entrant} leads with {interval(best.mean, best.low, best.high)}"]
    if found.alike:
        told.append(f"cannot be told apart from {listed(found.alike)}")
    if found.worse:
        told.append(f"is better than {counted(found.worse, 'other' if found.alike else 'entrant')}")
    caution = f" It is {NO_BETTER}." if NO_BETTER in found.cautions else ""
    return f"{'; '.join(told)}.{caution}{disputed_in_words(found)}"


def disputed_in_words(found: Outcome) -> str:
    """Whom the test of ranks tells from the best while the means do not, with a space before it; empty for nobody."""
    by_rank = {each.entrant: each for each in found.table.standings if each.entrant in found.disputed}
    above = [name for name, each in by_rank.items() if (each.win_rate or 0.0) > 0.5]
    rest = [name for name in by_rank if name not in above]
    told = ""
    if above:
        told = (
            f" Mean and rank test disagree: {listed(above)} {'scores' if len(above) == 1 else 'score'} better than "
            f"{found.best.entrant} on most inputs, p < {LEVEL}, with a worse mean."
        )
    if rest:
        told += (
            f" The rank test tells {listed(rest)} from {found.best.entrant}, p < {LEVEL}, but mean difference and "
            "share of wins do not bear it out."
        )
    return told


def peers_in_words(found: Sequence[Outcome]) -> str:
    """On how many metrics pellucid's best method is better, alike or worse than the best peer; empty without peers."""
    told = [each.against for each in found if each.against]
    if not told:
        return ""
    return (
        f"The best method of pellucid against the best peer, on {counted(len(told), 'metric')}: "
        f"better on {told.count('better')}, not told apart on {told.count('alike')}, worse on {told.count('worse')}."
    )


def headline(board: Board) -> list[str]:
    """The sentences that a reader takes home: one for the first metric of each family, then the peers."""
    found, names = outcomes(board), short_names(board.tables)
    told: list[str] = []
    seen: set[str] = set()
    for each in found:
        if each.table.family not in seen:
            seen.add(each.table.family)
            told.append(winner_in_words(each, names[each.table.name]))
    if not found:
        told.append("No metric that passed the validity gate has a ranked entrant, so there is no winner.")
    withheld = [table for table in board.tables if not table.valid]
    for tried, said in ((True, "failed the validity gate"), (False, "not tried by the validity gate")):
        if count := sum(table.is_tried is tried for table in withheld):
            were, verb = ("" if tried else "was " if count == 1 else "were "), "show" if count > 1 else "shows"
            told.append(f"{counted(count, 'metric')} {were}{said} and {verb} no numbers.")
    return [*told, *filter(None, [peers_in_words(found)])]


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Names in a sentence; beyond ``most`` they are counted.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=1)
    ('a and b', 'a and 2 more')
    """
    shown = list(names) if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def counted(count: int, noun: str) -> str:
    """A count with its noun.

    >>> counted(1, "metric"), counted(2, "metric")
    ('1 metric', '2 metrics')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def titled(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def interval(mean: float, low: float, high: float, signed: bool = False) -> str:
    """An estimate with its ends, or without any where they are not known, as of a single input.

    >>> interval(0.5, float("nan"), float("nan"))
    '0.500 [no interval]'
    """
    if not (isfinite(low) and isfinite(high)):
        return f"{digits(mean, signed)} [no interval]"
    return f"{digits(mean, signed)} [{digits(low, signed)}, {digits(high, signed)}]"


def short_names(tables: Sequence[MetricTable]) -> Mapping[str, str]:
    """Whole name to the shortest that tells the metrics of one page apart: without conditions that they all share."""
    parts = {table.name: _conditions(table.name) for table in tables}
    found = {}
    for table in tables:
        same = [parts[other.name] for other in tables if other.metric == table.metric]
        own = [part for part in parts[table.name] if any(part not in each for each in same)]
        found[table.name] = f"{table.metric} · {', '.join(own)}" if own else table.metric
    return found


def _conditions(name: str) -> list[str]:
    _, _, bracket = name.partition("[")
    return [part.strip() for part in bracket.rstrip("]").split(",") if part.strip()]


def amount(value: float) -> str:
    """A count or a duration for a table: whole from 100 on, otherwise three digits.

    >>> amount(20480.0), amount(12.34), amount(0.0123)
    ('20,480', '12.3', '0.0123')
    """
    if not isfinite(value):
        return digits(value)
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def memory(size: float | None) -> str:
    """Bytes for people; a dash where they are not known.

    >>> memory(5.2e7), memory(4096.0)
    ('49.6 MiB', '4 KiB')
    """
    if size is None:
        return "\N{EN DASH}"
    return f"{amount(size / 2**20)} MiB" if abs(size) >= 2**20 else f"{amount(size / 2**10)} KiB"
