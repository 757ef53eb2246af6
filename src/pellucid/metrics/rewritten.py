"""Two networks that are one function: a network written otherwise, and the same question put to another network."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from pellucid.errors import InputError, ModelError
from pellucid.games import Question
from pellucid.models import AbstractClassifier, Model

ALIKE = 1e-4
"""Two networks are one function if their targets differ by no more than this share of the largest one."""
COALITIONS = 6
"""Random coalitions that are tried beside the whole input and the empty one."""
COALITIONS_TRIED = COALITIONS + 2


class _SplitLinear(nn.Linear):
    """W x + b as (W+ x + b) + (W- x), the positive and the negative weights apart."""

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch out"]:
        positive, negative = self.weight.clamp(min=0), self.weight.clamp(max=0)
        return nn.functional.linear(x, positive, self.bias) + nn.functional.linear(x, negative)


class _SplitConvolution(_ConvNd):
    """A convolution as the sum of two: the positive weights with the bias, and the negative ones."""

    def forward(self, x: Tensor) -> Tensor:
        positive, negative = self.weight.clamp(min=0), self.weight.clamp(max=0)
        both: Tensor = self._conv_forward(x, positive, self.bias) + self._conv_forward(x, negative, None)
        return both


class _SplitConv1d(_SplitConvolution, nn.Conv1d):
    pass


class _SplitConv2d(_SplitConvolution, nn.Conv2d):
    pass


class _ScaledReLU(nn.ReLU):
    """relu(x) as relu(4 x) / 4, which a float does without rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(4 * x) / 4


_REWRITTEN: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _SplitLinear,
    nn.Conv1d: _SplitConv1d,
    nn.Conv2d: _SplitConv2d,
    nn.ReLU: _ScaledReLU,
}


def equal_model(question: Question) -> Model:
    """A copy of the question's model whose network computes the same function in other steps.

    Batch normalisation is folded into the convolution or the linear layer before it; every linear layer and convolution
    becomes the sum of two, of its positive and of its negative weights; ReLU works on another scale. The original is
    left as it is. Finding what a batch normalisation reads takes one row. Raises InputError where none of these layers
    is there as a module of PyTorch's own.
    """
    model = question.model
    # What was spent on the copy was spent.
    copied: Model = copy.deepcopy(model, {id(model.meter): model.meter})
    rewritten = _fold(copied, question)
    for part in list(copied.module.modules()):
        # A subclass may compute something else.
        if type(part) in _REWRITTEN:
            part.__class__ = _REWRITTEN[type(part)]
            rewritten += 1
    if not rewritten:
        raise InputError(
            f"{model.name} has no linear layer, convolution, ReLU or batch normalisation that could be written "
            "otherwise; give an equal model as other=."
        )
    return copied


def of_model(question: Question, other: Model) -> Question:
    """The same question, with the same target, about another network. Raises InputError where that reads otherwise."""
    mine, its = question.model, other
    same = type(mine) is type(its) and mine.fingerprint().tokenizer == its.fingerprint().tokenizer
    if isinstance(mine, AbstractClassifier) and isinstance(its, AbstractClassifier):
        same = same and mine.labels == its.labels
    if not same:
        raise InputError(
            f"{its.name} does not read what {mine.name} reads; give a model of the same kind, with the same tokenizer, "
            "columns or preprocessing and the same labels."
        )
    return question._replace(model=other).of(question.inputs)


def require_equal(question: Question, other: Question, seed: int) -> None:
    """Raise ModelError where the two say different things, of the whole input, the empty one or random coalitions."""
    players = len(question.features)
    drawn = np.random.default_rng(seed).random((COALITIONS, players)) < 0.5
    masks = np.concatenate([np.ones((1, players), bool), np.zeros((1, players), bool), drawn])
    first, second = question.game.value(masks), other.game.value(masks)
    apart, scale = float(np.abs(first - second).max()), float(np.abs(first).max())
    if apart > ALIKE * max(scale, 1e-6):
        raise ModelError(
            f"{question.model.name} and the network that should equal it differ by {apart:.3g}, of values up to "
            f"{scale:.3g}; only two networks that are one function can be compared."
        )


def _fold(model: Model, question: Question) -> int:
    """Fold each batch normalisation into the one layer whose output it reads; how many were folded."""
    if not any(isinstance(part, _BatchNorm) for part in model.module.modules()):
        return 0
    with _read_by_norms(model.module) as pairs, torch.no_grad():
        embedded = question._replace(model=model).embedded(0)
        embedded(embedded.embeddings[None])
    for layer, norm in pairs:
        fuse: Any = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
        layer.weight, layer.bias = fuse(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        _replace(model.module, norm, nn.Identity())
    return len(pairs)


@contextmanager
def _read_by_norms(module: nn.Module) -> Iterator[list[tuple[Any, Any]]]:
    """Inside, a call of the network notes each layer with the batch normalisation that reads its output."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}
    pairs: list[tuple[Any, Any]] = []

    def note(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        # The tensor is kept, so that no other one can take its place in memory and its id.
        made[id(out)] = layer, out

    def read(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        if id(given[0]) in made and norm.running_mean is not None:
            pairs.append((made[id(given[0])][0], norm))

    hooks = []
    for part in module.modules():
        if type(part) in (nn.Linear, nn.Conv1d, nn.Conv2d):
            hooks.append(part.register_forward_hook(note))
        elif isinstance(part, _BatchNorm):
            hooks.append(part.register_forward_pre_hook(read))
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for part in list(module.modules()):
        for name, child in part.named_children():
            if child is old:
                setattr(part, name, new)
