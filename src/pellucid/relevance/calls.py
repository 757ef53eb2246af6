"""What a call of torch says in its arguments."""

import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pellucid.relevance.normalisation import named
from pellucid.relevance.operations import Kind, Operation
from pellucid.relevance.rule import Carrier, traced

_RANDOM = ("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout", "rrelu")


@cache
def _signature(func: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except ValueError:
        return None


@cache
def _flag(func: Callable[..., Any]) -> int | None:
    """Place of an argument ``inplace``."""
    signature = _signature(func) if isinstance(func, FunctionType) else None
    return (
        None if signature is None or "inplace" not in signature.parameters else [*signature.parameters].index("inplace")
    )


def out_of_place(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments with ``inplace`` switched off, or None where it is not on."""
    place = _flag(func)
    if place is None:
        return None
    if place < len(args):
        return ((*args[:place], False, *args[place + 1 :]), kwargs) if args[place] else None
    return (args, kwargs | {"inplace": False}) if kwargs.get("inplace") else None


@cache
def body(func: FunctionType) -> FunctionType:
    """A function of torch that does not ask first whether somebody overrides it, so that its own calls are seen."""

    def nobody(*_: Any) -> bool:
        return False

    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    world = {**func.__globals__, **dict.fromkeys(names, nobody)}
    copy = FunctionType(func.__code__, world, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def input_of(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a linear map is applied to."""
    place, name = (1, "mat1") if operation.name == "addmm" else (0, "input")
    found: Tensor = args[place] if place < len(args) else kwargs[name]
    return found


def is_linear_in_input(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], carrier: Carrier) -> bool:
    """Whether a linear map is one that the rules of a carrier are written for, of an input that is traced."""
    if operation.name == "grouped_mm":
        if carrier in ("relevance", "pair") or not args or not args[0].requires_grad:
            return False
        # What stands in rows behind the last run is left as it was in memory, on the way back too.
        ends: Tensor | None = args[2] if len(args) > 2 else kwargs.get("offs")
        return ends is None or args[0].ndim != 2 or int(ends[-1]) == len(args[0])
    return input_of(operation, args, kwargs).requires_grad


def grows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a power has a constant exponent of 1 or more."""
    exponent = args[1] if len(args) > 1 else kwargs.get("exponent")
    if isinstance(exponent, Tensor):
        return not exponent.requires_grad and bool((exponent >= 1).all())
    return exponent is not None and exponent >= 1


def is_training(func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation draws at random, or mixes the inputs of a batch."""
    if operation.kind is Kind.ATTENTION:
        return bool(dict(zip(("dropout_p",), args[4:5], strict=False)).get("dropout_p") or kwargs.get("dropout_p"))
    if operation.name == "batch_norm":
        return bool(named(func, args, kwargs).get("training", False))
    if operation.name not in _RANDOM:
        return False
    signature = _signature(func)
    built_in = ("input", "lower", "upper", "training") if operation.name == "rrelu" else ("input", "p", "train")
    names = built_in if signature is None else tuple(signature.parameters)
    given = dict(zip(names, args, strict=False)) | kwargs
    return bool(given.get("training", given.get("train", False)) and given.get("p", 0.5))


def is_plain(value: Any) -> bool:
    """Whether no tensor stands for one target of several."""
    wrapped: Any = torch._C._functorch
    return not any(wrapped.is_functorch_wrapped_tensor(each) for each in tree_leaves(value) if isinstance(each, Tensor))


def is_transformed(value: Any) -> bool:
    """Whether a tensor of a function transform, such as ``torch.vmap``, stands for one that depends on the input."""
    wrapped: Any = torch._C._functorch
    if wrapped.maybe_current_level() is None:
        return False
    for each in tree_leaves(value):
        if isinstance(each, Tensor) and wrapped.is_functorch_wrapped_tensor(each):
            while wrapped.is_functorch_wrapped_tensor(each):
                each = wrapped.get_unwrapped(each)
            if each.requires_grad and not isinstance(each, nn.Parameter):
                return True
    return False


def is_self_contained(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether query, key and value of an attention come by place, and they alone depend on the input."""
    return len(args) >= 3 and list(map(id, traced((args, kwargs)))) == list(map(id, args[:3]))


def is_into_places(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an operation adds numbers up in places that integers name."""
    if operation.name == "index_put":
        return bool(args[3] if len(args) > 3 else kwargs.get("accumulate", False))
    return operation.name in ("index_add", "scatter_add")


def kind_into_places(args: tuple[Any, ...], kwargs: dict[str, Any], several: bool, carrier: Carrier) -> Kind | None:
    """What a sum into places is: a sum of two, or, into places that are empty, one of numbers alone.

    None: where its terms must be told apart, it is to be.
    """
    if carrier in ("gradient", "coefficient"):
        return Kind.SUM if several else Kind.SHIFT
    places: Tensor = args[0] if args else kwargs["input"]
    empty = not places.requires_grad and not bool(places.any())
    return Kind.AVERAGE if empty and kwargs.get("alpha", 1) == 1 else None


def reads_at_computed(operation: Operation, args: tuple[Any, ...]) -> bool:
    """Whether an operation reads at places that were computed from the input."""
    return operation.name == "grid_sampler" and len(args) > 1 and args[1].requires_grad


def at_held_places(args: tuple[Any, ...]) -> tuple[Kind, tuple[Any, ...]]:
    """Reading at places that count as constants: what it is, and its arguments. It is linear in what is read."""
    kind = Kind.AVERAGE if args[0].requires_grad else Kind.NORMALISER
    return kind, (args[0], args[1].detach(), *args[2:])


def is_residual(a: Tensor, b: Tensor) -> bool:
    """Whether one of two tensors of equal shape was computed from the other."""
    if a.shape != b.shape:
        return False
    edges = [torch.autograd.graph.get_gradient_edge(each)[:2] for each in (a, b)]
    return any(_descends(one, other) for one, other in (edges, edges[::-1]))


def _descends(edge: tuple[Any, int], ancestor: tuple[Any, int]) -> bool:
    """Whether ``ancestor`` is met on the way back from ``edge``. What is older than the ancestor is not looked at."""
    node, older = edge[0], ancestor[0]
    # A leaf has no age: it was there before.
    oldest = -1 if older.name() == "torch::autograd::AccumulateGrad" else older._sequence_nr()
    seen, ahead = {node}, [node]
    while ahead:
        for parent in ahead.pop().next_functions:
            if parent == ancestor:
                return True
            if parent[0] is not None and parent[0] not in seen and parent[0]._sequence_nr() > oldest:
                seen.add(parent[0])
                ahead.append(parent[0])
    return False
