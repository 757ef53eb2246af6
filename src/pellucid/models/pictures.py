"""What models of pictures share. A picture's features are its pixels, its patches on a grid, or superpixels."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pellucid.errors import InputError, MissingPackageError, UnknownNameError
from pellucid.models.base import Baseline
from pellucid.models.fingerprint import fingerprint
from pellucid.models.tensor import AbstractTensorClassifier, TensorInputs
from pellucid.records import Feature, Fingerprint

IMAGE_KINDS = ("pixel", "patch", "superpixel")
PATCHES_TO_A_SIDE = 8
SUPERPIXELS = 50
# Pillow opens others too, some of them by running other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
# A blur that leaves no edge of an object of a tenth of the picture's side.
BLUR_SHARE = 0.1

Picture = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class ImageInputs(TensorInputs):
    """An encoded picture."""

    picture: UInt8[np.ndarray, "height width channel"]
    """What the network saw of it, as a person sees it."""
    regions: Int[Tensor, "height width"] | None = None
    """The feature that each pixel belongs to, once the picture is divided."""
    kind: str = ""
    """The kind of feature that it is divided into."""


class AbstractPreprocessing(ABC):
    """From a picture to the tensor that a network reads."""

    mean: tuple[float, ...]
    """Mean of each channel, of values in [0, 1]."""
    std: tuple[float, ...]
    """Deviation of each channel."""

    @abstractmethod
    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """The normalised picture."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Everything that decides ``tensor``."""

    @final
    def picture(self, tensor: Float[Tensor, "channel height width"]) -> UInt8[np.ndarray, "height width channel"]:
        """The picture that a tensor was made of, cut and scaled as the network saw it."""
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        shades = ((tensor.float().cpu() * std + mean) * 255).round().clamp(0, 255)
        return shades.byte().permute(1, 2, 0).numpy()


