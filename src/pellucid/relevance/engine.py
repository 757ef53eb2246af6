"""The engine: a network's forward pass with rules in place of operations, so that autograd carries relevance back.

A ``TorchFunctionMode`` sees every function of torch that the network calls, whoever wrote the network. Movement keeps
autograd's own adjoint; where the composite has a rule, the call becomes one ``autograd.Function`` of the same value.
Parameters are constants, so what requires gradients inside a pass is what depends on the traced input.
"""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pellucid.errors import InputError, ModelError, NoRuleError
from pellucid.relevance.aten import plain
from pellucid.relevance.book import Book
from pellucid.relevance.calls import (
    at_held_places,
    body,
    grows,
    is_into_places,
    is_linear_in_input,
    is_plain,
    is_residual,
    is_self_contained,
    is_training,
    is_transformed,
    kind_into_places,
    out_of_place,
    reads_at_computed,
)
from pellucid.relevance.composite import Composite
from pellucid.relevance.decompositions import decompositions
from pellucid.relevance.operations import Kind, Operation, in_place, operations
from pellucid.relevance.recurrence import recurrent
from pellucid.relevance.rule import AbstractTreatment, Call, Constant, Place, Redistribute, rewritten, traced
from pellucid.relevance.scan import scan_of
from pellucid.relevance.unseen import Unseen
from pellucid.relevance.versions import Versions, is_passed_through
from pellucid.relevance.weights import Weights

# What changes a tensor's numbers and has no form that returns a new one.
_MUTATIONS = frozenset({"__setitem__", "copy_", "zero_", "fill_"})
# What a sum or a product of numbers in place may be on a view: its value is written back as a movement.
_WRITABLE = frozenset({Kind.SUM, Kind.SHIFT, Kind.PRODUCT, Kind.SCALE, Kind.MOVEMENT})


class Embedded(NamedTuple):
    """Vectors that were looked up for integers of the input."""

    place: Place
    indices: Tensor
    vectors: Tensor
    """A leaf of the graph."""


