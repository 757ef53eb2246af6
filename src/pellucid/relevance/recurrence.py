"""Torch's fused recurrent networks, taken apart into the operations of every time step, which the engine then meets.

The inputs of all steps are projected at once; each step projects the state, adds the two and applies the cell's gates.
A bias on the state is merged into that of the input where the two are only added up, so that a step is x part + h part.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

State = tuple[Float[Tensor, "_ _"], ...]
"""The hidden state [row, state], and behind it the cell state [row, hidden] of an LSTM."""


class Weights(NamedTuple):
    """One layer in one direction. Gates stand as torch has them: i f g o of an LSTM, r z n of a GRU."""

    kernel: Float[Tensor, "gates feature"]
    recurrent: Float[Tensor, "gates state"]
    bias: Float[Tensor, " gates"] | None = None
    """What is added to the input's projection."""
    recurrent_bias: Float[Tensor, " gates"] | None = None
    """What is added to the state's projection."""
    projection: Float[Tensor, "state hidden"] | None = None


class Order(NamedTuple):
    """Where the time steps lie in a tensor, and the order in which they are taken."""

    sizes: list[int] | None
    """Of packed sequences the number of rows of every time step."""
    time: int
    """The dimension of time where nothing is packed."""
    backwards: bool = False

    def apart(self, whole: Tensor) -> Sequence[Float[Tensor, "_ feature"]]:
        """The time steps [row, feature], in the order in which they are taken."""
        steps = torch.unbind(whole, self.time) if self.sizes is None else torch.split(whole, self.sizes)
        return steps[::-1] if self.backwards else steps

    def joined(self, steps: list[Tensor]) -> Tensor:
        """The tensor of steps that are in that order."""
        steps = steps[::-1] if self.backwards else steps
        return torch.stack(steps, self.time) if self.sizes is None else torch.cat(steps)


class Cell(NamedTuple):
    """One kind of recurrent network."""

    name: str
    step: Callable[[Tensor, State, Weights], State]
    """The next state of every row, given the input's projection [row, gates] and the state before."""
    merged: float = 1.0
    """The share of the gates, from the first, to which both biases are only added."""


@runtime_checkable
class Scan(Protocol):
    """What a layer in one direction does with the projection of its input."""

    def __call__(
        self, cell: Cell, projected: Tensor, initial: State, weights: Weights, order: Order
    ) -> tuple[Tensor, State]:
        """The hidden state after every time step, laid out as the input, and every row's state after its last."""
        ...


