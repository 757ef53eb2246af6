"""Where relevance ends: the numbers of the input, or the vectors that its integers look up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pellucid.errors import InputError
from pellucid.relevance.engine import Embedded

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What a network is called with: a tensor, several, or several by name."""


class Leaves:
    """The arguments of a network, and the leaves of the graph that stand for them.

    Raises InputError on arguments without a tensor, and on numbers inside a tuple, which nobody would trace.
    """

    def __init__(self, x: Inputs) -> None:
        if not isinstance(x, Tensor | Mapping | Sequence):
            raise InputError(f"the input is a tensor, a tuple or a dict of them, not {type(x).__name__}.")
        self._x = x
        named = {"": x} if isinstance(x, Tensor) else x if isinstance(x, Mapping) else dict(enumerate(x))
        self._given: dict[Any, Any] = {}
        for key, each in named.items():
            _check_flat(key, each)
            self._given[key] = self._own(each) if isinstance(each, Tensor) else each
        if not any(isinstance(each, Tensor) and each.numel() for each in self._given.values()):
            raise InputError("the input holds no tensor with numbers in it; there is nothing to trace back to.")
        self._leaf: dict[Any, Tensor] = {
            key: each.detach().requires_grad_()
            for key, each in self._given.items()
            # A mask of floating point numbers says what is there, and is no part of it.
            if isinstance(each, Tensor) and each.is_floating_point() and not str(key).endswith("mask")
        }
        self._embedded: Sequence[Embedded] = ()

    def _own(self, given: Tensor) -> Tensor:
        """An argument as a pass may use it."""
        # Autograd may have to save it, and cannot save what was made in inference mode.
        if given.is_inference():
            return given.clone()
        if _is_integer(given):
            # Which argument an embedding looks up, and at which place of it, is told by where integers stand in memory.
            known = {each.data_ptr() for each in self._given.values() if isinstance(each, Tensor)}
            return given.clone() if given.data_ptr() in known else given.contiguous()
        return given

    @property
    def unbatched(self) -> bool:
        """Whether the input is a single vector."""
        return isinstance(self._x, Tensor) and self._x.ndim == 1 and self._x.is_floating_point()

    @property
    def holds_nan(self) -> bool:
        """Whether the input itself is no number somewhere."""
        return any(bool(each.isnan().any()) for each in self._leaf.values())

    @property
    def tensors(self) -> list[Tensor]:
        """Every leaf: the input's own numbers, then what was looked up."""
        return [*self._leaf.values(), *(each.vectors for each in self._embedded)]

    def call(self, module: Callable[..., Any]) -> Any:
        """What the network gives for the input."""
        # A copy, so that a network that writes into a view of its input writes into no leaf, and not into the user's.
        arguments = self._given | {key: each.clone() for key, each in self._leaf.items()}
        if isinstance(self._x, Tensor):
            return module(arguments[""])
        return module(**arguments) if isinstance(self._x, Mapping) else module(*arguments.values())

    def add(self, embedded: Sequence[Embedded]) -> None:
        """Take the vectors that were looked up on the way."""
        self._embedded = tuple(embedded)

    def restored(self, relevances: Sequence[Tensor]) -> Any:
        """Relevances of the leaves [..., *leaf] in the form of the input: of a text's ids summed over the dimension."""
        found = dict(zip(self._leaf, relevances, strict=False))
        lookups = self._lookups(relevances)
        like = relevances[0] if relevances else torch.zeros(())
        # Before the input's own dimensions there may be one of targets.
        before = like.shape[: like.ndim - self.tensors[0].ndim] if relevances else ()
        for key, each in self._given.items():
            if isinstance(each, Tensor) and key not in found:
                rows = [r.sum(-1).reshape((*before, *each.shape)) for owner, _, r in lookups if owner == key]
                found[key] = (
                    torch.stack(rows).sum(0) if rows else torch.zeros((*before, *each.shape), device=each.device)
                )
        if isinstance(self._x, Tensor):
            return found[""]
        ordered = {key: found.get(key) for key in self._given}
        return ordered if isinstance(self._x, Mapping) else tuple(ordered.values())

    def beside(self, relevances: Sequence[Tensor]) -> dict[str, Tensor]:
        """Relevance of what was looked up for no integer of the input, by module, summed over the dimension."""
        found: dict[str, Tensor] = {}
        for owner, place, relevance in self._lookups(relevances):
            if owner is None:
                found[place] = found.get(place, 0) + relevance.sum(-1)
        return found

    def _lookups(self, relevances: Sequence[Tensor]) -> list[tuple[Any, str, Tensor]]:
        """For each lookup the argument that it belongs to, the module's name, and the relevance of its vectors.

        Vectors of an argument's integers stand in the argument's order.
        """
        found = zip(self._embedded, self._owners(), relevances[len(self._leaf) :], strict=True)
        return [
            (owner, lookup.place.name, r if owner is None else _ordered(lookup.indices, r))
            for lookup, owner, r in found
        ]

    def _owners(self) -> list[Any]:
        """For each lookup the argument that holds its integers; None where there is none."""
        integers = {key: each for key, each in self._given.items() if isinstance(each, Tensor) and _is_integer(each)}
        held = {_memory(each): key for key, each in integers.items()}
        looked_up = [each.indices for each in self._embedded]
        taken = {held[_memory(each)] for each in looked_up if _memory(each) in held}
        # The network may have copied its ids on the way. Where positions would look the same, the first pass for ids.
        for indices in looked_up:
            equal = [key for key, each in integers.items() if _memory(indices) not in held and _equal(each, indices)]
            free = [key for key in equal if key not in taken]
            for key in (free or [key for key in equal if not _may_be_positions(indices)])[:1]:
                held[_memory(indices)] = key
                taken.add(key)
        return [held.get(_memory(each)) for each in looked_up]


