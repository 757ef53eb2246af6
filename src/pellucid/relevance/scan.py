"""A recurrent layer as one operation, for composites under which the way back through time is linear.

Where gates are constants, so that what they weigh takes all [arras2017], and an activation hands on act(a) / a, every
time step is a linear map of the coefficients that was known on the way forward. One rule then runs the whole way back,
at about the cost of the plain gradient; the steps taken apart give the same numbers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.relevance.coefficient import Epsilon, Ratio
from pellucid.relevance.composite import Composite
from pellucid.relevance.operations import Kind, operation_of
from pellucid.relevance.recurrence import Cell, Order, Scan, State, Weights, below, rows_of, unrolled
from pellucid.relevance.rule import AbstractTreatment, AsIs, Constant, Place

_ASKED: tuple[tuple[Callable[..., Any], Kind, AbstractTreatment], ...] = (
    (torch.sigmoid, Kind.GATE, Constant()),
    (torch.tanh, Kind.ACTIVATION, Ratio()),
    (torch.relu, Kind.RECTIFIER, AsIs()),
    (torch.add, Kind.SUM, AsIs()),
    (torch.add, Kind.SHIFT, AsIs()),
    (torch.mul, Kind.SCALE, AsIs()),
    *((each, Kind.MOVEMENT, AsIs()) for each in (torch.chunk, torch.split, torch.unbind, torch.stack, torch.cat)),
)
"""What a composite has to do with the operations of a time step."""


def scan_of(composite: Composite, place: Place, settle: Callable[[], None]) -> Scan:
    """How a composite runs a recurrent layer of a module: at once where it can, else step by step.

    Without any rule, autograd's own way back through the steps is all there is to do. ``settle`` is called where the
    engine is to take what was computed for seen.
    """
    if not len(composite) and isinstance(composite.otherwise, AsIs):
        return partial(_plainly, settle)
    if composite.carrier != "coefficient" or any(
        _treatment(composite, place, func, kind) != treatment for func, kind, treatment in _ASKED
    ):
        return unrolled
    linear = _treatment(composite, place, functional.linear, Kind.LINEAR)
    if isinstance(linear, Epsilon):
        return partial(_at_once, settle, linear.epsilon)
    return partial(_at_once, settle, 0.0) if isinstance(linear, AsIs) else unrolled


def _treatment(composite: Composite, place: Place, func: Callable[..., Any], kind: Kind) -> AbstractTreatment | None:
    operation = operation_of(func)
    return None if operation is None else composite.of_operation(place, operation, kind)


def _plainly(
    settle: Callable[[], None], cell: Cell, projected: Tensor, initial: State, weights: Weights, order: Order
) -> tuple[Tensor, State]:
    """Step by step, by autograd alone."""
    with torch._C.DisableTorchFunction():
        found = unrolled(cell, projected, initial, weights, order, alone=False)
    settle()
    return found


def _at_once(
    settle: Callable[[], None],
    epsilon: float,
    cell: Cell,
    projected: Tensor,
    initial: State,
    weights: Weights,
    order: Order,
) -> tuple[Tensor, State]:
    """All steps under one rule."""
    with torch._C.DisableTorchFunction():
        output, *final = _through_time(epsilon, cell, weights, order, projected, *initial)
    settle()
    return output, tuple(final)


class _Factors(NamedTuple):
    """What coefficients are multiplied with on the way back [row, hidden], of one step or of all in turn.

    None stands for 1, and where nothing is remembered for 0.
    """

    new: Tensor
    """From the memory to the sum under the activation: of an LSTM from c to the pre-activation of g."""
    memory: Tensor | None = None
    """From the hidden state to the memory, where that is another: o tanh(c) / c."""
    kept: Tensor | None = None
    """From the memory to the memory before."""
    state: Tensor | None = None
    """From the sum under the activation to the state's projection, and through its epsilon rule."""
    hidden: Tensor | None = None
    """Through the epsilon rule of the projection of an LSTM's hidden state, [row, state]."""


class _ThroughTime(torch.autograd.Function):
    """A layer in one direction, with all its steps: coefficients are carried back through one linear map a step."""

    @staticmethod
    def forward(
        ctx: Any, epsilon: float, cell: Cell, weights: Weights, order: Order, projected: Tensor, *initial: Tensor
    ) -> tuple[Tensor, ...]:
        steps: list[tuple[Tensor, ...]] = []
        forward, factors, first = _CELLS[cell.name]

        def step(x: Tensor, state: State, weights: Weights) -> State:
            state, said = forward(x, state, weights)
            steps.append(said)
            return state

        output, final = unrolled(cell._replace(step=step), projected, initial, weights, order, alone=False)
        rows = [len(each[0]) for each in steps]
        found = factors(epsilon, *(torch.cat(each) for each in zip(*steps, strict=True)))
        if weights.projection is not None:
            hidden = torch.cat(list(order.apart(output)))
            found = found._replace(hidden=_stabilised(hidden, epsilon))
        size = found.new.shape[-1]
        ctx.rows, ctx.order, ctx.places = rows, order, (first * size, projected.shape[-1] - (first + 1) * size)
        recurrent = weights.recurrent[first * size : (first + 1) * size]
        ctx.save_for_backward(recurrent, weights.projection, *found)
        return output, *final

    @staticmethod
    def backward(ctx: Any, output: Tensor, *final: Tensor) -> tuple[Tensor | None, ...]:
        recurrent, projection, *whole = ctx.saved_tensors
        split = [[None] * len(ctx.rows) if each is None else each.split(ctx.rows) for each in whole]
        steps = [_Factors(*each) for each in zip(*split, strict=True)]
        received, rows = ctx.order.apart(output), ctx.rows
        carried, begun, totals = rows_of(final, 0, rows[-1]), list[State](), list[Tensor]()
        for place in range(len(steps) - 1, -1, -1):
            hidden, *memory = carried
            carried, total = _back(hidden + received[place], memory, steps[place], recurrent, projection)
            totals.append(total)
            before = rows[place - 1] if place else rows[0]
            if before > rows[place]:
                carried = below(carried, rows_of(final, rows[place], before))
            elif before < rows[place]:
                begun.append(rows_of(carried, before, rows[place]))
                carried = rows_of(carried, 0, before)
        for state in reversed(begun):
            carried = below(carried, state)
        return None, None, None, None, functional.pad(ctx.order.joined(totals[::-1]), ctx.places), *carried


