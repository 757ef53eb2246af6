"""Reading the network of a Keras file, by Keras on the torch backend, in this process or in one of its own."""

import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.errors import MissingPackageError, ModelError
from pellucid.models.keras_config import INSTALL, KerasFile, read_config
from pellucid.models.keras_network import KerasFacts, KerasNetwork, facts_of, to_logits
from pellucid.models.keras_process import read_in_process

_VARIABLE = "KERAS_BACKEND"
_log = logging.getLogger(__name__)


def read(path: Path, *, logits: bool, first_too: bool) -> tuple[nn.Module, KerasFacts]:
    """The network of a Keras file.

    ``logits``: without a softmax or sigmoid at its end; ``first_too``: and without a rescaling at its beginning.
    Raises ModelError where the file is refused or cannot be read.
    """
    # Refused before anything is imported or started.
    read_config(path)
    if is_elsewhere():
        return read_in_process(path, logits=logits, first_too=first_too)
    return read_here(path, logits, first_too)


def is_elsewhere() -> bool:
    """Whether this process's Keras runs on another backend than torch, or is to: the choice is made once for all."""
    keras: Any = sys.modules.get("keras")
    if keras is not None:
        return str(keras.backend.backend()) != "torch"
    return os.environ.get(_VARIABLE, "torch") != "torch"


@contextmanager
def _unchanged() -> Iterator[None]:
    """Give back the environment, Python's random numbers and the warning filters, all of which Keras changes."""
    environment, drawn = dict(os.environ), random.getstate()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(drawn)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@_unchanged()
def read_here(path: Path, logits: bool, first_too: bool) -> tuple[nn.Module, KerasFacts]:
    """The network of a Keras file, in this process. Raises ModelError."""
    file, keras = read_config(path), _keras()
    model = _loaded(keras, file)
    if not logits:
        return KerasNetwork(keras, model), facts_of(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(
            f"{path.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs, and a classifier has one "
            f"of each; {trace_it(path)}."
        )
    model, facts = to_logits(keras, model, first_too=first_too)
    return KerasNetwork(keras, model), facts


def trace_it(path: Path) -> str:
    """What can be done with a network that is no classifier of pictures or table rows."""
    return f"trace pellucid.models.keras_module({path.name!r}) with pellucid.trace"


def _keras() -> Any:
    """Keras on torch, imported if it is not yet."""
    if find_spec("keras") is None:
        raise MissingPackageError("Keras, which reads .keras and .h5 files", INSTALL)
    if "keras" not in sys.modules:
        # Given back by read_here.
        os.environ[_VARIABLE] = "torch"
        import_module("keras")
        _log.info("Keras runs on torch from now on in this process; it can have one backend only.")
    return sys.modules["keras"]


def _loaded(keras: Any, file: KerasFile) -> Any:
    """The model, in Keras's safe mode. Raises ModelError."""
    try:
        with keras.device("cpu"):
            model = keras.saving.load_model(file.path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the class that it builds does
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{file.path.name}, which Keras {file.version} wrote, cannot be read by Keras {keras.__version__} "
            f"({said}); load it where it was made and save it there as .keras by Keras 3."
        ) from error
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ModelError(f"{file.path.name} does not say what it reads; call the model once before it is saved.")
    return model