@final
@dataclass(frozen=True)
class Preprocessing(AbstractPreprocessing):
    """Scale the shorter side, cut the middle out, normalise: (pixel / 255 - mean) / std."""

    size: tuple[int, int]
    """Height and width."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        height, width = self.size
        if image.size != (width, height):
            scale = max(height / image.height, width / image.width)
            scaled = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
            image = image.resize(scaled, Image.Resampling.BICUBIC)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        shades = torch.from_numpy(np.array(image, dtype=np.float32)).view(height, width, -1).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        return (shades - mean) / std

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


class AbstractImageModel(AbstractTensorClassifier[ImageInputs]):
    """A network that takes a picture [batch, channel, height, width] and scores labels, of all of it or of its places.

    Args:
        module: the network.
        labels: the class labels, in the order of the logits.
        preprocessing: how a picture becomes what the network reads.
        name: what to call the model in results.
        background: pictures that stand for the data, to draw absent parts and baselines from.
    """

    modality = "image"

    def __init__(
        self,
        module: torch.nn.Module,
        labels: Sequence[str],
        preprocessing: AbstractPreprocessing,
        *,
        name: str = "",
        background: Sequence[Picture] = (),
    ) -> None:
        super().__init__(module, labels, name=name)
        self.preprocessing = preprocessing
        self._background = tuple(background)

    def encode(self, raw: Any) -> ImageInputs:
        """The tensor of a picture: a file, a PIL image, or an array [height, width(, channel)] of bytes.

        Raises InputError where it cannot be read.
        """
        tensor = self.preprocessing.tensor(opened(raw))
        return ImageInputs(tensor, self.preprocessing.picture(tensor))

    # Features

    def default_kind(self, inputs: ImageInputs) -> str:
        return "patch"

    def divided(self, inputs: ImageInputs, kind: str) -> ImageInputs:
        """The picture cut into features: pixel, patch or patch:SIDE, superpixel or superpixel:COUNT."""
        name, given = _kind(kind)
        if inputs.kind == kind:
            return inputs
        height, width = inputs.row.shape[1:]
        if name == "pixel":
            regions = torch.arange(height * width).view(height, width)
        elif name == "patch":
            side = given or -(-max(height, width) // PATCHES_TO_A_SIDE)
            if side > max(height, width):
                raise InputError(f"a patch of {side} pixels is larger than the picture, {height} x {width}.")
            rows, columns = torch.arange(height) // side, torch.arange(width) // side
            regions = rows[:, None] * (int(columns.max()) + 1) + columns
        else:
            regions = _superpixels(inputs.picture, given or SUPERPIXELS)
        return replace(inputs, regions=regions, kind=kind)

    def features(self, inputs: ImageInputs, kind: str) -> tuple[Feature, ...]:
        """The parts of a picture. Their value is their mean colour."""
        name, _ = _kind(kind)
        inputs = self.divided(inputs, kind)
        assert inputs.regions is not None
        regions = inputs.regions.flatten()
        count = int(regions.max()) + 1
        sums = torch.zeros(count, inputs.picture.shape[2]).index_add(
            0, regions, torch.from_numpy(inputs.picture).flatten(0, 1).float()
        )
        means = (sums / regions.bincount()[:, None]).round().byte()
        colours = means.expand(-1, 3) if means.shape[1] == 1 else means
        wide = int(inputs.regions[0].max()) + 1
        return tuple(
            Feature(
                label=f"{number}" if name == "superpixel" else f"{number // wide},{number % wide}",
                kind=name,
                value=f"#{colour.tobytes().hex()}",
                index=number,
            )
            for number, colour in enumerate(colours.numpy())
        )

    def owners(self, inputs: ImageInputs, features: Sequence[Feature]) -> Int[Tensor, " seq"]:
        if inputs.regions is None:
            raise InputError("this picture is not divided into features yet; ask for them with 'divided'.")
        return inputs.regions.flatten()

    def drawing(self, inputs: ImageInputs) -> dict[str, np.ndarray]:
        assert inputs.regions is not None
        return {"picture": inputs.picture, "regions": inputs.regions.numpy().astype(np.int32)}

    # Tensors

    def to_sequence(self, tensor: Float[Tensor, "*batch channel height width"]) -> Float[Tensor, "*batch seq dim"]:
        return tensor.flatten(-2).transpose(-1, -2)

    def to_tensor(
        self, sequence: Float[Tensor, "batch seq dim"], inputs: ImageInputs
    ) -> Float[Tensor, "batch channel height width"]:
        return sequence.transpose(1, 2).reshape(len(sequence), *inputs.row.shape)

    # What stands for an absent pixel

    def preferred_baseline(self) -> str:
        return "mean"

    def baseline(self, name: str, inputs: ImageInputs) -> Baseline:
        """The mean colour of the training pictures, which the network reads as zeros; black; or a blurred copy."""
        zero = torch.zeros(inputs.row.shape[0])
        mean, std = torch.tensor(self.preprocessing.mean), torch.tensor(self.preprocessing.std)
        if name == "blur":
            sigma = BLUR_SHARE * max(inputs.row.shape[1:])
            blurred = self.to_sequence(_blurred(inputs.row, sigma))
            return Baseline(self._placed(blurred), f"blur: the picture through a Gaussian of {sigma:.1f} pixels")
        known = {
            "zero": (zero, "zeros, as the network reads them"),
            "mean": (zero, "mean colour of the training pictures"),
            "black": (-mean / std, "black"),
        }
        if name not in known:
            raise UnknownNameError("baseline", name, [*known, "blur"])
        vector, described = known[name]
        return Baseline(self._placed(vector), described)

    def background_draws(
        self, inputs: ImageInputs, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """Whole pictures, drawn with replacement."""
        rows = self.background(background)
        drawn = torch.randint(len(rows), (count,), generator=generator)
        described = f"pictures drawn from {len(rows)} of the background"
        return Baseline(self._placed(self.to_sequence(rows[drawn])), described)

    def background(self, given: Sequence[Any] = ()) -> Float[Tensor, "row channel height width"]:
        """The tensors of the given background pictures, or of the model's own. Raises InputError without any."""
        pictures = given or self._background
        if not pictures:
            raise InputError(f"{self.name} has no background pictures to draw from; give background=[...].")
        return torch.stack([self.encode(picture).row for picture in pictures])

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.like)

    def fingerprint(self) -> Fingerprint:
        return fingerprint(self, self.preprocessing.to_bytes() + json.dumps(self.labels).encode())


