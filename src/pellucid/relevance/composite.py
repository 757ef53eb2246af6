"""A composite: an ordered mapping from parts of a network to what is done there."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import nn

from pellucid.errors import InputError
from pellucid.facts import Facts
from pellucid.relevance.operations import Kind, Operation, operation_of
from pellucid.relevance.rule import AbstractTreatment, AsIs, Carrier, Place

Key = str | type[nn.Module] | Callable[..., Any] | Kind
"""A pattern of module names, a type of module, a function of torch, or a kind of operation."""


class Composite(Mapping[Key, AbstractTreatment]):
    """An ordered mapping to rules, and the carrier that all of them share.

    A key is a pattern of module names (``"layer1.*"``), a type of module, a function of torch (``F.linear`` stands for
    every spelling of it) or a kind of operation, looked up in that order; among keys of one sort the first that fits.
    A rule that takes any kind of operation stands, under a name or a type, for the whole module as one operation.
    """

    def __init__(
        self,
        name: str,
        carrier: Carrier,
        rules: Mapping[Key, AbstractTreatment],
        facts: Facts,
        *,
        fallback: AbstractTreatment,
        otherwise: AbstractTreatment | None = None,
    ) -> None:
        self.name = name
        """What it is called."""
        self.carrier = carrier
        """What autograd carries."""
        self.facts = facts
        """What a person chooses it by."""
        self.fallback = fallback
        """What stands in, where that was asked for, for a rule that does not exist: the first-order one."""
        self.otherwise = otherwise
        """What is done with an operation that is in no table; None: it is refused."""
        self._rules = dict(rules)
        for key, rule in self._rules.items():
            self._check(key, rule)
        self._names = [(k, rule) for k, rule in self._rules.items() if isinstance(k, str) and not isinstance(k, Kind)]
        self.tells_residuals = _tells_residuals(self._rules)
        """Whether a residual sum may be treated unlike another; to tell them apart costs a walk through the graph."""
        self._types = [(k, rule) for k, rule in self._rules.items() if isinstance(k, type)]
        self._functions: dict[Any, AbstractTreatment] = {}
        # From the last to the first, so that the first of two spellings of an operation stands.
        for key, rule in reversed(self._rules.items()):
            if _is_function(key):
                operation = operation_of(cast(Callable[..., Any], key))
                self._functions[key if operation is None else operation.name] = rule

    def __getitem__(self, key: Key) -> AbstractTreatment:
        return self._rules[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def with_rule(self, key: Key, rule: AbstractTreatment) -> "Composite":
        """The composite with one more rule, which comes before those of the same sort of key.

        Raises InputError where the key is none, or the rule is one for another carrier.
        """
        rest = {each: old for each, old in self._rules.items() if each != key}
        return Composite(
            self.name, self.carrier, {key: rule, **rest}, self.facts, fallback=self.fallback, otherwise=self.otherwise
        )

    def named(self, name: str) -> "Composite":
        """The same composite under a name of its own, as registering it needs."""
        facts = replace(self.facts, name=name)
        return Composite(name, self.carrier, self._rules, facts, fallback=self.fallback, otherwise=self.otherwise)

    def of_module(self, place: Place) -> AbstractTreatment | None:
        """The rule that takes a whole module as one operation; None where there is none."""
        rule = self._of_place(place)
        return rule if rule is not None and rule.kinds is None else None

    def of_operation(self, place: Place, operation: Operation, kind: Kind) -> AbstractTreatment | None:
        """What is done with an operation in a module; None where nothing fits."""
        rule = self._of_place(place)
        if rule is not None and rule.kinds is not None and kind in rule.kinds:
            return rule
        rule = self._functions.get(operation.name)
        if rule is not None and (rule.kinds is None or kind in rule.kinds):
            return rule
        return self._rules.get(kind)

    def of_function(self, function: Callable[..., Any]) -> AbstractTreatment | None:
        """What is done with a function of torch that is in no table; None where nothing was said of it."""
        return self._functions.get(function)

    def _of_place(self, place: Place) -> AbstractTreatment | None:
        for pattern, rule in self._names:
            if fnmatchcase(place.name, pattern):
                return rule
        for kind, rule in self._types:
            if isinstance(place.module, kind):
                return rule
        return None

    def _check(self, key: Key, rule: AbstractTreatment) -> None:
        if not isinstance(rule, AbstractTreatment):
            raise InputError(f"{rule!r} is no rule: give an instance of a subclass of pellucid.relevance.AbstractRule.")
        if self.carrier not in rule.carriers:
            raise InputError(
                f"{rule!r} is a rule for the carrier {' or '.join(rule.carriers)}, and composite {self.name!r} carries "
                f"the {self.carrier}: the two cannot be mixed in one pass."
            )
        if isinstance(key, Kind) and rule.kinds is not None and key not in rule.kinds:
            kinds = ", ".join(sorted(rule.kinds))
            raise InputError(f"{rule!r} cannot treat operations of kind {str(key)!r}, only: {kinds}.")
        if isinstance(key, Kind | str) or (isinstance(key, type) and issubclass(key, nn.Module)):
            return
        if not _is_function(key):
            raise InputError(
                f"{key!r} is no key of a composite: give a pattern of module names, a subclass of torch.nn.Module, a "
                "function of torch such as torch.nn.functional.linear, or a pellucid.relevance.Kind."
            )

    def __repr__(self) -> str:
        lines = [f"    {_described(key):<16} {rule!r}" for key, rule in self._rules.items()]
        return f"Composite {self.name!r}, carrying the {self.carrier}\n" + "\n".join(lines)


def _tells_residuals(rules: Mapping[Key, AbstractTreatment]) -> bool:
    residual, other = rules.get(Kind.RESIDUAL), rules.get(Kind.SUM)
    alike = residual is other or (isinstance(residual, AsIs) and isinstance(other, AsIs))
    # A rule under a name, a type or a function may be one for residual sums alone.
    kinds = [rule.kinds for rule in rules.values() if rule.kinds is not None]
    return not alike or any((Kind.RESIDUAL in each) != (Kind.SUM in each) for each in kinds)


def _is_function(key: Key) -> bool:
    return callable(key) and not isinstance(key, type | str)


def _described(key: Key) -> str:
    if isinstance(key, Kind):
        return str(key)
    if isinstance(key, str):
        return repr(key)
    name = re.sub(r"^_*", "", getattr(key, "__name__", repr(key)))
    return name if isinstance(key, type) else f"{name}()"