_through_time: Callable[..., Any] = _ThroughTime.apply


def _back(
    hidden: Tensor, memory: list[Tensor], factors: _Factors, recurrent: Tensor, projection: Tensor | None
) -> tuple[State, Tensor]:
    """The coefficients of the state before a step, and those of the sum under its activation."""
    if projection is not None:
        hidden = (hidden if factors.hidden is None else hidden * factors.hidden) @ projection
    total = hidden if factors.memory is None else torch.addcmul(memory[0], hidden, factors.memory)
    new = total * factors.new
    before = (new if factors.state is None else new * factors.state) @ recurrent
    if factors.kept is None:
        return (before,), new
    kept = total * factors.kept
    return (before + kept,) if factors.memory is None else (before, kept), new


def _lstm(x: Tensor, state: State, weights: Weights) -> tuple[State, tuple[Tensor, ...]]:
    hidden, cell = state
    z = functional.linear(hidden, weights.recurrent)
    total = x + z
    i, f, _, o = total.sigmoid().chunk(4, -1)
    _, _, g, _ = total.chunk(4, -1)
    cell = torch.addcmul(f * cell, i, g.tanh())
    hidden = o * cell.tanh()
    said = i, f, g, o, cell, z.chunk(4, -1)[2]
    return (hidden if weights.projection is None else functional.linear(hidden, weights.projection), cell), said


def _of_lstm(epsilon: float, i: Tensor, f: Tensor, g: Tensor, o: Tensor, cell: Tensor, z: Tensor) -> _Factors:
    return _Factors(i * _ratio(g), o * _ratio(cell), f, _stabilised(z, epsilon))


def _gru(x: Tensor, state: State, weights: Weights) -> tuple[State, tuple[Tensor, ...]]:
    (hidden,) = state
    size = hidden.shape[-1]
    z = functional.linear(hidden, weights.recurrent, weights.recurrent_bias)
    reset, update = (x[:, : 2 * size] + z[:, : 2 * size]).sigmoid().chunk(2, -1)
    own = z[:, 2 * size :]
    total = torch.addcmul(x[:, 2 * size :], reset, own)
    hidden = torch.addcmul((1 - update) * total.tanh(), update, hidden)
    return (hidden,), (reset, update, total, own)


def _of_gru(epsilon: float, reset: Tensor, update: Tensor, total: Tensor, z: Tensor) -> _Factors:
    stable = _stabilised(z, epsilon)
    return _Factors((1 - update) * _ratio(total), None, update, reset if stable is None else reset * stable)


def _rnn(
    x: Tensor, state: State, weights: Weights, activation: Callable[[Tensor], Tensor]
) -> tuple[State, tuple[Tensor, ...]]:
    z = functional.linear(state[0], weights.recurrent)
    total = x + z
    return (activation(total),), (total, z)


def _of_rnn(epsilon: float, total: Tensor, z: Tensor, slope: Callable[[Tensor], Tensor]) -> _Factors:
    return _Factors(slope(total), state=_stabilised(z, epsilon))


def _ratio(a: Tensor) -> Tensor:
    """tanh(a) / a."""
    return (a.tanh() / a).nan_to_num(1.0)


def _slope(a: Tensor) -> Tensor:
    """The derivative of relu."""
    return (a > 0).to(a.dtype)


def _stabilised(z: Tensor, epsilon: float) -> Tensor | None:
    """What the epsilon rule multiplies a coefficient with: z / stab(z); None where there is no epsilon."""
    return z.abs() / (z.abs() + epsilon) if epsilon else None


_CELLS: Mapping[str, tuple[Callable[..., Any], Callable[..., _Factors], int]] = {
    "lstm": (_lstm, _of_lstm, 2),
    "gru": (_gru, _of_gru, 2),
    "rnn_tanh": (partial(_rnn, activation=torch.tanh), partial(_of_rnn, slope=_ratio), 0),
    "rnn_relu": (partial(_rnn, activation=torch.relu), partial(_of_rnn, slope=_slope), 0),
}
"""By the name of a cell: a step that says what the way back needs, its factors, and which gate is the candidate."""
