"""The layers of a network that have a place for each part of the input, found in one call of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pellucid.methods.attention_pixels import Patches, at_pixels
from pellucid.models.blocks import block_names

Size = tuple[int, int]
SLACK = 2.5
"""Cells by which margins may lengthen or shorten one side of a grid against the other."""


class Layer(NamedTuple):
    """What a module gave in one of its calls."""

    name: str
    """The module's path; empty for the network itself."""
    output: Tensor
    """The tensor, in the graph."""
    version: int
    """How often it had been written into by then."""

    @property
    def is_whole(self) -> bool:
        """Whether it still holds what the module gave."""
        return bool(self.output._version == self.version)


class Grid(NamedTuple):
    """The places of a convolution's output: cells of a grid over the picture."""

    picture: Size
    """Height and width."""
    form: Size
    """Rows and columns of the grid."""
    channels_last: bool = False
    """Whether it comes as [batch, height, width, channel]."""

    def read(self, tensor: Float[Tensor, "1 ..."]) -> Float[Tensor, "channel place"]:
        """A tensor of the layer, by channel and place."""
        return (tensor[0].movedim(-1, 0) if self.channels_last else tensor[0]).flatten(1)

    def spread(self, maps: Float[Tensor, "target place"]) -> Float[Tensor, "target position"]:
        """Maps at the pixels: enlarged bilinearly, and divided by the pixels of a cell, so that sums stay."""
        share = self.form[0] * self.form[1] / (self.picture[0] * self.picture[1])
        grids = maps.view(len(maps), 1, *self.form)
        return share * interpolate(grids, size=self.picture, mode="bilinear", align_corners=False).flatten(1)


class PatchTokens(NamedTuple):
    """The places of a vision transformer's block: the tokens of patches, without those before them."""

    picture: Float[Tensor, "channel height width"]
    """The picture that is cut into them."""
    patches: Patches
    """How it is cut."""

    def read(self, tensor: Float[Tensor, "1 seq dim"]) -> Float[Tensor, "channel place"]:
        """A tensor of the layer, by channel and place."""
        count = self.patches.grid[0] * self.patches.grid[1]
        return tensor[0, tensor.shape[1] - count :].T

    def spread(self, maps: Float[Tensor, "target place"]) -> Float[Tensor, "target position"]:
        """Maps at the pixels: a pixel has its share of its patch."""
        return at_pixels(maps, [self.patches], self.picture)


class TextTokens(NamedTuple):
    """The places of a block that reads a text: the input's tokens; those of a forced answer stand behind them."""

    tokens: int
    """How many the input has."""

    def read(self, tensor: Float[Tensor, "1 seq dim"]) -> Float[Tensor, "channel place"]:
        """A tensor of the layer, by channel and place."""
        return tensor[0, : self.tokens].T

    def spread(self, maps: Float[Tensor, "target place"]) -> Float[Tensor, "target position"]:
        """Maps at the tokens, which they are already."""
        return maps


Places = Grid | PatchTokens | TextTokens


class Recording:
    """What the modules of a network gave, in the order in which it came."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        """Outputs that are tensors; of a tuple its first member."""
        self.calls = 0
        """Calls of the network itself."""


@contextmanager
def recording(module: nn.Module) -> Iterator[Recording]:
    """Inside, the outputs of every part of a module are kept, but for the last, which is the module's own."""
    found = Recording()

    def keep(name: str, part: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            found.layers.append(Layer(name, first, first._version))

    def count(part: nn.Module, args: Any, output: Any) -> None:
        found.calls += 1
        found.layers = [each for each in found.layers if each.output is not output]

    hooks = [part.register_forward_hook(partial(keep, name)) for name, part in module.named_modules() if name]
    hooks.append(module.register_forward_hook(count))
    try:
        yield found
    finally:
        for each in hooks:
            each.remove()


def of_picture(layer: Layer, picture: Float[Tensor, "channel height width"], cuts: list[Patches]) -> Places | None:
    """The places of a layer in a picture; None where it has none, or only one.

    A grid has the picture's proportions, but for what margins add or take: that tells which dimension is of channels.
    """
    shape, size = layer.output.shape, (picture.shape[1], picture.shape[2])
    if len(shape) == 4 and shape[0] == 1:
        grids = [Grid(size, (shape[2], shape[3])), Grid(size, (shape[1], shape[2]), channels_last=True)]
        best = min(grids, key=_bent)
        if best.form != (1, 1) and _bent(best) < SLACK:
            return best
    if len(shape) == 3 and shape[0] == 1 and cuts and shape[1] >= cuts[0].grid[0] * cuts[0].grid[1]:
        return PatchTokens(picture, cuts[0])
    return None


def of_text(layer: Layer, tokens: int) -> Places | None:
    """The places of a layer in a text of so many tokens."""
    shape = layer.output.shape
    return TextTokens(tokens) if len(shape) == 3 and shape[0] == 1 and shape[1] >= tokens else None


def is_block_or_grid(module: nn.Module) -> Callable[[str, Places], bool]:
    """Whether a layer is looked at where none is named: grids, and sequences that blocks give where there are such."""
    blocks = set(block_names(module))
    return lambda name, places: isinstance(places, Grid) or name in blocks or not blocks


def _bent(grid: Grid) -> float:
    """By how many cells a grid's proportions differ from the picture's; infinite where it is finer than the picture."""
    (rows, columns), (height, width) = grid.form, grid.picture
    if rows > height or columns > width:
        return inf
    return min(abs(rows - height * columns / width), abs(columns - width * rows / height))