def opened(raw: Any) -> Image.Image:
    """A picture that was given as a file, a PIL image or an array.

    Raises InputError where the picture cannot be read, is empty, or has more than eight bits a channel.
    """
    if not isinstance(raw, Image.Image | np.ndarray | str | os.PathLike):
        raise InputError(f"a picture is a file, a PIL image or an array of bytes, not {type(raw).__name__}.")
    image = _from_array(raw) if isinstance(raw, np.ndarray) else _loaded(raw)
    if not (image.width and image.height):
        raise InputError(f"the picture has no pixels: it is {image.height} x {image.width}.")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        # Pillow would clip whatever is above 255 to white.
        raise InputError(
            f"the picture has more than 8 bits a channel (mode {image.mode}); scale it to 0 to 255 first, as the "
            "pictures that the network learned from were."
        )
    return image.convert("RGBA") if "transparency" in image.info else image


def _from_array(raw: np.ndarray) -> Image.Image:
    if raw.dtype != np.uint8 or raw.ndim not in (2, 3) or (raw.ndim == 3 and raw.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"a picture as an array is uint8 [height, width] or [height, width, 1, 3 or 4], not {raw.dtype} "
            f"{list(raw.shape)}."
        )
    return Image.fromarray(raw.squeeze(2) if raw.ndim == 3 and raw.shape[2] == 1 else raw)


def _loaded(raw: Image.Image | str | os.PathLike[str]) -> Image.Image:
    name = "the PIL image" if isinstance(raw, Image.Image) else repr(os.fspath(raw))
    try:
        if isinstance(raw, Image.Image):
            raw.load()
            return raw
        with Image.open(raw, formats=FORMATS) as image:
            image.load()
            # A camera stores how it was held; a person sees the picture upright.
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise InputError(f"there is no picture at {name}.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be read as a picture: {str(error).rstrip('.')}.") from None


def _kind(kind: str) -> tuple[str, int | None]:
    """A kind of feature and its size: ``patch:7`` is patches of 7 x 7 pixels, ``superpixel:50`` about 50 of them."""
    name, colon, size = kind.partition(":")
    if name not in IMAGE_KINDS or (colon and name == "pixel"):
        raise UnknownNameError("kind of feature", kind, ["pixel", "patch", "patch:SIDE", "superpixel", "superpixel:N"])
    if colon and not (size.isdecimal() and int(size) > 0):
        raise InputError(f"the size in {kind!r} is a whole number above 0, such as {name}:16.")
    return name, int(size) if colon else None


def _superpixels(picture: UInt8[np.ndarray, "height width channel"], count: int) -> Int[Tensor, "height width"]:
    """SLIC superpixels [achanta2012]; about ``count`` of them."""
    try:
        from skimage.segmentation import slic
    except ImportError:
        raise MissingPackageError("scikit-image, which finds superpixels", "pip install 'pellucid[image]'") from None
    colour = picture.shape[2] > 1
    found = slic(picture if colour else picture[:, :, 0], count, start_label=0, channel_axis=-1 if colour else None)
    _, regions = np.unique(found, return_inverse=True)
    return torch.from_numpy(regions.reshape(found.shape))


def _blurred(picture: Float[Tensor, "channel height width"], sigma: float) -> Float[Tensor, "channel height width"]:
    """Through a Gaussian, edges repeated."""
    reach = int(3 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    single = picture[:, None].float()
    single = torch.nn.functional.pad(single, (reach, reach, reach, reach), mode="replicate")
    single = torch.nn.functional.conv2d(single, weights.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(single, weights.view(1, 1, 1, -1))[:, 0]