def _check_flat(key: Any, given: Any) -> None:
    """Raises InputError on an argument by place that holds floating point numbers inside a tuple, a list or a dict.

    By name it may be what is no part of the input, such as tables of positions, and is a constant.
    """
    if isinstance(given, tuple | list | Mapping) and not isinstance(key, str):
        held = [each for each in tree_leaves(given) if isinstance(each, Tensor) and each.is_floating_point()]
        if held:
            raise InputError(
                f"argument {key!r} is a {type(given).__name__} that holds a tensor {tuple(held[0].shape)}, and only "
                "arguments that are tensors themselves are traced; give each tensor as an argument of its own to a "
                "small module, whose forward(x, h, c) calls yours as network(x, (h, c))."
            )


def _is_integer(given: Tensor) -> bool:
    return not given.is_floating_point() and not given.is_complex() and given.dtype is not torch.bool


def _memory(indices: Tensor) -> tuple[int, int]:
    """Where integers stand, and how many."""
    return indices.data_ptr(), indices.numel()


def _places(indices: Tensor) -> Tensor:
    """For each integer its place in memory: a network may look its ids up transposed."""
    count = torch.arange(indices.numel(), device=indices.device)
    reach = 1 + sum((size - 1) * step for size, step in zip(indices.shape, indices.stride(), strict=True))
    # Some of a larger tensor's have gaps.
    return (count.as_strided(indices.shape, indices.stride()) if reach <= len(count) else count).flatten()


def _equal(given: Tensor, indices: Tensor) -> bool:
    """Whether integers of the network are a copy of those of an argument, place by place in memory."""
    if given.numel() != indices.numel():
        return False
    return torch.equal(given.flatten()[_places(indices).to(given.device)], indices.flatten().to(given))


def _may_be_positions(indices: Tensor) -> bool:
    """Whether integers are what positions, or the types of tokens, may be."""
    steps = torch.atleast_1d(indices).diff(dim=-1)
    return bool(((steps == 0) | (steps == 1)).all())


def _ordered(indices: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of vectors [..., *indices, dimension] as [..., place in memory, dimension]."""
    before, size = relevance.shape[: relevance.ndim - indices.ndim - 1], relevance.shape[-1]
    flat = relevance.reshape(*before, indices.numel(), size)
    return torch.zeros_like(flat).index_add(-2, _places(indices).to(flat.device), flat)
