"""The files of an autoencoder's folder: read with one sentence for whatever is wrong, written whole or not at all."""

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.errors import InputError, RecordError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import Config, Origin

Contents = Mapping[str, Callable[[Path], None]]
"""File names and what writes each, the weights before the configuration that speaks of them."""
Weights = dict[str, Tensor]


class Layout(NamedTuple):
    """A way in which autoencoders are stored."""

    name: str
    """What it is called here."""
    config: str
    """File name of the configuration."""
    weights: str
    """File name of the weights."""
    read: Callable[[Path], SAE]
    """The autoencoder in a folder."""
    contents: Callable[[SAE], Contents]
    """What a folder would hold."""

    @property
    def files(self) -> tuple[str, str]:
        """Both file names."""
        return self.config, self.weights

    def holds(self, folder: Path) -> bool:
        """Whether both files are in a folder."""
        return all((folder / each).is_file() for each in self.files)


def document_of(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RecordError."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RecordError(f"{str(path)!r} is not JSON ({error}); get the file anew.") from None
    if not isinstance(found, dict):
        raise RecordError(f"{str(path)!r} holds a JSON {type(found).__name__} and no object; get the file anew.")
    return found


def entry(path: Path, document: Mapping[str, Any], *names: str) -> Any:
    """An entry of a document, nested by ``names``. Raises RecordError where it is missing."""
    found: Any = document
    for name in names:
        if not isinstance(found, Mapping) or found.get(name) is None:
            raise RecordError(f"{str(path)!r} has no entry {'.'.join(names)!r}; get the file anew.")
        found = found[name]
    return found


def safetensors_of(path: Path) -> Weights:
    """The tensors of a file. Raises RecordError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise RecordError(f"{str(path)!r} cannot be read as safetensors ({error}); get the file anew.") from None


def torch_state_of(path: Path) -> Weights:
    """The tensors of a ``torch.save``. Raises RecordError; objects in it are never unpickled."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RecordError(
            f"{str(path)!r} holds pickled objects, which could run any program and are never loaded; get the weights "
            "as a plain dictionary of tensors, or as safetensors."
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"{str(path)!r} cannot be read as a torch file ({said}); get the file anew.") from None
    if not isinstance(found, Mapping) or not all(isinstance(each, Tensor) for each in found.values()):
        raise RecordError(f"{str(path)!r} holds no dictionary of tensors by name; get the file anew.")
    return dict(found)


def taken(path: Path, tensors: Weights, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """The named tensors in float32. Raises RecordError where one is missing or of another shape."""
    for name, shape in shapes.items():
        if name not in tensors:
            found = ", ".join(sorted(tensors)) or "nothing"
            raise RecordError(f"{str(path)!r} has no tensor {name!r}, only {found}; get the file anew.")
        if tuple(tensors[name].shape) != shape:
            raise RecordError(
                f"{name} in {str(path)!r} has the shape {list(tensors[name].shape)}, and its configuration says "
                f"{list(shape)}; get both files anew."
            )
    return {name: tensors[name].float() for name in shapes}


def assembled(path: Path, fields: Mapping[str, Any], weights: Weights, origin: Origin) -> SAE:
    """An autoencoder of what was read. Raises RecordError where it does not hold together."""
    try:
        # Of a JumpReLU one no k is known, and none is needed.
        fields = {"k": min(32, fields["width"]), **fields}
        return SAE(Config(**fields), {name: each.contiguous() for name, each in weights.items()}, origin)
    except InputError as error:
        raise RecordError(f"{str(path)!r} holds no usable autoencoder: {error}") from None


def json_writer(document: Mapping[str, Any]) -> Callable[[Path], None]:
    """What writes a JSON object."""
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)

    def write(path: Path) -> None:
        path.write_bytes(text.encode("utf-8", "backslashreplace"))

    return write


def safetensors_writer(weights: Weights) -> Callable[[Path], None]:
    """What writes tensors as safetensors."""
    return lambda path: save_file(portable(weights), path)


def portable(weights: Weights) -> Weights:
    """Tensors as files hold them: on the CPU, each with memory of its own."""
    return {name: each.detach().cpu().contiguous().clone() for name, each in weights.items()}


def put(folder: Path, contents: Contents) -> None:
    """Write files into a folder. A new one appears whole; in one that is there, file after file is replaced.

    Raises RecordError, with nothing half-written left behind.
    """
    temporary = beside(folder)
    try:
        temporary.mkdir(parents=True)
        for name, writer in contents.items():
            writer(temporary / name)
            (temporary / name).chmod(0o644)
            _flush(temporary / name)
        # One that is there stays, even an empty one, since it may be the current folder of a process.
        if folder.is_dir():
            for name in contents:
                (temporary / name).replace(folder / name)
        else:
            temporary.replace(folder.resolve())
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordError(
            f"{str(folder)!r} cannot be written ({reason}); free the space or give another folder."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def beside(folder: Path) -> Path:
    """Where a folder is made ready, on the disk that it comes to; ``.`` and links are followed to what they name."""
    folder = folder.resolve()
    return folder.parent / f".{folder.name}.{os.getpid()}.tmp"


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
