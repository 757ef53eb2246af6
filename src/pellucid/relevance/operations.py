"""What torch can be asked to compute, sorted by what relevance does there: the one table of operations.

An operation is the set of functions that compute the same thing: ``torch.add``, ``Tensor.add``, ``+`` and ``+=``. Its
kind says how it treats its operands, and so which rules fit. Composites map kinds, or single operations, to rules.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Kind(StrEnum):
    """How an operation treats the operands that depend on the traced input."""

    MOVEMENT = "movement"
    """Copies, moves or drops numbers; its adjoint moves relevance back exactly."""
    LINEAR = "linear"
    """A linear map by weights, with or without a bias."""
    MIXING = "mixing"
    """A matrix product with a constant that is no weight, such as attention weights that are held constant."""
    BILINEAR = "bilinear"
    """A matrix product of two traced operands."""
    SUM = "sum"
    """The sum or difference of two traced operands."""
    RESIDUAL = "residual"
    """The sum of a tensor and of another that was computed from it, of equal shape."""
    SHIFT = "shift"
    """The sum of a traced operand and a constant, which absorbs its share."""
    PRODUCT = "product"
    """The elementwise product of two traced operands."""
    SCALE = "scale"
    """The product or quotient of a traced operand and a constant."""
    AVERAGE = "average"
    """A sum or mean over elements: pooling, interpolation."""
    MAXIMUM = "maximum"
    """Picks the largest or smallest of many elements. Of two operands it is movement."""
    RECTIFIER = "rectifier"
    """A piecewise linear activation through 0: its derivative is its ratio y / x."""
    ACTIVATION = "activation"
    """An elementwise function."""
    GATE = "gate"
    """An elementwise function that weighs something else: sigmoid, exp."""
    STEP = "step"
    """An elementwise function without slope: sign, round."""
    NORMALISER = "normaliser"
    """A scale that a quotient divides by: a standard deviation, a norm, a reciprocal root."""
    NORM = "norm"
    """A normalisation layer."""
    SOFTMAX = "softmax"
    """A softmax."""
    LOG_SOFTMAX = "log-softmax"
    """Its logarithm: a shift by the logsumexp."""
    ATTENTION = "attention"
    """Fused scaled dot-product attention."""
    EMBEDDING = "embedding"
    """A table of vectors that is looked up: where the trace of token ids begins."""


class Operation(NamedTuple):
    """One operation under all the names that torch has for it."""

    name: str
    """What it is called here and in accounts."""
    kind: Kind
    """How it treats its operands."""
    function: Callable[..., Any]
    """A function that computes it out of place."""


_PLACES = (functional, torch, Tensor, torch._C._nn, torch.special)

_NAMES: dict[Kind, str] = {
    Kind.MOVEMENT: (
        "reshape view view_as reshape_as flatten unflatten ravel squeeze unsqueeze transpose t permute movedim "
        "moveaxis swapaxes swapdims adjoint expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave "
        "tile cat concat concatenate stack hstack vstack dstack split split_with_sizes tensor_split chunk unbind "
        "narrow select index_select gather take take_along_dim masked_select where masked_fill masked_scatter "
        "index_fill index_put index_copy scatter slice_scatter select_scatter diagonal_scatter flip fliplr flipud "
        "roll rot90 tril triu diagonal diag diag_embed contiguous clone to type float double half bfloat16 type_as "
        "cpu cuda dropout feature_dropout dropout1d dropout2d dropout3d alpha_dropout sort topk kthvalue "
        "pixel_shuffle pixel_unshuffle channel_shuffle unfold fold meshgrid atleast_1d atleast_2d atleast_3d pad "
        "requires_grad_ nan_to_num as_strided unsafe_split unsafe_chunk positive resolve_conj resolve_neg "
        "__getitem__ __setitem__ __pos__ copy_ zero_ fill_ squeeze_copy expand_copy view_copy constant_pad_nd "
        "native_channel_shuffle maximum minimum fmax fmin median max_unpool1d max_unpool2d max_unpool3d"
    ),
    Kind.LINEAR: "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d addmm _grouped_mm",
    Kind.BILINEAR: "matmul mm bmm mv einsum __matmul__ __rmatmul__",
    Kind.SUM: "add sub subtract rsub __add__ __radd__ __sub__ __rsub__ index_add scatter_add",
    Kind.PRODUCT: "mul multiply __mul__ __rmul__",
    Kind.SCALE: "neg negative __neg__ div divide true_divide __truediv__ __rtruediv__ __div__ __rdiv__",
    Kind.AVERAGE: (
        "mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "interpolate upsample cumsum grid_sampler"
    ),
    Kind.MAXIMUM: (
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices max min amax amin"
    ),
    Kind.RECTIFIER: "relu leaky_relu prelu rrelu abs absolute __abs__",
    Kind.ACTIVATION: (
        "gelu silu mish elu selu celu relu6 hardswish hardtanh hardshrink softshrink tanhshrink softsign tanh clamp "
        "clip clamp_min clamp_max threshold pow square __pow__ sin asinh atan arctan erf expm1 log1p softplus "
        "logsigmoid"
    ),
    Kind.GATE: "sigmoid hardsigmoid exp exp2 expit cos __rpow__",
    Kind.STEP: "sign sgn round floor ceil trunc frac heaviside floor_divide __floordiv__ remainder fmod __mod__",
    Kind.NORMALISER: "sqrt rsqrt reciprocal var std norm vector_norm logsumexp detach detach_",
    Kind.NORM: "layer_norm group_norm instance_norm batch_norm rms_norm",
    Kind.SOFTMAX: "softmax softmin",
    Kind.LOG_SOFTMAX: "log_softmax",
    Kind.ATTENTION: "scaled_dot_product_attention",
    Kind.EMBEDDING: "embedding",
}

# Names under which an operation that has a plainer name is known too.
_PLAIN = {
    "_grouped_mm": "grouped_mm",
    "__matmul__": "matmul", "__rmatmul__": "rmatmul", "__add__": "add", "__radd__": "add", "__sub__": "sub",
    "__rsub__": "rsub", "__mul__": "mul", "__rmul__": "mul", "multiply": "mul", "subtract": "sub", "__neg__": "neg",
    "negative": "neg", "divide": "div", "true_divide": "div", "__truediv__": "div", "__div__": "div",
    "__rtruediv__": "rdiv", "__rdiv__": "rdiv", "absolute": "abs", "__abs__": "abs", "__pow__": "pow", "clip": "clamp",
    "arctan": "atan", "expit": "sigmoid", "__pos__": "positive",
}  # fmt: skip

# What is computed in place, beside the functions that end in an underscore.
_AUGMENTED = {"__iadd__": "add", "__isub__": "sub", "__imul__": "mul", "__itruediv__": "div", "__idiv__": "div"}
_AUGMENTED |= {"__ipow__": "pow", "__imatmul__": "matmul"}
_TAKEN_APART = ("addmm", "baddbmm", "addmv", "addcmul", "addcdiv", "lerp")


def _functions(name: str) -> Iterable[Callable[..., Any]]:
    """Every function of torch that has a name, wherever it stands."""
    found = [vars(place).get(name) or getattr(place, name, None) for place in _PLACES]
    found += [getattr(torch.linalg, name, None)]
    # A method of a parent class is bound anew at each look, but compares equal.
    return [each for each in found if callable(each)]


def _properties() -> list[Callable[..., Any]]:
    return [getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "real")]


@cache
def operations() -> dict[Callable[..., Any], Operation]:
    """Every known function of torch that works out of place, with its operation."""
    table: dict[Callable[..., Any], Operation] = {}
    for kind, names in _NAMES.items():
        for name in names.split():
            known = _functions(name)
            for each in known:
                table[each] = Operation(_PLAIN.get(name, name), kind, each)
    for each in _properties():
        table[each] = Operation("transpose", Kind.MOVEMENT, each)
    return table


@cache
def in_place() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Every known function that works in place, with one that computes the same out of place."""
    table: dict[Callable[..., Any], Callable[..., Any]] = {}
    for names in _NAMES.values():
        for name in names.split():
            if name.startswith("__") or name.endswith("_"):
                continue
            for changed in _functions(f"{name}_"):
                table[changed] = next(iter(reversed(list(_functions(name)))))
    for name in _TAKEN_APART:
        for changed in _functions(f"{name}_"):
            table[changed] = getattr(Tensor, name)
    for name, plain in _AUGMENTED.items():
        for changed in _functions(name):
            table[changed] = getattr(Tensor, plain)
    return table


def operation_of(function: Callable[..., Any]) -> Operation | None:
    """The operation that a function of torch computes, in place or not; None where it is not in the table."""
    return operations().get(in_place().get(function, function))
