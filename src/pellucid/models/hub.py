"""Networks of the transformers library, from a local folder or the hub."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pellucid.errors import ModelError
from pellucid.models.image_classifier import AbstractPreprocessing

AUTO: dict[str, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "text-classifier": AutoModelForSequenceClassification,
    "image-classifier": AutoModelForImageClassification,
}
"""By kind of model."""
ENDINGS = {
    "ForSequenceClassification": "text-classifier",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForImageClassification": "image-classifier",
}


class HubPreprocessing(AbstractPreprocessing):
    """What a checkpoint's own image processor does."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.mean = tuple(float(each) for each in processor.image_mean)
        self.std = tuple(float(each) for each in processor.image_std)

    def tensor(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        # The library's processors want the channel even where there is one only.
        pixels = np.array(image).reshape(image.height, image.width, -1)
        given = self._processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
        tensor: Tensor = given["pixel_values"][0]
        return tensor

    def to_bytes(self) -> bytes:
        return str(self._processor.to_json_string()).encode()


def kind_of(architecture: str) -> str:
    """The kind of model that a class of transformers is. Raises ModelError on one that cannot be asked."""
    for ending, kind in ENDINGS.items():
        if architecture.endswith(ending):
            return kind
    raise ModelError(
        f"{architecture} is neither a causal language model nor a classifier of texts or images; give "
        "kind='causal-lm', 'text-classifier' or 'image-classifier' if it is one all the same."
    )


def read_hub(
    source: str | os.PathLike[str],
    kind: str | None,
    dtype: torch.dtype,
    revision: str | None,
    trust: bool,
    known: tuple[str, ...],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | HubPreprocessing]:
    """A network and what encodes its input. Raises ModelError where it cannot be found or read."""
    name = str(source)
    options: dict[str, Any] = {"trust_remote_code": trust, **({"revision": revision} if revision else {})}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        kind = kind or kind_of((config.architectures or ["unknown"])[0])
        processor: PreTrainedTokenizerBase | HubPreprocessing
        if kind == "image-classifier":
            auto: Any = AutoImageProcessor
            processor = HubPreprocessing(auto.from_pretrained(name, use_fast=False, **options))
        else:
            processor = AutoTokenizer.from_pretrained(name, **options)
        module = AUTO[kind].from_pretrained(name, dtype=dtype, use_safetensors=True, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        close = get_close_matches(name, known, 1)
        meant = f"did you mean {close[0]!r}? Or " if close else ""
        raise ModelError(
            f"the model {name!r} could not be loaded ({first}); {meant}give a model that loads by name "
            f"({', '.join(known)}), a folder or .gguf file that exists, or a hub id that can be reached."
        ) from error
    return module, processor


def folder_bytes(path: Path) -> int:
    """Size of the weights' files of a folder, or of one file; 0 for a hub id."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) if path.is_dir() else 0
