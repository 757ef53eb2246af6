"""From a call of torch to the linear forms that the rules of the relevance carrier are written for."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pellucid.errors import InputError
from pellucid.relevance.functional.convolution import conv_transpose, convolution
from pellucid.relevance.functional.linear_form import LinearForm, addmm, einsum, linear, matmul
from pellucid.relevance.operations import operation_of

_CONVOLUTION = ("x", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("x", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
# Two factors of a product, whatever torch calls them.
_FACTORS = ("first", "second")
_ALIASES = {"input": "x", "mat1": "x", "mat2": "weight"}
_PRODUCTS = {
    "input": "first",
    "self": "first",
    "other": "second",
    "mat2": "second",
    "vec": "second",
    "tensor": "second",
}


class Factors:
    """A linear map, or a product of two operands, as it was called: everything but the traced tensors themselves.

    These are left to autograd, which frees them and notices when somebody writes over them.
    """

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        operation = operation_of(func)
        self._name = operation.name if operation is not None else ""
        given = _named(self._name, args, kwargs)
        self.traced = [name for name, each in given.items() if isinstance(each, Tensor) and each.requires_grad]
        self._rest = {name: each for name, each in given.items() if name not in self.traced}

    def forms(self, *operands: Tensor) -> list[LinearForm]:
        """For each traced operand the form in which it is x, and everything else constant."""
        given = self._rest | dict(zip(self.traced, operands, strict=True))
        return [self._form(name, given) for name in self.traced]

    def _form(self, traced: str, given: dict[str, Any]) -> LinearForm:
        if self._name.startswith("conv"):
            return (conv_transpose if "transpose" in self._name else convolution)(**given)
        if self._name == "linear":
            return linear(**given)
        if self._name == "addmm":
            return addmm(given.pop("bias"), **given)
        first = traced == "first"
        x, weight = (given["first"], given["second"]) if first else (given["second"], given["first"])
        if self._name == "einsum":
            return einsum(given["equation"], x, weight, weight_first=not first)
        return matmul(x, weight, weight_first=not first)


def _named(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if name == "einsum":
        operands = args[1] if isinstance(args[1], list | tuple) else args[1:]
        if len(operands) != len(_FACTORS):
            raise InputError(
                f"einsum({args[0]!r}) multiplies {len(operands)} tensors, and relevance is shared between two: write "
                "it as several calls of einsum with two operands each."
            )
        return {"equation": args[0], **dict(zip(_FACTORS, operands, strict=True))}
    if name in ("matmul", "mm", "bmm", "mv", "rmatmul"):
        given = dict(zip(_FACTORS, args, strict=False)) | {_PRODUCTS[key]: each for key, each in kwargs.items()}
        return given if name != "rmatmul" else {"first": given["second"], "second": given["first"]}
    if name == "addmm":
        given = dict(zip(("bias", "x", "weight"), args, strict=False))
        # Here the input is what is added.
        return given | {{"input": "bias", **_ALIASES}.get(key, key): each for key, each in kwargs.items()}
    names = _TRANSPOSED if "transpose" in name else _CONVOLUTION
    return dict(zip(names, args, strict=False)) | {_ALIASES.get(key, key): each for key, each in kwargs.items()}
