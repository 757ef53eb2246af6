"""What is kept of a pass: the tensors that modules gave, and the relevance that each received."""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from pellucid.relevance.rule import Carrier


class Slot:
    """One tensor of the network, and its relevance once a pass has come back through it."""

    def __init__(self, tensor: Tensor, carrier: Carrier, *, folded: bool = False) -> None:
        """Take note of a tensor. ``folded``: keep its relevance summed over the last dimension alone."""
        self.shape, self.device = tensor.shape[:-1] if folded else tensor.shape, tensor.device
        self._folded = folded
        self._x = tensor.detach() if carrier == "coefficient" else None
        # A product of two half-precision numbers does not fit half precision.
        self._wide = torch.promote_types(tensor.dtype, torch.float32)
        self._found: list[Tensor] = []
        tensor.register_hook(sink(self.store))

    def store(self, carried: Tensor) -> None:
        """Take what arrived: shaped like the tensor, or with a dimension of targets before."""
        found = carried.to(self._wide)
        if self._x is not None:
            # A masked score is -inf and carries nothing.
            found = torch.where(found == 0, found, found * self._x.to(self._wide))
        self._found.append(found.sum(-1) if self._folded else found)

    def relevance(self, targets: int) -> Tensor:
        """The relevance [target, *shape] of everything that came back so far, in the order it came."""
        if not self._found:
            return torch.zeros(targets, *self.shape, dtype=self._wide, device=self.device)
        rows = [each.reshape(-1, *self.shape) for each in self._found]
        return rows[0] if len(rows) == 1 else torch.cat(rows)


def sink(take: Callable[[Tensor], None]) -> Callable[[Tensor | None], None]:
    """A hook that hands on what a pass carries: all targets at once, in a first dimension, where there are several."""

    def hook(carried: Tensor | None) -> None:
        # Autograd says None where nothing came at all.
        if carried is None:
            return
        # Under vmap only a function with a rule of its own sees all targets at once, and outside it the plain numbers.
        with torch._C.DisableTorchFunction():
            _keep(carried, take)

    return hook


class _Keep(torch.autograd.Function):
    """Hands a carrier on."""

    @staticmethod
    def forward(carried: Tensor, take: Callable[[Tensor], None]) -> Tensor:
        take(carried)
        return carried

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], carried: Tensor, take: Callable[[Tensor], None]
    ) -> tuple[Tensor, int]:
        (place, _) = in_dims
        each = carried.expand(info.batch_size, *carried.shape) if place is None else carried.movedim(place, 0)
        take(each)
        return each, 0


_keep: Callable[..., Any] = _Keep.apply


def pulled(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    seeds: Sequence[Tensor],
    run: Callable[..., Any],
    *,
    again: bool,
) -> tuple[Tensor, ...]:
    """Carry seeds [target, *shape of the output] back to the inputs: one backward pass for all targets.

    Unless there is to be one more pass ``again``, what the network saved is freed on the way. Returns the
    carriers [target, *shape of the input], zeros where nothing came.
    """

    def back(*one: Tensor) -> tuple[Tensor, ...]:
        found = run(outputs, inputs, one, retain_graph=again, allow_unused=True)
        return tuple(torch.zeros_like(x) if c is None else c for x, c in zip(inputs, found, strict=True))

    if len(seeds[0]) == 1:
        return tuple(each[None] for each in back(*(seed[0] for seed in seeds)))
    with _quietly:
        result: tuple[Tensor, ...] = torch.func.vmap(back)(*seeds)
    return result


class _Quietly:
    """Inside, torch does not warn that an operation has no batched form, and is run once for each target.

    Fused attention on a CPU has none; the numbers are the same. The switch is one for all threads.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(self, *_: object) -> None:
        self._count(-1)

    def _count(self, step: int) -> None:
        with self._lock:
            self._inside += step
            switch: Any = torch._C._functorch
            switch._set_vmap_fallback_warning_enabled(self._inside == 0)


_quietly = _Quietly()
