"""What a call of torch says in its arguments."""

import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pellucid.relevance.normalisation import named
from pellucid.relevance.operations import Kind, Operation

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
