"""Keeping the account: what came into every operation of a pass, and where it went. It costs, so it is on demand."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from pellucid.account import Account, Entry
from pellucid.relevance.capture import sink
from pellucid.relevance.operations import Kind
from pellucid.relevance.rule import AbstractRule, AbstractTreatment, Call, Carrier, rewritten, same, traced

# What a softmax does not hand on is its residue, and absorbed: its terms compete, and the rule is its true gradient.
_RESIDUAL = frozenset({Kind.SOFTMAX, Kind.LOG_SOFTMAX, Kind.ATTENTION})

# What chooses between an operand and a constant: where the constant wins, all of it is the constant's.
_CHOOSING = frozenset({"maximum", "minimum", "fmax", "fmin"})


@dataclass
class _Line:
    """Sums of one operation."""

    call: Call
    arrived: float = 0.0
    handed_on: float = 0.0
    absorbed: float = 0.0
    keeps_rest: bool = False
    """Whether whatever is not handed on is absorbed."""

    def entry(self) -> Entry:
        absorbed = self.arrived - self.handed_on if self.keeps_rest else self.absorbed
        return Entry.of(
            self.call.operation.name,
            self.call.place.name,
            arrived=self.arrived,
            handed_on=self.handed_on,
            absorbed=absorbed,
        )


class Book:
    """The account of one pass."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._lines: list[_Line] = []

    def treat(self, call: Call, treatment: AbstractTreatment) -> Any:
        """The value of an operation under a treatment, with every operand and every result watched on the way back."""
        line = _Line(call, keeps_rest=self._keeps_rest(call, treatment))
        self._lines.append(line)
        args, kwargs = (rewritten(each, lambda x: self._operand(x, line)) for each in (call.args, call.kwargs))
        if isinstance(treatment, AbstractRule) and self.carrier != "coefficient":
            treatment = _Witnessed(treatment, line)
        value = treatment.apply(call.func, args, kwargs)
        constants = iter(self._constants(call)) if self.carrier == "coefficient" else iter(())
        for each in traced(value):
            self._result(each, next(constants, None), treatment, line)
        return value

    def account(self, seeded: float, arrived: float) -> Account:
        """The finished account."""
        return Account([line.entry() for line in self._lines], seeded=seeded, arrived=arrived)

    def _keeps_rest(self, call: Call, treatment: AbstractTreatment) -> bool:
        if call.kind in _RESIDUAL:
            return treatment.leaves_residue
        # Relevance itself that a movement does not bring back stood in a place of a constant, such as padding.
        moved = call.kind is Kind.MOVEMENT and self.carrier != "coefficient"
        return moved or call.operation.name in _CHOOSING

    def _operand(self, x: Tensor, line: _Line) -> Tensor:
        if not x.requires_grad:
            return x
        # Autograd sums what all uses of a tensor receive; this use alone has a tensor of its own.
        mine: Tensor = same(x)

        def take(carried: Tensor) -> None:
            line.handed_on += self._sum(carried, x)

        mine.register_hook(sink(take))
        return mine

    def _result(self, value: Tensor, constant: Tensor | None, treatment: AbstractTreatment, line: _Line) -> None:
        held = value.detach()

        def take(carried: Tensor) -> None:
            line.arrived += self._sum(carried, held)
            if constant is not None:
                line.absorbed += _total(treatment.absorbed(carried, held, constant))

        value.register_hook(sink(take))

    def _constants(self, call: Call) -> list[Tensor]:
        """What the operation gives without its traced operands: of an affine map, the part that is constant."""
        with torch.no_grad():
            absent = [
                rewritten(each, lambda x: torch.zeros_like(x) if x.requires_grad else x)
                for each in (call.args, call.kwargs)
            ]
            value = call.func(*absent[0], **absent[1])
        members = [value] if isinstance(value, Tensor) else [*value]
        return [each for each in members if isinstance(each, Tensor) and each.is_floating_point()]

    def _sum(self, carried: Tensor, x: Tensor) -> float:
        return _total(carried.double() * x.detach().double() if self.carrier == "coefficient" else carried)


def _total(relevance: Tensor) -> float:
    # Nothing arrives at a masked place, and its value is infinite.
    return float(relevance.double().nan_to_num(0.0, 0.0, 0.0).sum())


@final
class _Witnessed(AbstractRule):
    """A rule of the relevance carrier, with what it withholds written down."""

    def __init__(self, rule: AbstractRule, line: _Line) -> None:
        self.rule = rule
        self.line = line

    def forward(self, ctx: Any, func: Any, args: Any, kwargs: Any) -> Any:
        return self.rule.forward(ctx, func, args, kwargs)

    def backward(self, ctx: Any, *carriers: Tensor) -> Any:
        def take(withheld: Tensor) -> None:
            self.line.absorbed += _total(withheld)

        withheld = self.rule.withheld(ctx, *carriers)
        if withheld is not None:
            sink(take)(withheld)
        return self.rule.backward(ctx, *carriers)
