"""Loading a model: by name, from a folder, a GGUF file, the hub, or from memory."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models.adapter import is_adapter, read_adapter
from pellucid.models.catalogue import NAMES, background_pictures, is_ours, located, read_ours
from pellucid.models.causal_lm import CausalLM
from pellucid.models.gguf import read_gguf
from pellucid.models.hub import AUTO, ENDINGS, HubPreprocessing, folder_bytes, kind_of, read_hub
from pellucid.models.image_classifier import AbstractPreprocessing, ImageClassifier
from pellucid.models.tabular import Tabular
from pellucid.models.text_classifier import TextClassifier
from pellucid.progress import working

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
Kind = Literal["causal-lm", "text-classifier", "image-classifier"]
LoadedModel = CausalLM | TextClassifier | ImageClassifier | Tabular
Processor = PreTrainedTokenizerBase | AbstractPreprocessing


def load(
    source: str | os.PathLike[str] | tuple[PreTrainedModel, Any],
    *,
    kind: Kind | None = None,
    device: str | None = None,
    dtype: str | None = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model that can be asked.

    Args:
        source: the name of an embedded model (``smollm2``, ``minilm-sst2``, ``efficientnet-lite0``, ``wisconsin-mlp``
            ...), a local folder (of transformers, a LoRA adapter, or in pellucid's own layout), a ``.gguf`` file, a hub
            id, or (module, tokenizer or image processor).
        kind: what it is; None: as its configuration says.
        device: where to run; None: cpu, or where it is for a module from memory.
        dtype: float32, bfloat16, float16 or float64; None: float32, or as it is for a module from memory. A module from
            memory is not copied: a device or dtype that is asked for changes it in place.
        chat: wrap the text in the model's chat template; None: where it has one.
        system: the system message; None: the template's own.
        chat_options: further arguments of the chat template.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that the model's authors ship; never on by itself.

    Raises:
        UnknownNameError: an unknown dtype or kind.
        InputError: settings of a chat template for a model that reads no text.
        MissingPackageError: the package of an embedded model is absent.
        ModelError: the model cannot be found or read, or the device is not there.
    """
    begun = time.perf_counter()
    if dtype is not None and dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    if kind is not None and kind not in AUTO:
        raise UnknownNameError("kind of model", kind, AUTO)
    _check_device(device or "cpu")
    chatting = {"chat": chat, "system": system, "chat_options": chat_options}
    if isinstance(source, tuple):
        model = _made(*source, kind, type(source[0]).__name__, chatting)
    else:
        with _quiet(), working(f"Loading {source} ..."):
            model = _read(source, kind, DTYPES[dtype or "float32"], revision, trust_remote_code, chatting)
        model.disk_bytes = folder_bytes(located(str(source)))
        # Weights that take gradients would keep more in memory for a backward pass that never reaches them.
        model.module.requires_grad_(False)
        device, dtype = device or "cpu", dtype or "float32"
    # The typing of ``to`` knows only its form without arguments.
    torch.nn.Module.to(model.module, device, DTYPES[dtype] if dtype else None)
    model.load_seconds = time.perf_counter() - begun
    return model


def _read(
    source: str | os.PathLike[str],
    kind: str | None,
    dtype: torch.dtype,
    revision: str | None,
    trust: bool,
    chatting: Mapping[str, Any],
) -> LoadedModel:
    name, path = str(source), located(str(source))
    if revision is not None and path.exists():
        raise InputError(f"{name} is on this machine and has no revisions; leave revision={revision!r} out.")
    if is_ours(path):
        model = read_ours(path, name)
        if kind is not None and kind != f"{model.modality}-classifier":
            raise InputError(f"{name} is a classifier of kind {model.modality!r}, not a {kind}; leave kind out.")
        return _without_chat(model, chatting)
    if path.suffix == ".gguf":
        return _made(*read_gguf(path, dtype), kind, name, chatting)
    if is_adapter(path):
        return _made(*read_adapter(path, dtype), kind, name, chatting)
    found = path if name in NAMES else source
    network = read_hub(found, kind, dtype, revision, trust, NAMES)
    return _made(*network, kind, name, chatting, background_pictures(path))


def _made(
    module: PreTrainedModel,
    processor: Any,
    kind: str | None,
    name: str,
    chatting: Mapping[str, Any],
    background: Sequence[Path] = (),
) -> LoadedModel:
    """The model around a network. ``processor`` is a tokenizer, a preprocessing, or an image processor of the hub."""
    kind = _checked_kind(kind, name, type(module).__name__)
    if kind == "image-classifier":
        preprocessing = processor if isinstance(processor, AbstractPreprocessing) else HubPreprocessing(processor)
        labels = [str(label) for _, label in sorted((module.config.id2label or {}).items())]
        model = ImageClassifier(module, labels, preprocessing, name=name, background=background)
        return _without_chat(model, chatting)
    if not isinstance(processor, PreTrainedTokenizerBase):
        raise InputError(f"{name} is a {kind}, and goes with a tokenizer, not with a {type(processor).__name__}.")
    made = CausalLM if kind == "causal-lm" else TextClassifier
    return made(module, processor, name=name, **chatting)


def _checked_kind(kind: str | None, name: str, architecture: str) -> str:
    """The kind that was asked for, or else that of the class. Raises InputError where the class is another's."""
    if kind is None:
        return kind_of(architecture)
    known = next((found for ending, found in ENDINGS.items() if architecture.endswith(ending)), kind)
    if known != kind:
        raise InputError(f"{name} is a {known} ({architecture}), not a {kind}; leave kind out.")
    return kind


def _without_chat(model: ImageClassifier | Tabular, chatting: Mapping[str, Any]) -> ImageClassifier | Tabular:
    given = [name for name, value in chatting.items() if value is not None]
    if given:
        raise InputError(f"{model.name} reads no text; leave {', '.join(given)} out.")
    return model


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise InputError(f"{device!r} is not a device; write cpu, cuda, cuda:1 or mps.") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise ModelError(f"the device {device!r} is not there; this machine has {there}.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' own bars, and its remarks on what it falls back to; then give both back."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hub.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(hub_level)
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
