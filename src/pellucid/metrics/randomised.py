"""A network whose weights are shuffled, layer after layer from the top, and come back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def layers(module: nn.Module) -> list[list[nn.Parameter]]:
    """The network's parameters by layer, from the input up, in the order in which its parts are registered.

    An entry of a module list (a transformer's block) is one layer; elsewhere every module with parameters of its own
    is. A parameter that is used twice belongs to the first.
    """
    seen: set[int] = set()
    found: list[list[nn.Parameter]] = []
    for part in _parts(module):
        fresh = [each for each in part if id(each) not in seen]
        seen.update(id(each) for each in fresh)
        if fresh:
            found.append(fresh)
    return found


def _parts(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    own = list(module.parameters(recurse=False))
    if own:
        yield own
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for entry in child:
                yield list(entry.parameters())
        else:
            yield from _parts(child)


@contextmanager
def shuffled(module: nn.Module, seed: int, most: int) -> Iterator[Iterator[int]]:
    """Inside, each step of the yielded iterator shuffles further layers from the top down; at most ``most`` steps.

    The entries of each tensor are permuted, which keeps its mean, its norm and its distribution. The last step has been
    through all layers; a tensor of equal entries stays as it was. Yields how many layers are shuffled. On leaving,
    every weight is what it was, bit by bit.
    """
    groups = layers(module)[::-1]
    kept = [(weight, weight.detach().clone()) for group in groups for weight in group]
    generator = torch.Generator().manual_seed(seed)

    def steps() -> Iterator[int]:
        count, done = min(most, len(groups)), 0
        for step in range(1, count + 1):
            upto = round(step * len(groups) / count)
            for group in groups[done:upto]:
                for weight in group:
                    _shuffle(weight, generator)
            done = upto
            yield done

    try:
        yield steps()
    finally:
        with torch.no_grad():
            for weight, value in kept:
                weight.copy_(value)


def _shuffle(weight: Tensor, generator: torch.Generator) -> None:
    with torch.no_grad():
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.copy_(weight.flatten()[order].view_as(weight))
