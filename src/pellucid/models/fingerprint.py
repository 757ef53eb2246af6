"""What exactly was asked: digests of weights, tokenizer and template, and the versions of the code."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import torch

from pellucid._version import __version__
from pellucid.models.base import AbstractModel
from pellucid.records import Fingerprint

# Hashing half a gigabyte takes half a second; the version counters of the tensors say whether it must be done again.
_known: WeakKeyDictionary[torch.nn.Module, tuple[tuple[tuple[int, int], ...], str]] = WeakKeyDictionary()


def fingerprint(model: AbstractModel[Any, Any], processor: bytes, template: str = "") -> Fingerprint:
    """The fingerprint of a model.

    ``processor`` is the tokenizer, or whatever else turns an input into numbers, as bytes. ``template`` is the chat
    template around a placeholder, as it is rendered.
    """
    return Fingerprint(
        model=model.name,
        weights=_weights(model.module),
        tokenizer=_sha256(processor),
        template=_sha256(template.encode()) if template else "",
        dtype=str(model.dtype).removeprefix("torch."),
        device=model.device.type,
        attention=str(getattr(getattr(model.module, "config", None), "_attn_implementation", "") or ""),
        versions=_versions(),
    )


@cache
def _versions() -> dict[str, str]:
    """Versions of the code that decides the numbers. Reading them takes milliseconds."""
    packages = {package: version(package) for package in ("torch", "transformers", "tokenizers", "numpy")}
    return {"pellucid": __version__, "python": platform.python_version()} | packages


def _weights(module: torch.nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor of the state, in the order of the names."""
    state = sorted(module.state_dict(keep_vars=True).items())
    counters = tuple((tensor.data_ptr(), tensor._version) for _, tensor in state)
    if module in _known and _known[module][0] == counters:
        return _known[module][1]
    digest = hashlib.sha256()
    for name, tensor in state:
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    _known[module] = (counters, digest.hexdigest())
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
