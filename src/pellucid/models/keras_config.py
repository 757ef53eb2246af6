"""What a Keras file says of itself, read without Keras: nothing in the file can run before it is looked at."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import MissingPackageError, ModelError

ENDINGS = (".keras", ".h5", ".hdf5")
INSTALL = "pip install 'pellucid[keras]'"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What Keras 2 wrote where a network calls TensorFlow itself.
_OF_TENSORFLOW = ("TFOpLambda", "SlicingOpLambda", "TFSMLayer", "TensorFlowOpLayer")


class KerasFile(NamedTuple):
    """A whole model in a file."""

    path: Path
    config: dict[str, Any]
    """The network, as Keras writes it down."""
    version: str
    """The version of Keras that wrote it."""


def is_keras(path: Path) -> bool:
    """Whether a file is named as Keras names its own."""
    return path.suffix.lower() in ENDINGS


def read_config(path: Path) -> KerasFile:
    """Look at a ``.keras`` or ``.h5`` file.

    Raises ModelError where it is missing, broken, holds weights only, or holds code: a Lambda, a class of its author's.
    """
    if not path.is_file():
        raise ModelError(f"there is no Keras file at {str(path)!r}.")
    file = _zipped(path) if path.suffix.lower() == ".keras" else _hdf5(path)
    if not isinstance(file.config.get("class_name"), str):
        raise ModelError(f"{path.name} is not a whole Keras model: its config names no class; save it again.")
    for part in _parts(file.config):
        _check_part(part, path)
    return file


def _zipped(path: Path) -> KerasFile:
    if not zipfile.is_zipfile(path):
        old = "; it is an HDF5 file, so name it .h5" if path.read_bytes()[:8] == _HDF5 else ""
        raise ModelError(
            f"{path.name} is no .keras file (it is not a whole zip archive{old}); save it again with model.save(...)."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" not in archive.namelist():
                raise ModelError(f"{path.name} holds no model.weights.h5; save it again with model.save(...).")
            config = json.loads(archive.read("config.json"))
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
            broken = archive.testzip()
    except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path.name} is a broken .keras file ({_first_line(error)}); save it again with model.save(...)."
        ) from error
    if broken is not None:
        raise ModelError(f"{path.name} is a broken .keras file ({broken} is damaged); copy or save it again.")
    return KerasFile(path, config if isinstance(config, dict) else {}, version)


def _hdf5(path: Path) -> KerasFile:
    try:
        import h5py
    except ImportError:
        raise MissingPackageError("h5py, which reads .h5 files", INSTALL) from None
    try:
        with h5py.File(path, "r") as file:
            config = file.attrs.get("model_config")
            version = str(file.attrs.get("keras_version", "unknown"))
    except OSError as error:
        raise ModelError(f"{path.name} is no HDF5 file, or a broken one ({_first_line(error)}).") from error
    if config is None:
        raise ModelError(
            f"{path.name} holds weights only, and no network to put them into; save the whole model with "
            "model.save('model.keras')."
        )
    try:
        found = json.loads(config)
    except ValueError as error:
        raise ModelError(f"{path.name} has a broken model_config ({_first_line(error)}); save it again.") from error
    return KerasFile(path, found if isinstance(found, dict) else {}, version)


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that a config describes, but not how the model was trained."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for key, value in config.items():
            if key != "compile_config":
                yield from _parts(value)
    elif isinstance(config, list):
        for each in config:
            yield from _parts(each)


def _check_part(part: dict[str, Any], path: Path) -> None:
    kind, module, registered = str(part["class_name"]), part.get("module", "keras"), part.get("registered_name")
    if kind in ("Lambda", "__lambda__"):
        raise ModelError(
            f"{path.name} holds a Lambda, which is Python code that a file must not bring along; write it as layers of "
            "Keras (Rescaling, keras.ops ...) and save the model again."
        )
    if kind in _OF_TENSORFLOW:
        raise ModelError(
            f"{path.name} calls TensorFlow itself ({kind}), which no other backend can run; build the network of "
            "layers of Keras 3 and save it as .keras."
        )
    keras = isinstance(module, str) and (module == "builtins" or module.split(".")[0] == "keras")
    if ">" in kind or not keras:
        name = registered or kind
        raise ModelError(
            f"{path.name} needs the custom object {name!r}, whose code is not in the file; load it with Keras yourself "
            "(KERAS_BACKEND=torch) and trace the model, which is a torch module."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
