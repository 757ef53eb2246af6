"""The task on photographs: EfficientNet-Lite0, and crops of the few pictures that two installed packages bring along.

Crops of one photograph are not independent of each other: they are one cluster. So there are six independent inputs
for the test, which is far too few to tell methods apart; the task shows how they fare on a real network.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image

from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.models import load
from pellucid.models.packaged import Packaged
from pellucid.models.pictures import opened

_SKIMAGE: Final = partial(Packaged, "skimage", install="pip install 'pellucid[image]'", holds="photographs")
_SKLEARN: Final = partial(Packaged, "sklearn", install="pip install scikit-learn", holds="photographs")
PHOTOGRAPHS: Final[Mapping[Split, Mapping[str, Packaged]]] = MappingProxyType(
    {
        "test": {
            "chelsea": _SKIMAGE(file="data/chelsea.png"),
            "coffee": _SKIMAGE(file="data/coffee.png"),
            "rocket": _SKIMAGE(file="data/rocket.jpg"),
            "camera": _SKIMAGE(file="data/camera.png"),
            "china": _SKLEARN(file="datasets/images/china.jpg"),
            "flower": _SKLEARN(file="datasets/images/flower.jpg"),
        },
        "tuning": {
            "astronaut": _SKIMAGE(file="data/astronaut.png"),
            "clock": _SKIMAGE(file="data/clock_motion.png"),
        },
    }
)
"""Photographs of each split. No photograph is in both."""
CROPS: Final = 6
"""Crops of each photograph."""
_LEAST_SHARE: Final = 0.6
_SEED: Final = 20261124


def crops(picture: Image.Image, name: str) -> list[Image.Image]:
    """Squares with sides of 60 to 100 % of the picture's shorter side, at random places that its name decides."""
    generator = np.random.default_rng([_SEED, *name.encode()])
    found = []
    for _ in range(CROPS):
        side = round(min(picture.size) * generator.uniform(_LEAST_SHARE, 1))
        left, top = (int(generator.integers(length - side + 1)) for length in picture.size)
        found.append(picture.crop((left, top, left + side, top + side)))
    return found


def _cases(found: Mapping[Split, Mapping[str, Path]], split: Split) -> Sequence[Case]:
    """One crop of each photograph, then a second one of each, and so on."""
    cut = {name: crops(opened(path).convert("RGB"), name) for name, path in found[split].items()}
    return [
        Case(id=f"{name}-{number}", cluster=name, raw=pictures[number])
        for number in range(CROPS)
        for name, pictures in cut.items()
    ]


def _imagenet(data: Path | None = None) -> Task:
    """Nothing is read of ``data``: the photographs are those of installed packages. Raises MissingPackageError."""
    found = {split: {name: each.path for name, each in places.items()} for split, places in PHOTOGRAPHS.items()}
    return Task(
        name="imagenet",
        title=f"EfficientNet-Lite0: {CROPS} crops of each of six photographs, too few for a claim",
        model="efficientnet-lite0",
        load=partial(load, "efficientnet-lite0"),
        cases=partial(_cases, found),
        features="patch:32",
        imputers=("mean", "blur"),
        source="photographs of scikit-image (chelsea, coffee, rocket, camera) and scikit-learn (china, flower)",
        licence="CC0 or public domain; china and flower CC BY 2.0 (danielbuechele, vultilion)",
    )


IMAGENET: Final[Mapping[str, Callable[[Path | None], Task]]] = MappingProxyType({"imagenet": _imagenet})
