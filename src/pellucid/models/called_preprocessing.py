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

# More than networks cut out of a picture's middle.
_SIDE = 512
# A shade of 8 bits is this wide; what is off by less is rounding.
_SHADE = 1 / 255


def plain_picture(*colour: int) -> Image.Image:
    """A picture of one colour, or, of one number, of a shade of grey."""
    return Image.new("RGB", (_SIDE, _SIDE), colour if len(colour) == 3 else colour * 3)


def normalisation(
    tensor_of: Callable[[Image.Image], Float[Tensor, "channel height width"]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel by which a preprocessing normalises, measured on pictures of one colour.

    Raises InputError on one that normalises in another way than (value - mean) / std, or that mixes up the channels, so
    that a picture could not be drawn as the network saw it.
    """
    black, middle, white = (tensor_of(plain_picture(shade)).double() for shade in (0, 51, 255))
    low, high = black.amin((1, 2)), white.amax((1, 2))
    span = high - low
    even = torch.stack([black.amax((1, 2)) - low, high - white.amin((1, 2))]).abs().max()
    straight = (middle.mean((1, 2)) - low - span * 51 / 255).abs().max()
    # A shade of rounding is allowed, twice where the picture is scaled before.
    if (
        not bool((span > 0).all())
        or float(even) > _SHADE * float(span.max())
        or float(straight) > float(2 * _SHADE * span.max())
    ):
        raise InputError(
            "the preprocessing does not scale each channel by (value - mean) / std, so that a picture cannot be drawn "
            "as the network saw it; write it as pellucid.models.AbstractPreprocessing."
        )
    if len(span) == 3:
        red = tensor_of(plain_picture(255, 0, 0)).double().mean((1, 2))
        if float((red - torch.stack([high[0], low[1], low[2]])).abs().max()) > 2 * _SHADE * float(span.max()):
            raise InputError(
                "the preprocessing gives its channels in another order than red, green, blue, so that a picture would "
                "be drawn in false colours; let the network's first layer change the order."
            )
    return tuple((-low / span).tolist()), tuple((1 / span).tolist())


@final
class CalledPreprocessing(AbstractPreprocessing):
    """What a function does to a picture.

    How it normalises is measured, so that the picture can be drawn as the network saw it. Raises InputError on a
    function that gives something else than [channel, height, width], and as ``normalisation``.
    """

    def __init__(self, function: Callable[[Image.Image], Any]) -> None:
        self._function = function
        self.mean, self.std = normalisation(self.tensor)

    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        try:
            found = self._function(image.convert("RGB"))
        except Exception as error:
            # It is a function of the caller's, and may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
            raise InputError(
                f"the preprocessing cannot read a picture of {image.size[0]} x {image.size[1]} ({reason})."
            ) from error
        if not isinstance(found, Tensor) or found.ndim != 3 or not found.is_floating_point():
            given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"a preprocessing gives a tensor [channel, height, width] of floating point numbers, not {given}."
            )
        return found

    def to_bytes(self) -> bytes:
        """What it makes of one picture of many shades: a function has no other mark that stays from run to run."""
        noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        return self.tensor(Image.fromarray(noise)).float().numpy().tobytes()
