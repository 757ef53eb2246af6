"""Tasks on pictures: clothing, coloured shapes that are asked about, photographs, and X-rays of the chest."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image

from pellucid.benchmark.tasks.photographs import IMAGENET
from pellucid.benchmark.tasks.reading import records, tiles
from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.benchmark.tasks.x_rays import CHEST_X_RAY
from pellucid.models import load
from pellucid.targets import Margin

_FASHION_SIDE: Final = 28
_SHAPE_SIDE: Final = 64
_SHAPE_PATCH: Final = 8


def _fashion_cases(split: Split) -> Sequence[Case]:
    found = records("fashion", split)
    pictures = tiles("fashion", _FASHION_SIDE, [number for number, _ in found])
    return [
        Case(id=record["case"], cluster=record["case"], label=record["label"], raw=picture)
        for picture, (_, record) in zip(pictures, found, strict=True)
    ]


def _fashion(model: str, network: str, data: Path | None = None) -> Task:
    """Kinds of clothing; nothing is read of ``data``. Its 49 patches are those that the transformer reads."""
    return Task(
        name=model,
        title=f"{network}: ten kinds of clothing",
        model=model,
        load=partial(load, model),
        cases=_fashion_cases,
        features="patch:4",
        imputers=("mean", "blur"),
        source="test pictures of Fashion-MNIST [xiao2017], drawn at random",
        licence="MIT",
    )


def shape_patches(picture: Image.Image, patch: int = _SHAPE_PATCH) -> tuple[bool, ...]:
    """Which patches, row by row, hold some of the one shape of a picture of easy-VQA.

    A pixel is the shape's where its colour is nearer to the shape's than to the ground's, which is plain.
    """
    pixels = np.asarray(picture.convert("RGB")).astype(np.int64)
    ((ground, _),) = Counter(map(tuple, pixels.reshape(-1, 3).tolist())).most_common(1)
    distance = np.abs(pixels - np.array(ground)).max(2)
    shape = 2 * distance > distance.max()
    down, across = (length // patch for length in shape.shape)
    held = shape.reshape(down, patch, across, patch).any((1, 3))
    return tuple(held.flatten().tolist())


def _shape_cases(split: Split) -> Sequence[Case]:
    found = records("shapes", split)
    pictures = tiles("shapes", _SHAPE_SIDE, [number for number, _ in found])
    return [
        Case(
            id=record["case"],
            cluster=record["case"],
            label=record["answer"],
            rationale=shape_patches(picture),
            raw={"image": picture, "text": record["question"]},
        )
        for picture, (_, record) in zip(pictures, found, strict=True)
    ]


def _shapes(data: Path | None = None) -> Task:
    """Questions about one shape; nothing is read of ``data``. What is explained are the log-odds of the answer.

    The features are the picture's patches, and the question stays as it is. Patches filled from their neighbours are
    the plain ground where the whole shape is removed, and leave the answer alone where all else is; grey ones would be
    shapes themselves.
    """
    return Task(
        name="shapes",
        title="a vision-language model asked about one coloured shape, whose place is known",
        model="llava-easy-vqa",
        load=partial(load, "llava-easy-vqa"),
        cases=_shape_cases,
        features=f"patch:{_SHAPE_PATCH}",
        imputers=("noisy-linear", "blur"),
        source="test pictures of easy-VQA 1.0 (Victor Zhou, 2019), one question about each, both drawn at random",
        licence="MIT",
        target=Margin(),
    )


TASKS: Final[Mapping[str, Callable[[Path | None], Task]]] = MappingProxyType(
    {
        "fashion-cnn": partial(_fashion, "fashion-cnn", "convolutions"),
        "fashion-vit": partial(_fashion, "fashion-vit", "vision transformer"),
        "shapes": _shapes,
        **IMAGENET,
        **CHEST_X_RAY,
    }
)
"""By name, what makes the task. What pellucid does not ship is read from installed packages when the cases are asked
for; no folder of data is needed."""
