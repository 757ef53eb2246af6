"""Who takes part in a benchmark: pellucid's methods and those of other libraries, each with its settings and budget."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, NamedTuple, get_args

from pellucid.benchmark.peers import absent_peers, all_peers
from pellucid.errors import InputError, UnknownNameError
from pellucid.facts import Facts, Family, Modality
from pellucid.methods import AbstractMethod, all_methods

BUDGETS = ("samples", "permutations")
"""Settings that say how much a method draws."""
DIFFERENTIATED = 3
"""What a row that is differentiated costs, in rows that are not: one pass forward, and one of twice the work back."""
LEAST_ROWS, ROWS_EACH = 50, 4
"""Rows that every method that draws may spend on an input by default: 50, and 4 more for each feature, times the rows
of a coalition where the imputer draws."""
MOST_EVALUATIONS = 4096
"""Coalitions, or rows, that a method of a fixed price may ask for on an input."""
GROUPS = ("all", "pellucid", "peers")


@dataclass(frozen=True)
class Entrant:
    """One method, with the settings that hold for every input."""

    kind: type[AbstractMethod]
    """The method."""
    is_peer: bool = False
    """Whether it is another library's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings other than the default."""
    tuned: bool = False
    """Whether they were chosen on the tuning split."""

    @property
    def facts(self) -> Facts:
        """What the method declares."""
        return self.kind.facts

    @property
    def name(self) -> str:
        """The method's name; a peer's begins with its library."""
        return self.facts.name

    @property
    def budget(self) -> str | None:
        """The setting that says how much it draws; None for a method whose price is fixed."""
        known = [name for name in BUDGETS if name in self.kind.model_fields]
        return known[0] if known else None

    @property
    def plays(self) -> bool:
        """Whether it asks for coalitions, each of which costs as many rows as the imputer draws."""
        return self.facts.family == "perturbation" and "baseline" in self.facts.needs

    def method(self, players: int, rows: int, draws: int = 1) -> AbstractMethod:
        """The method for an input of so many features: one that draws gets the largest sample that ``rows`` pay for.

        draws: rows of a coalition.  Raises InputError where the smallest sample is dearer, or where a method of a
        fixed price asks for more than ``MOST_EVALUATIONS``.
        """
        price = draws if self.plays else DIFFERENTIATED if self.facts.family == "gradient" else 1
        evaluations = rows // price
        if self.budget is not None and self.budget not in self.settings:
            return _largest(self.kind, tuple(sorted(self.settings.items())), self.budget, players, evaluations)
        made = self.kind(**self.settings)
        if made.rows(players) > max(evaluations, MOST_EVALUATIONS):
            raise InputError(
                f"{self.name} asks for {made.rows(players):,} evaluations on an input of {players} features, and at "
                f"most {max(evaluations, MOST_EVALUATIONS):,} are given."
            )
        return made


def default_rows(players: int, draws: int = 1) -> int:
    """What every method that draws may spend on an input of so many features, where nobody says.

    >>> default_rows(20), default_rows(20, draws=100)
    (130, 13000)
    """
    return (LEAST_ROWS + ROWS_EACH * players) * draws


class Chosen(NamedTuple):
    """Who takes part, and who does not."""

    entrants: tuple[Entrant, ...]
    """Those who do."""
    absent: tuple[tuple[str, str], ...]
    """Name and reason of those who were asked for and cannot."""


def choose(selection: str, modality: Modality, differentiable: bool = True) -> Chosen:
    """The entrants that a selection names.

    Args:
        selection: names with commas between them: of methods, of peers (``captum:lime``), of families of methods, or
            ``all``, ``pellucid``, ``peers``.
        modality: the kind of input.
        differentiable: whether the model has gradients.

    Raises:
        UnknownNameError: a name that nothing has.
        InputError: nobody is left.
    """
    methods, peers, missing = all_methods(), all_peers(), absent_peers()
    names: dict[str, None] = {}
    for each in (part.strip() for part in selection.split(",")):
        names |= dict.fromkeys(_named(each, methods, peers, missing))
    found, absent = [], []
    for name in names:
        # A peer's library brings all of its methods: one line says that it is not there.
        if name in missing:
            absent.append((name, missing[name]))
            continue
        kind = methods.get(name) or peers[name]
        entrant = Entrant(kind, is_peer=name in peers)
        if reason := _obstacle(entrant, modality, differentiable):
            absent.append((name, reason))
        else:
            found.append(entrant)
    if not found:
        said = "; ".join(f"{name}: {reason}" for name, reason in absent)
        raise InputError(f"no method of {selection!r} can take part ({said}); name others, or all.")
    return Chosen(tuple(found), tuple(absent))


def _named(
    name: str,
    methods: Mapping[str, type[AbstractMethod]],
    peers: Mapping[str, type[AbstractMethod]],
    missing: Mapping[str, str],
) -> Sequence[str]:
    groups = {"all": [*methods, *peers, *missing], "pellucid": [*methods], "peers": [*peers, *missing]}
    if name in groups:
        return groups[name]
    if name in methods or name in peers or name in missing:
        return [name]
    if name.partition(":")[0] in missing:
        return [name.partition(":")[0]]
    if name in get_args(Family):
        return [each for each, kind in methods.items() if kind.facts.family == name]
    raise UnknownNameError("method", name, [*methods, *peers, *get_args(Family), *GROUPS])


def _obstacle(entrant: Entrant, modality: Modality, differentiable: bool) -> str:
    """Why an entrant cannot take part; empty where it can."""
    if modality not in entrant.facts.modalities:
        return f"it explains {', '.join(entrant.facts.modalities)}, and the inputs are {modality}"
    if "gradient" in entrant.facts.needs and not differentiable:
        return "it needs gradients, and the model has none"
    try:
        entrant.kind(**entrant.settings)
    except InputError as error:
        return str(error)
    return ""


@cache
def _largest(
    kind: type[AbstractMethod], settings: tuple[tuple[str, Any], ...], name: str, players: int, most: int
) -> AbstractMethod:
    """The method with the largest even sample whose declared evaluations are at most ``most``."""

    def made(half: int) -> AbstractMethod | None:
        try:
            return kind(**dict(settings), **{name: 2 * half})
        except InputError:
            return None

    def price(half: int) -> int:
        # Samples that are too small for the method come first.
        found = made(half)
        return 0 if found is None else found.rows(players)

    best = made(bisect_right(range(1, most + 1), most, key=price))
    if best is None:
        least = next(found.rows(players) for half in count(1) if (found := made(half)) is not None)
        raise InputError(
            f"{kind.facts.name} explains no input of {players} features within {most} evaluations; {least} is the "
            "least; give more by --rows."
        )
    return best
