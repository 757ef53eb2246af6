"""Networks of the transformers library, from a local folder or the hub."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
)

from pellucid.errors import InputError, ModelError
from pellucid.models.called_preprocessing import normalisation
from pellucid.models.pictures import AbstractPreprocessing
from pellucid.models.word_lstm import WordLSTMConfig, WordLSTMForSequenceClassification

AutoConfig.register(WordLSTMConfig.model_type, WordLSTMConfig)
AutoModelForSequenceClassification.register(WordLSTMConfig, WordLSTMForSequenceClassification)

AUTO: dict[str, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "text-classifier": AutoModelForSequenceClassification,
    "image": AutoModelForImageClassification,
    "segmentation": AutoModelForSemanticSegmentation,
    "vision-language": AutoModelForImageTextToText,
}
"""The class that reads a checkpoint, by task."""
ENDINGS = {
    "ForSequenceClassification": "text-classifier",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForImageClassification": "image",
    "ForSemanticSegmentation": "segmentation",
}


class HubPreprocessing(AbstractPreprocessing):
    """What a checkpoint's own image processor does."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._grey = len(getattr(processor, "image_mean", None) or "rgb") == 1
        # What a processor declares, it need not do: some normalise nothing, or change the channels' order.
        self.mean, self.std = normalisation(self.tensor)

    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        image = image.convert("L" if self._grey else "RGB")
        # The library's processors want the channel even where there is one only.
        pixels = np.array(image).reshape(image.height, image.width, -1)
        given = self._processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
        tensor: Tensor = given["pixel_values"][0]
        return tensor

    def to_bytes(self) -> bytes:
        return str(self._processor.to_json_string()).encode()


def known_task(architecture: str) -> str | None:
    """What a class of transformers is for, where its name says so."""
    return next((task for ending, task in ENDINGS.items() if architecture.endswith(ending)), None)


def task_of(architecture: str, *, vision: bool) -> str:
    """What a class of transformers is for. Raises ModelError on one that cannot be asked.

    ``vision``: whether its configuration has a part that sees.
    """
    if vision and architecture.endswith("ForConditionalGeneration"):
        return "vision-language"
    task = known_task(architecture)
    if task is None:
        raise ModelError(
            f"{architecture} is neither a language model, nor a vision-language model, nor a classifier of texts or "
            f"images, nor a segmentation network; give task= as one of {', '.join(AUTO)} if it is one all the same."
        )
    return task


def read_hub(
    source: str | os.PathLike[str],
    task: str | None,
    dtype: torch.dtype,
    revision: str | None,
    trust: bool,
    known: tuple[str, ...],
) -> tuple[PreTrainedModel, Any]:
    """A network and what encodes its input. Raises ModelError where it cannot be found or read."""
    name = str(source)
    options: dict[str, Any] = {"trust_remote_code": trust, **({"revision": revision} if revision else {})}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        architecture = (config.architectures or ["unknown"])[0]
        task = _checked(name, architecture, task, vision=hasattr(config, "vision_config"))
        # The library's classes are declared without types.
        pictures: Any = AutoImageProcessor
        both: Any = AutoProcessor
        if task in ("image", "segmentation"):
            processor: Any = HubPreprocessing(pictures.from_pretrained(name, use_fast=False, **options))
        elif task == "vision-language":
            processor = both.from_pretrained(name, use_fast=False, **options)
        elif task in AUTO:
            processor = AutoTokenizer.from_pretrained(name, **options)
        else:
            raise ModelError(f"no checkpoint of transformers is a {task} model; give (module, columns) instead.")
        module, report = AUTO[task].from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        close = get_close_matches(name, known, 1)
        meant = f"did you mean {close[0]!r}? Or " if close else ""
        raise ModelError(
            f"the model {name!r} could not be loaded ({first}); {meant}give a model that loads by name "
            f"({', '.join(known)}), a folder or .gguf file that exists, or a hub id that can be reached."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the checkpoint {name!r} holds no weights for {', '.join(missing[:3])}{' ...' if missing[3:] else ''}, so "
            f"that they would be random: it is no whole {type(module).__name__}."
        )
    return module, processor


def _checked(name: str, architecture: str, task: str | None, *, vision: bool) -> str:
    """What a checkpoint is for. Raises InputError where it is asked to be something else."""
    known = known_task(architecture)
    if task is not None and known is not None and known != task:
        raise InputError(f"{name} is a {known} ({architecture}), not a {task}; leave task out.")
    return task or task_of(architecture, vision=vision)


def folder_bytes(path: Path) -> int:
    """Size of the weights' files of a folder, or of one file; 0 for a hub id."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) if path.is_dir() else 0
