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
from pellucid.relevance.rule import traced

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


def input_of(operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a linear map is applied to."""
    place, name = (1, "mat1") if operation.name == "addmm" else (0, "input")
    found: Tensor = args[place] if place < len(args) else kwargs[name]
    return found


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