class Engine(TorchFunctionMode):
    """One forward pass of a network under a composite. Entered by ``Tracer``; never shared between threads."""

    def __init__(self, composite: Composite, root: nn.Module, *, strict: bool = True, book: Book | None = None) -> None:
        super().__init__()
        self.book = book
        """Where the account is kept, if one is."""
        self.composite = composite
        self.strict = strict
        self.places = [Place("", root)]
        """The modules that are running, the innermost last."""
        self.embedded: list[Embedded] = []
        """Every table lookup, in order."""
        self.approximated: dict[tuple[str, str], None] = {}
        """(operation, module) of what has no rule and was taken to first order, in order."""
        self.cut: dict[tuple[str, str], None] = {}
        """(operation, module) of what was taken as a constant, in order."""
        self.returning = False
        """Whether relevance is on its way back, and what runs forward is a checkpoint that recomputes."""
        self.resting = False
        """Whether calls pass as they are: inside a module that counts as one operation."""
        self.unseen = Unseen()
        """What was computed where the engine could not see it."""
        self._versions = Versions()
        self._weights = Weights()
        self._questioned: set[Any] = set()
        self._treatments: dict[tuple[Any, ...], AbstractTreatment | None] = {}

    @property
    def place(self) -> Place:
        """The innermost module that is running."""
        return self.places[-1]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.unseen.notice()
        try:
            return func(*args, **(kwargs or {})) if self.resting else self._meet(func, args, kwargs or {})
        finally:
            self.unseen.settle()

    def _meet(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of one call of the network, whatever it calls."""
        if (namesake := plain(func)) is not None:
            with self:
                return namesake(*args, **kwargs)
        args, kwargs = rewritten(args, self.current), rewritten(kwargs, self.current)
        if not self.returning and is_transformed((args, kwargs)):
            self._refuse_hidden("vmap or another function transform", self.place)
            return func(*args, **kwargs)
        operands = list(traced((args, kwargs)))
        operation = operations().get(func)
        if operation is not None and operation.kind is Kind.EMBEDDING and not operands:
            return self._embed(func, args, kwargs)
        if not operands or not torch.is_grad_enabled():
            value = func(*args, **kwargs)
            self._weights.follow((args, kwargs), value)
            return value
        if self.returning and is_plain((args, kwargs)):
            # A checkpoint recomputes: one forward pass, whether one target asks for it or several at once do.
            with temporarily_clear_interpreter_stack():
                return self._take(func, args, kwargs, operation, operands)
        return self._take(func, args, kwargs, operation, operands)

    def _take(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        operation: Operation | None,
        operands: Sequence[Tensor],
    ) -> Any:
        """The value of a call on traced operands."""
        plain = in_place().get(func)
        if plain is not None or (operation is not None and operation.name in _MUTATIONS):
            return self._changing(func, plain, args, kwargs)
        flagged = out_of_place(func, args, kwargs)
        if flagged is not None:
            value = self._meet(func, *flagged)
            return self._versions.replace(args[0] if args else kwargs["input"], value)
        return self._compute(func, operation, args, kwargs, operands)

    def current(self, tensor: Tensor) -> Tensor:
        """A tensor as the pass knows it: a parameter as a constant, one that was changed in place as it is now."""
        tensor = self._versions.current(tensor)
        # A parameter's gradient is nobody's question here, and saving activations for it would cost memory.
        if not tensor.requires_grad or not isinstance(tensor, nn.Parameter):
            return tensor
        constant = tensor.detach()
        self._weights.note(constant)
        return constant

    # Operations out of place

    def _compute(
        self,
        func: Callable[..., Any],
        operation: Operation | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        operands: Sequence[Tensor],
    ) -> Any:
        for operand in operands:
            self.check_origin(operand)
        if operation is None:
            return self._unlisted(func, args, kwargs)
        kind, args = self._kind_of(operation, func, args, kwargs, operands)
        if kind is None:
            return self._unlisted(func, args, kwargs)
        self._check_evaluating(func, operation, args, kwargs)
        return self._treat(Call(operation, kind, self.place, func, args, kwargs))

    def _treat(self, call: Call) -> Any:
        treatment = self._treatment(call) or self.composite.otherwise
        if treatment is None:
            self._refuse(call.operation.name, call.place)
            treatment = self.composite.fallback
        value = self.applied(call, treatment)
        if call.kind is Kind.MOVEMENT:
            for each in traced(value):
                self._versions.see(each)
        return value

    def applied(self, call: Call, treatment: AbstractTreatment) -> Any:
        """The value of an operation under a treatment, and a line in the account if one is kept."""
        if isinstance(treatment, Constant):
            self.cut[call.operation.name, call.place.name] = None
        elif self.book is not None and not self.returning:
            return self.book.treat(call, treatment)
        return treatment.apply(call.func, call.args, call.kwargs)

    def _treatment(self, call: Call) -> AbstractTreatment | None:
        key = (call.place.name, call.operation.name, call.kind)
        if key not in self._treatments:
            self._treatments[key] = self.composite.of_operation(call.place, call.operation, call.kind)
        return self._treatments[key]

    def _unlisted(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function of no table: one that calls others is followed into them, one without slope is a constant."""
        name = _name_of(func)
        rule = self.composite.of_function(func)
        if rule is not None:
            operation = Operation(name, Kind.ACTIVATION, func)
            return self.applied(Call(operation, Kind.ACTIVATION, self.place, func, args, kwargs), rule)
        if name in decompositions():
            # An account has a line for every operation of a time step.
            whole = self.book is None and name in recurrent()
            options = {"scan": scan_of(self.composite, self.place, self.unseen.settle)} if whole else {}
            with self:
                return decompositions()[name](*args, **kwargs, **options)
        if isinstance(func, FunctionType) and "has_torch_function" in " ".join(func.__code__.co_names):
            with self:
                return body(func)(*args, **kwargs)
        value = func(*args, **kwargs)
        if not any(True for _ in traced(value)):
            return value
        if self.composite.otherwise is None:
            self._refuse(name, self.place)
        treatment = self.composite.otherwise or self.composite.fallback
        return treatment.apply(func, args, kwargs)

    def _refuse(self, name: str, place: Place) -> None:
        """Raises NoRuleError; where that was asked not to be, writes down what is approximated."""
        if self.strict:
            raise NoRuleError(name, place.name, self.composite.name)
        self.approximated[name, place.name] = None

    def check_origin(self, tensor: Tensor) -> None:
        """An operation that was written by hand hides what it does from the engine.

        Raises NoRuleError, and ModelError on a checkpoint that runs a backward pass of its own.
        """
        node: Any = tensor.grad_fn
        written = isinstance(node, torch.autograd.function.BackwardCFunction) and not _ours(node)
        if node is None or node in self._questioned or not (written or self.unseen.made(node)):
            return
        self._questioned.add(node)
        name = node.name().removesuffix("Backward")
        if name == "CheckpointFunction":
            raise ModelError(
                f"{self.place.name or 'the network itself'!r} recomputes by a re-entrant checkpoint, which hides its "
                "operations; use torch.utils.checkpoint with use_reentrant=False, or switch checkpointing off."
            )
        self._refuse_hidden(name, self.place)

    def _refuse_hidden(self, name: str, place: Place) -> None:
        """What autograd alone follows is taken to first order by coefficients and gradients, and by nothing else."""
        if self.composite.otherwise is not None:
            return
        if not self.strict and self.composite.carrier in ("relevance", "pair"):
            raise ModelError(
                f"what {name!r} computes at {place.name or 'the network itself'!r} cannot be seen, and composite "
                f"{self.composite.name!r} cannot take it to first order; use one that carries coefficients, such as "
                "'attnlrp', or call functions of torch there."
            )
        self._refuse(name, place)

    def _kind_of(
        self,
        operation: Operation,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        operands: Sequence[Tensor],
    ) -> tuple[Kind | None, tuple[Any, ...]]:
        """How an operation treats these operands (None: it is to be taken apart), and its arguments."""
        kind: Kind | None = operation.kind
        several = len(operands) > 1
        if is_into_places(operation, args, kwargs):
            kind = kind_into_places(args, kwargs, several, self.composite.carrier)
        elif kind is Kind.SUM:
            residual = several and self.composite.tells_residuals and is_residual(*operands[:2])
            kind = Kind.RESIDUAL if residual else Kind.SUM if several else Kind.SHIFT
        elif kind is Kind.PRODUCT and not several:
            kind = Kind.SCALE
        elif kind is Kind.EMBEDDING:
            # A table that was computed from the input is read like any other tensor.
            kind = Kind.MOVEMENT
        elif kind is Kind.BILINEAR and not several:
            # A constant matrix is a weight; a stack that is none of parameters is something like attention.
            constants = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not x.requires_grad]
            # An einsum of one operand only sums and moves.
            weighs = Kind.LINEAR if all(x.ndim <= 2 or x in self._weights for x in constants) else Kind.MIXING
            kind = weighs if constants else Kind.AVERAGE
        elif operation.name in ("max", "min") and len(args) + len(kwargs) > 1:
            # Of two tensors the larger one is moved; along a dimension there are places beside the values.
            other = args[1] if len(args) > 1 else kwargs.get("other")
            kind = Kind.MOVEMENT if isinstance(other, Tensor) else None
        elif (kind in (Kind.ACTIVATION, Kind.RECTIFIER) and several) or (
            kind is Kind.LINEAR and (several or not is_linear_in_input(operation, args, kwargs, self.composite.carrier))
        ):
            return None, args
        elif reads_at_computed(operation, args) and self.composite.otherwise is None:
            self.cut["places", self.place.name] = None
            return at_held_places(args)
        elif operation.name in ("div", "rdiv"):
            return self._quotient(operation, args, kwargs)
        elif operation.name == "pow" and not grows(args, kwargs):
            kind = Kind.NORMALISER
        elif kind is Kind.NORM and several:
            return None, args
        elif kind is Kind.ATTENTION and self.composite.carrier in ("relevance", "pair"):
            # The rules that carry relevance are those of three traced operands.
            kind = kind if is_self_contained(args, kwargs) else None
        return kind, args

    def _quotient(
        self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Kind | None, tuple[Any, ...]]:
        """A divisor is a normaliser, and so a constant, under every composite that has rules at all."""
        if len(args) < 2 or kwargs.get("rounding_mode"):
            # Rounding has no slope, and a divisor by name is taken by place.
            return (Kind.STEP, args) if kwargs.get("rounding_mode") else (None, args)
        over, under = args[:2] if operation.name == "div" else args[1::-1]
        if not isinstance(under, Tensor) or not under.requires_grad:
            return Kind.SCALE, args
        if not isinstance(over, Tensor) or not over.requires_grad:
            return Kind.NORMALISER, args
        if self.composite.otherwise is not None:
            return Kind.PRODUCT, args
        self.cut["divisor", self.place.name] = None
        under = under.detach()
        return Kind.SCALE, ((over, under) if operation.name == "div" else (under, over)) + args[2:]

    def _check_evaluating(
        self, func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if is_training(func, operation, args, kwargs):
            raise InputError(
                f"{operation.name} at {self.place.name or 'the network itself'!r} is in training mode (or was told to "
                "keep no running statistics), where it mixes the inputs of a batch or is random; call module.eval() "
                "before tracing."
            )

    # Operations in place

    def _changing(
        self,
        func: Callable[..., Any],
        plain: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """An operation that changes its first operand: computed out of place, so that no rule loses its input."""
        target = args[0]
        if plain is None:
            return self._mutate(func, args, kwargs)
        operation = operations().get(plain)
        view = target._is_view() and not is_passed_through(target)
        if view and operation is not None and operation.kind not in _WRITABLE:
            self._refuse(f"{operation.name} in place on a view", self.place)
        if target.requires_grad:
            return self._versions.replace(target, self._meet(plain, args, kwargs))
        # What is constant may be written over, and autograd follows that; a rule may need what stood there.
        return target.copy_(self._meet(plain, (target.clone(), *args[1:]), kwargs))

    def _mutate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Writing is movement, which autograd follows, into what was constant too."""
        target = args[0]
        if not target.requires_grad:
            return func(*args, **kwargs)

        def written(target: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
            changed = target.clone()
            func(changed, *rest, **kwargs)
            return changed

        operation = operations()[func]
        value = self._treat(Call(operation, Kind.MOVEMENT, self.place, written, args, kwargs))
        changed = self._versions.replace(target, value)
        return None if operation.name == "__setitem__" else changed

    # Where a trace begins

    def _embed(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        # The built-in function takes the table first.
        indices = args[1] if func is torch.embedding else args[0] if args else kwargs["input"]
        vectors: Tensor = func(*args, **kwargs)
        if torch.is_grad_enabled():
            leaf = vectors.detach().requires_grad_()
            self.embedded.append(Embedded(self.place, indices, leaf))
            # A copy, so that writing into a view of it writes into no leaf.
            vectors = leaf.clone()
        return vectors


def _ours(node: Any) -> bool:
    """Whether a node of the graph is a rule of ours, or of somebody who wrote one."""
    written = getattr(type(node), "_forward_cls", None)
    return written is Redistribute or getattr(written, "__module__", "").startswith("pellucid.")


def _name_of(func: Callable[..., Any]) -> str:
    name: str = getattr(func, "__name__", None) or str(func)
    if name == "__get__":
        return str(getattr(getattr(func, "__self__", None), "__name__", name))
    return name
