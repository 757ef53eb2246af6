"""Who takes part in a benchmark: pellucid's methods and those of other libraries, each with its settings and budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from pellucid.benchmark.peers import absent_peers, all_peers
from pellucid.errors import InputError, UnknownNameError
from pellucid.facts import Facts, Family, Modality
from pellucid.methods import AbstractMethod, all_methods, budgets

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
        return budgets.sample_size(self.kind)

    @property
    def plays(self) -> bool:
        """Whether it asks for coalitions, each of which costs as many rows as the imputer draws."""
        return budgets.plays(self.kind)

    def method(self, players: int, rows: int, draws: int = 1) -> AbstractMethod:
        """The method for an input of so many features and so many rows; see ``methods.budgets.within``."""
        return budgets.within(self.kind, self.settings, players, rows, draws)


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
