"""Which constants of a pass are weights: parameters, and what the network makes of them without its input."""

import weakref
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class Weights:
    """Stacks of matrices that come from parameters, such as those of chosen experts. Forgets them as the network does.

    A single matrix needs no such note: as a constant factor of a product it is taken for a weight.
    """

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[Tensor]] = {}

    def note(self, value: Tensor) -> None:
        """Take note of a weight."""
        if value.ndim > 2:
            key = id(value)
            # The place in memory may be another tensor's tomorrow.
            self._known[key] = weakref.ref(value, lambda _: self._known.pop(key, None))

    def follow(self, made_of: Any, value: Any) -> None:
        """Take note of what was computed of constants, where one of them is a weight."""
        stack = isinstance(value, Tensor) and value.ndim > 2 and value.is_floating_point()
        if stack and any(each in self for each in tree_leaves(made_of)):
            self.note(value)

    def __contains__(self, value: object) -> bool:
        known = self._known.get(id(value))
        return isinstance(value, nn.Parameter) or (known is not None and known() is value)
