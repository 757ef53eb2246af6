"""Our own layout: ``config.json`` with configuration and origin, ``model.safetensors`` with the weights."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import Origin
from pellucid.sae.formats.folders import (
    Contents,
    Layout,
    assembled,
    document_of,
    entry,
    json_writer,
    safetensors_of,
    safetensors_writer,
    taken,
)

TYPE = "sae"
SCHEMA_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def read(folder: Path) -> SAE:
    """An autoencoder in our layout. Raises RecordError."""
    path = folder / CONFIG
    document = document_of(path)
    if document.get("type") != TYPE or document.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{str(path)!r} is of type {document.get('type')!r} and schema {document.get('schema_version')!r}, and "
            f"this version of pellucid reads type {TYPE!r} of schema {SCHEMA_VERSION}; use the version that wrote it."
        )
    fields = entry(path, document, "config")
    tensors = safetensors_of(folder / WEIGHTS)
    width, d_in = entry(path, document, "config", "width"), entry(path, document, "config", "d_in")
    shapes = {"W_enc": (width, d_in), "b_enc": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    weights = taken(folder / WEIGHTS, tensors, shapes)
    if "threshold" not in tensors:
        raise RecordError(f"{str(folder / WEIGHTS)!r} has no tensor 'threshold'; get the file anew.")
    weights["threshold"] = tensors["threshold"].float()
    return assembled(path, fields, weights, origin_of(path, document.get("origin", {})))


def origin_of(path: Path, given: Any) -> Origin:
    """The origin that a document tells. Raises RecordError."""
    try:
        return Origin.model_validate(given)
    except ValidationError as error:
        raise RecordError(str(InputError.from_validation(repr(str(path)), error))) from None


def contents(sae: SAE) -> Contents:
    """Every autoencoder fits."""
    document = {
        "type": TYPE,
        "schema_version": SCHEMA_VERSION,
        "config": sae.config.model_dump(mode="json"),
        "origin": sae.origin.model_dump(mode="json"),
    }
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    weights = {name: getattr(sae, name) for name in names}
    return {WEIGHTS: safetensors_writer(weights), CONFIG: json_writer(document)}


LAYOUT = Layout("pellucid", CONFIG, WEIGHTS, read, contents)