def _lstm_step(x: Tensor, state: State, weights: Weights) -> State:
    """One step [hochreiter1997]: c = f c' + i g, h = o tanh(c); with a projection h = W o tanh(c)."""
    hidden, cell = state
    i, f, g, o = torch.chunk(_sum(x, hidden, weights), 4, -1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    return hidden if weights.projection is None else functional.linear(hidden, weights.projection), cell


def _gru_step(x: Tensor, state: State, weights: Weights) -> State:
    """One step [cho2014]: h = (1 - z) n + z h', n = tanh(x part + r (h' part)), with a bias inside the product."""
    (hidden,) = state
    sizes = [2 * hidden.shape[-1], hidden.shape[-1]]
    x_gates, x_new = torch.split(x, sizes, -1)
    h_gates, h_new = torch.split(functional.linear(hidden, weights.recurrent, weights.recurrent_bias), sizes, -1)
    r, z = torch.chunk(torch.sigmoid(x_gates + h_gates), 2, -1)
    new = torch.tanh(x_new + r * h_new)
    return ((1 - z) * new + z * hidden,)


def _rnn_step(x: Tensor, state: State, weights: Weights, activation: Callable[[Tensor], Tensor]) -> State:
    """One step [elman1990]: h = act(x part + h' part)."""
    return (activation(_sum(x, state[0], weights)),)


def _sum(x: Tensor, hidden: Tensor, weights: Weights) -> Tensor:
    # A name as young as the other summand: that the sum is no residual is then seen without a long search.
    return x.view_as(x) + functional.linear(hidden, weights.recurrent)


_CELLS = (
    Cell("lstm", _lstm_step),
    Cell("gru", _gru_step, merged=2 / 3),
    Cell("rnn_tanh", partial(_rnn_step, activation=torch.tanh)),
    Cell("rnn_relu", partial(_rnn_step, activation=torch.relu)),
)


def unrolled(
    cell: Cell, projected: Tensor, initial: State, weights: Weights, order: Order, *, alone: bool = True
) -> tuple[Tensor, State]:
    """Step by step, in plain operations.

    ``alone``: rows that begin later than others take their first step alone, since rules tell a constant state from
    one that depends on the input.
    """
    steps = order.apart(projected)
    state, ended, outputs = rows_of(initial, 0, len(steps[0])), list[State](), list[Tensor]()
    for x in steps:
        rows, before = len(x), len(state[0])
        if rows < before:
            ended.append(rows_of(state, rows, before))
            state = rows_of(state, 0, rows)
        more = rows_of(initial, before, rows) if rows > before else None
        if more is not None and alone:
            state = below(cell.step(x[:before], state, weights), cell.step(x[before:], more, weights))
        else:
            state = cell.step(x, state if more is None else below(state, more), weights)
        outputs.append(state[0])
    for each in reversed(ended):
        state = below(state, each)
    return order.joined(outputs), state


def rows_of(state: State, first: int, end: int) -> State:
    """Some rows of a state."""
    if (first, end) == (0, len(state[0])):
        return state
    return tuple(each[first:end] for each in state)


def below(state: State, more: State) -> State:
    """A state with more rows below."""
    return tuple(torch.cat(each) for each in zip(state, more, strict=True))


class _Call(NamedTuple):
    """A call of a whole network."""

    x: Float[Tensor, "..."]
    """[batch, time, feature], [time, batch, feature], or packed [row, feature]."""
    order: Order
    initial: list[State]
    """Of every layer and direction."""
    weights: list[Weights]
    """Of every layer and direction."""
    directions: int
    dropout: float
    """Between layers, in training."""

    @classmethod
    def read(cls, cell: Cell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "_Call":
        packed = "batch_sizes" in kwargs or (len(args) > 3 and not isinstance(args[3], bool))
        given = dict(zip(_PACKED if packed else _PADDED, args, strict=False)) | kwargs
        states = given["hx"] if isinstance(given["hx"], list | tuple) else (given["hx"],)
        directions = 2 if given["bidirectional"] else 1
        params = given["params"]
        count = len(params) // (given["num_layers"] * directions)
        return cls(
            given["data"] if packed else given["input"],
            Order(given["batch_sizes"].tolist() if packed else None, 1 if given.get("batch_first") else 0),
            list(zip(*(torch.unbind(each) for each in states), strict=True)),
            [_weights(cell, params[place : place + count]) for place in range(0, len(params), count)],
            directions,
            given["dropout"] if given["train"] else 0.0,
        )


_PADDED = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
_PACKED = ("data", "batch_sizes", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")


def _weights(cell: Cell, given: Sequence[Tensor | None]) -> Weights:
    """Weights in the order in which torch hands them over: two matrices, two biases or none, a projection or none."""
    kernel, recurrent, *rest = (each for each in given if each is not None)
    projection = rest.pop() if len(rest) % 2 else None
    if not rest:
        return Weights(kernel, recurrent, projection=projection)
    bias, own = rest
    merged = round(len(own) * cell.merged)
    added = torch.cat([bias[:merged] + own[:merged], bias[merged:]])
    kept = torch.cat([torch.zeros_like(own[:merged]), own[merged:]]) if merged < len(own) else None
    return Weights(kernel, recurrent, added, kept, projection)


def _network(cell: Cell, *args: Any, scan: Scan = unrolled, **kwargs: Any) -> tuple[Tensor, ...]:
    """What a network of several layers gives: the last layer's output, and every state after the last step."""
    call = _Call.read(cell, args, kwargs)
    x, finals = call.x, list[State]()
    for layer in range(0, len(call.weights), call.directions):
        if layer and call.dropout:
            x = torch.dropout(x, call.dropout, True)
        outputs = []
        for place in range(layer, layer + call.directions):
            weights = call.weights[place]
            projected = functional.linear(x, weights.kernel, weights.bias)
            order = call.order._replace(backwards=place > layer)
            output, final = scan(cell, projected, call.initial[place], weights, order)
            outputs.append(output)
            finals.append(final)
        x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
    return x, *(torch.stack(each) for each in zip(*finals, strict=True))


def _one_step(
    cell: Cell, input: Tensor, hx: Any, *weights: Tensor | None, scan: Scan = unrolled, **named: Tensor | None
) -> Any:
    """One time step: the hidden state, and of an LSTM the cell state too."""
    state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    read = _weights(cell, (*weights, *(named.get(name) for name in _STEP_WEIGHTS[len(weights) :])))
    x = functional.linear(input, read.kernel, read.bias)
    _, state = scan(cell, x[None], state, read, Order(None, 0))
    return state[0] if isinstance(hx, Tensor) else state


_STEP_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


@cache
def recurrent() -> dict[str, Callable[..., Any]]:
    """Every fused recurrent function of torch by its name. Each also takes ``scan``, by which a layer is run."""
    whole = {each.name: partial(_network, each) for each in _CELLS}
    return whole | {f"{each.name}_cell": partial(_one_step, each) for each in _CELLS}
