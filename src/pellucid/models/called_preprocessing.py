"""A preprocessing that somebody wrote as a function from a picture to a tensor, such as a transform of torchvision."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pellucid.errors import InputError
from pellucid.models.pictures import AbstractPreprocessing

_SIDE = 128
# A shade of 8 bits is this wide; what is off by less is rounding.
_SHADE = 1 / 255


def plain_picture(shade: int) -> Image.Image:
    """A picture of one shade."""
    return Image.new("RGB", (_SIDE, _SIDE), (shade,) * 3)


@final
class CalledPreprocessing(AbstractPreprocessing):
    """What a function does to a picture.

    How it normalises is measured on a black and on a white picture, so that the picture can be drawn as the network saw
    it. Raises InputError on a function that gives something else than [channel, height, width], or that normalises in
    another way than (value - mean) / std for each channel.
    """

    def __init__(self, function: Callable[[Image.Image], Any]) -> None:
        self._function = function
        black, middle, white = (self.tensor(plain_picture(shade)).double() for shade in (0, 51, 255))
        low, high = black.amin((1, 2)), white.amax((1, 2))
        span = high - low
        even = torch.stack([black.amax((1, 2)) - low, high - white.amin((1, 2))]).abs().max()
        straight = (middle.mean((1, 2)) - low - span * 51 / 255).abs().max()
        if (
            not bool((span > 0).all())
            or float(even) > _SHADE * float(span.max())
            or float(straight) > float(2 * _SHADE * span.max())
        ):
            raise InputError(
                "the preprocessing does not scale each channel by (value - mean) / std, so that a picture cannot be "
                "drawn as the network saw it; write it as pellucid.models.AbstractPreprocessing."
            )
        self.mean = tuple((-low / span).tolist())
        self.std = tuple((1 / span).tolist())

    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        found = self._function(image.convert("RGB"))
        if not isinstance(found, Tensor) or found.ndim != 3 or not found.is_floating_point():
            given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"a preprocessing gives a tensor [channel, height, width] of floating point numbers, not {given}."
            )
        return found

    def to_bytes(self) -> bytes:
        """What it makes of one picture of many shades: a function has no other mark that stays from run to run."""
        noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        return self.tensor(Image.fromarray(noise)).float().numpy().tobytes()
