"""Where relevance ends: the numbers of the input, or the vectors that its integers look up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.relevance.engine import Embedded

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What a network is called with: a tensor, several, or several by name."""


class Leaves:
    """The arguments of a network, and the leaves of the graph that stand for them.

    Raises InputError on arguments without a tensor.
    """

    def __init__(self, x: Inputs) -> None:
        if not isinstance(x, Tensor | Mapping | Sequence):
            raise InputError(f"the input is a tensor, a tuple or a dict of them, not {type(x).__name__}.")
        self._x = x
        named = {"": x} if isinstance(x, Tensor) else x if isinstance(x, Mapping) else dict(enumerate(x))
        # Autograd may have to save it, and cannot save what was made in inference mode.
        self._given: dict[Any, Any] = {
            key: each.clone() if isinstance(each, Tensor) and each.is_inference() else each
            for key, each in named.items()
        }
        if not any(isinstance(each, Tensor) and each.numel() for each in self._given.values()):
            raise InputError("the input holds no tensor with numbers in it; there is nothing to trace back to.")
        self._leaf: dict[Any, Tensor] = {
            key: each.detach().requires_grad_()
            for key, each in self._given.items()
            # A mask of floating point numbers says what is there, and is no part of it.
            if isinstance(each, Tensor) and each.is_floating_point() and not str(key).endswith("mask")
        }
        self._embedded: Sequence[Embedded] = ()

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
                rows = [r.sum(-1).reshape(*before, *each.shape) for owner, _, r in lookups if owner == key]
                found[key] = torch.stack(rows).sum(0) if rows else torch.zeros(*before, *each.shape, device=each.device)
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
        """For each lookup the argument that it belongs to, the module's name, and the relevance of its vectors."""
        found = relevances[len(self._leaf) :]
        return [(self._owner(each), each.place.name, r) for each, r in zip(self._embedded, found, strict=True)]

    def _owner(self, lookup: Embedded) -> Any:
        """The argument that holds the integers of a lookup; None where there is none."""
        integers = {
            key: each
            for key, each in self._given.items()
            if isinstance(each, Tensor) and not each.is_floating_point() and each.numel() == lookup.indices.numel()
        }
        for key, each in integers.items():
            if each.data_ptr() == lookup.indices.data_ptr():
                return key
        # The network may have copied its ids on the way, but positions must not pass for them.
        others = [each for each in self._embedded if each is not lookup]
        taken = {each.indices.data_ptr() for each in others}
        for key, each in integers.items():
            if each.data_ptr() not in taken and torch.equal(each.flatten(), lookup.indices.flatten().to(each)):
                return key
        return None
