"""What a composite maps operations to: rules that redistribute, and the plainer treatments that need no rule."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from pellucid.relevance.operations import Kind, Operation

Carrier = Literal["gradient", "coefficient", "relevance", "pair"]
"""What autograd carries: dT/dx, the coefficient R / x, the relevance R itself, or R for and R against as two rows."""

EVERY_CARRIER: tuple[Carrier, ...] = ("gradient", "coefficient", "relevance", "pair")


def traced(value: Any) -> Iterator[Tensor]:
    """The tensors in nested arguments that depend on the traced input, in order."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from traced(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from traced(each)


class Place(NamedTuple):
    """Where in the network something happens."""

    name: str
    """The path of the innermost module; empty for the network itself."""
    module: nn.Module
    """That module."""


class Call(NamedTuple):
    """One operation of the network, as the engine met it."""

    operation: Operation
    kind: Kind
    """How it treats the operands that it has here."""
    place: Place
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class AbstractTreatment(ABC):
    """What is done where an operation of the network is met. Two of the same class and settings are equal."""

    carriers: ClassVar[tuple[Carrier, ...]] = EVERY_CARRIER
    """The carriers that it is right for."""
    kinds: ClassVar[frozenset[Kind] | None] = None
    """The kinds of operation it can treat; None: any, and then a whole module as if it were one operation."""
    leaves_residue: ClassVar[bool] = False
    """Whether it takes a softmax by its true gradient, which hands on less than came in."""

    @abstractmethod
    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of the operation, with the graph that carries relevance back through it."""

    def absorbed(self, c: Tensor, value: Tensor, constant: Tensor) -> Tensor:
        """Under the coefficient carrier: the relevance that a result's constant part keeps. Only accounts ask."""
        return c * constant

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class AbstractRule(AbstractTreatment):
    """A rule: the forward value stays the same, the backward pass redistributes instead of applying the chain rule."""

    @abstractmethod
    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value ``func(*args, **kwargs)``; what the way back needs is saved in ``ctx``, as autograd wants it.

        Runs without gradients. ``ctx.operands`` holds the traced tensors among the arguments, in order.
        """

    @abstractmethod
    def backward(self, ctx: Any, *carriers: Tensor) -> tuple[Tensor | None, ...] | Tensor | None:
        """What each traced operand receives, given what each output received.

        May run under ``torch.func.vmap``: no writing in place, no branch on a carrier's values.
        """

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor | None:
        """Under a carrier of relevance: what biases and constants keep of what each output received, in any shape.

        None stands for nothing. Only accounts ask.
        """
        return None

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _redistribute(self, func, args, kwargs, *traced((args, kwargs)))


class _Unpacked:
    """A rule's context on the way back, its saved tensors at hand: a checkpoint gives them once."""

    def __init__(self, ctx: Any, saved_tensors: tuple[Tensor, ...]) -> None:
        self._ctx = ctx
        self.saved_tensors = saved_tensors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


class Redistribute(torch.autograd.Function):
    """One operation under a rule."""

    @staticmethod
    def forward(ctx: Any, rule: AbstractRule, func: Any, args: Any, kwargs: Any, *operands: Tensor) -> Any:
        ctx.rule, ctx.operands = rule, operands
        value = rule.forward(ctx, func, args, kwargs)
        # What the rule did not save may go.
        del ctx.operands
        return value

    @staticmethod
    def backward(ctx: Any, *carriers: Tensor) -> Any:
        # A way back that recomputes (checkpoints) does it here, inside the trace; the rule's arithmetic stays outside.
        unpacked = _Unpacked(ctx, ctx.saved_tensors)
        with torch._C.DisableTorchFunction():
            received = ctx.rule.backward(unpacked, *carriers)
        return (None, None, None, None, *(received if isinstance(received, tuple) else (received,)))


@final
class AsIs(AbstractTreatment):
    """The ordinary vector-Jacobian product: exact for movement, and for linear maps under the coefficient carrier."""

    leaves_residue: ClassVar[bool] = True

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


@final
class Constant(AbstractTreatment):
    """The result counts as a constant: nothing goes back through it."""

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return func(*args, **kwargs)


_redistribute: Callable[..., Any] = Redistribute.apply


def producer(x: Tensor) -> Any:
    """The rule's context of the operation that made a tensor, where attributes may be left for its way back, or None.

    A network's account puts identities between.
    """
    node = x.grad_fn
    while node is not None and getattr(type(node), "_forward_cls", None) is Same:
        node = node.next_functions[0][0]
    return node if getattr(type(node), "_forward_cls", None) is Redistribute else None


class Same(torch.autograd.Function):
    """The identity, as a tensor of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, carried: Tensor) -> Tensor:
        return carried


same: Callable[..., Tensor] = Same.apply


def rewritten(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Nested arguments with ``change`` applied to every tensor; what holds no tensor stays the same object."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {key: rewritten(each, change) for key, each in value.items()} if value else value
    if type(value) in (list, tuple):
        return type(value)(rewritten(each, change) for each in value)
    return value
