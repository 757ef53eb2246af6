"""Tensors that a network changes in place: every name of such a tensor stands for what it is now.

Nothing is written over, since a rule may still need what stood there: a new tensor takes the place of the old one, and
of every view of it.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pellucid.relevance.calls import is_plain


class Versions:
    """What tensors of one pass became. Forgets a tensor as soon as the network does."""

    def __init__(self) -> None:
        self._now: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._views: dict[int, list[weakref.ref[Tensor]]] = {}

    def current(self, tensor: Tensor) -> Tensor:
        """The tensor as it is now: itself, where it was never changed."""
        while id(tensor) in self._now:
            tensor = self._now[id(tensor)][1]
        return tensor

    def see(self, value: Tensor) -> None:
        """Take note of a tensor that may be a view of another one, which changes when that one does."""
        base = value._base
        if base is not None:
            self._views.setdefault(id(base), []).append(weakref.ref(value))

    def replace(self, target: Tensor, value: Tensor) -> Tensor:
        """Let a tensor, and what it is a view of, and what is a view of that, be as if ``value`` was written into it.

        Returns the target as it is now. Movement alone: autograd follows it.
        """
        if value is target:
            return target
        value = value.to(target.dtype)
        if _is_another_shape(value, target):
            # Nothing was written: what shares the numbers keeps its own shape.
            self._rename(target, value)
            return value
        base = _base(target)
        views = [each for each in self._seen(base) if each is not target]
        if base is target and not views:
            self._rename(target, value)
            return value
        whole = base.clone()
        (whole if base is target else _viewed(target, whole)).copy_(value.expand_as(target))
        for each in (base, *views, target):
            # One that took another shape stands for a view that is seen too.
            if id(each) not in self._now:
                self._rename(each, whole if each is base else _viewed(each, whole))
        return self.current(target)

    def _seen(self, base: Tensor) -> Iterator[Tensor]:
        for reference in self._views.get(id(base), ()):
            view = reference()
            if view is not None and view._base is base:
                yield view

    def _rename(self, target: Tensor, value: Tensor) -> None:
        if value is target:
            return
        key = id(target)

        def forget(_: object) -> None:
            # The place in memory may be another tensor's tomorrow.
            del self._now[key]

        self._now[key] = (weakref.ref(target, forget), value)
        self.see(value)


def _viewed(view: Any, base: Tensor) -> Tensor:
    """The same view of another tensor."""
    result: Tensor = view._view_func(base)
    return result


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None or is_passed_through(tensor) else tensor._base


def _is_another_shape(value: Tensor, target: Tensor) -> bool:
    """Whether a value is the target's own numbers, seen in another order or shape: ``t_``, ``squeeze_``."""
    if not value._is_view() or is_passed_through(value) or not is_plain((value, target)):
        return False
    return value.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()


def is_passed_through(tensor: Tensor) -> bool:
    """Whether a tensor is what an ``autograd.Function`` was given: to torch a view, to the network a new tensor."""
    return isinstance(tensor.grad_fn, torch.autograd.function.BackwardCFunction)
