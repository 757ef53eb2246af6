"""Loading a model: by name, from a folder, a file of GGUF, Keras or torch.export, the hub, or from memory."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models.adapter import is_adapter, read_adapter
from pellucid.models.catalogue import NAMES, background_pictures, is_ours, located, read_ours
from pellucid.models.exported import check_format
from pellucid.models.gguf import read_gguf
from pellucid.models.hub import folder_bytes, read_hub
from pellucid.models.keras_config import is_keras
from pellucid.models.keras_model import read_keras
from pellucid.models.making import LoadedModel, Wanted, are_columns, columns_of, made, preprocessing_of
from pellucid.progress import working

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


def load(
    source: str | os.PathLike[str] | tuple[Any, ...],
    *,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    preprocessing: Any = None,
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
            ...), a local folder (of transformers, a LoRA adapter, or in pellucid's own layout), a ``.gguf``, ``.keras``
            or ``.h5`` file, a hub id, or (module, what encodes its input): a tokenizer; an image processor, a
            ``Preprocessing`` or a function from a picture to a tensor; the columns of a table; the processor of a
            vision-language model.
        task: what it is for: causal-lm, text-classifier, image, segmentation, tabular or vision-language; None: as its
            configuration, or what encodes its input, says.
        labels: the class labels in the order of the outputs, for a network that does not say; None: as its
            configuration says, else a number for each output.
        preprocessing: what encodes the input of a Keras file, as the second part of the pair above.
        device: where to run; None: cpu, or where it is for a module from memory.
        dtype: float32, bfloat16, float16 or float64; None: float32, or as it is for a module from memory. A module from
            memory is not copied: a device or dtype that is asked for changes it in place.
        chat: wrap the text in the model's chat template; None: where it has one.
        system: the system message; None: the template's own.
        chat_options: further arguments of the chat template.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that the model's authors ship; never on by itself.

    Raises:
        UnknownNameError: an unknown dtype or task. InputError: settings of another kind of model than this one.
        MissingPackageError: the package of an embedded model, or Keras, is absent.
        ModelError: the model cannot be found or read, or the device is not there.
    """
    begun = time.perf_counter()
    _check(source, device or "cpu", dtype)
    chatting = {"chat": chat, "system": system, "chat_options": chat_options}
    name = type(source[0]).__name__ if isinstance(source, tuple) else str(source)
    wanted = Wanted(name=name, task=task, labels=labels, chatting=chatting)
    wanted.check()
    if isinstance(source, tuple):
        model = _from_memory(source, preprocessing, wanted)
    else:
        with _quiet(), working(f"Loading {source} ..."):
            model = _read(source, wanted, preprocessing, DTYPES[dtype or "float32"], revision, trust_remote_code)
        model.disk_bytes = folder_bytes(located(str(source)))
        # Weights that take gradients would keep more in memory for a backward pass that never reaches them.
        model.module.requires_grad_(False)
        device, dtype = device or "cpu", dtype or "float32"
    # The typing of ``to`` knows only its form without arguments.
    torch.nn.Module.to(model.module, device, DTYPES[dtype] if dtype else None)
    model.load_seconds = time.perf_counter() - begun
    return model


def _from_memory(source: tuple[Any, ...], preprocessing: Any, wanted: Wanted) -> LoadedModel:
    if len(source) != 2 or not isinstance(source[0], nn.Module):
        raise InputError(
            "a model from memory is a pair: a torch.nn.Module, and what encodes its input (a tokenizer, a "
            "preprocessing, columns, a processor)."
        )
    if preprocessing is not None:
        raise InputError("what encodes the input is the second part of the pair; leave preprocessing out.")
    return made(*source, wanted)


def _read(
    source: str | os.PathLike[str],
    wanted: Wanted,
    preprocessing: Any,
    dtype: torch.dtype,
    revision: str | None,
    trust: bool,
) -> LoadedModel:
    path = located(wanted.name)
    if revision is not None and path.exists():
        raise InputError(f"{wanted.name} is on this machine and has no revisions; leave revision={revision!r} out.")
    check_format(path)
    if is_keras(path):
        return _read_keras(path, wanted, preprocessing, dtype)
    if preprocessing is not None:
        raise InputError(f"{wanted.name} comes with what encodes its input; leave preprocessing out.")
    if is_ours(path):
        return _read_ours(path, wanted)
    if path.suffix == ".gguf":
        return made(*read_gguf(path, dtype), wanted)
    if is_adapter(path):
        return made(*read_adapter(path, dtype), wanted)
    found = path if wanted.name in NAMES else source
    network = read_hub(found, wanted.task, dtype, revision, trust, NAMES)
    return made(*network, replace(wanted, background=background_pictures(path)))


def _read_keras(path: Path, wanted: Wanted, preprocessing: Any, dtype: torch.dtype) -> LoadedModel:
    if dtype is not torch.float32:
        raise InputError(f"the layers of a Keras file keep the dtype that they were saved with; leave {dtype} out.")
    if wanted.task not in (None, "image", "tabular"):
        raise InputError(f"a Keras file is a model of task 'image' or 'tabular', not {wanted.task!r}.")
    columns = columns_of(preprocessing, wanted.name) if are_columns(preprocessing) else None
    pictures = None if preprocessing is None or columns else preprocessing_of(preprocessing, wanted.name, "image")
    model = read_keras(
        path, task=wanted.task, labels=wanted.labels, preprocessing=pictures, columns=columns, name=wanted.name
    )
    wanted.without_chat()
    return model


def _read_ours(path: Path, wanted: Wanted) -> LoadedModel:
    model = read_ours(path, wanted.name)
    if wanted.task not in (None, model.modality):
        raise InputError(f"{wanted.name} is a model of task {model.modality!r}, not {wanted.task!r}; leave task out.")
    wanted.without_labels()
    wanted.without_chat()
    return model


def _check(source: object, device: str, dtype: str | None) -> None:
    if not isinstance(source, str | os.PathLike | tuple):
        raise InputError(
            f"a model is a name, a path, or a pair (torch.nn.Module, what encodes its input), not a "
            f"{type(source).__name__}."
        )
    if dtype is not None and dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
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
