"""Sparse autoencoders: from a model's activations to a dictionary of latents, their meaning and their use."""

from importlib import import_module
from typing import Any

# Where each public name lives; most of them need torch, which commands import late.
_HOMES = {
    "release": "releasing",
    "verify": "releasing",
    "Events": "events",
    "evaluate": "evaluation",
    "SAE": "autoencoder",
    "Step": "trainer",
    "Trainer": "trainer",
    "Codes": "codes",
    "Config": "config",
    "Origin": "config",
    "Site": "site",
    "Cursor": "store",
    "Sample": "store",
    "Store": "store",
    "TokenSelector": "store",
    "harvest": "store",
    "Grid": "runs",
    "Run": "runs",
    "preset": "presets",
    "train": "runs",
    "read_corpus": "store",
    "capture": "site",
    "edited": "site",
    "Steer": "steering",
    "steer_experiment": "steering",
    "steered": "steering",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid.sae' has no attribute {name!r}")
    return getattr(import_module(f"pellucid.sae.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
