"""What foreign layouts have no words for: our configuration and origin, carried along under a key of our own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import PER_TOKEN, Config, Origin
from pellucid.sae.formats.folders import Weights

KEY = "pellucid"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)$")


def carried(sae: SAE) -> dict[str, Any]:
    """What is written under ``KEY``."""
    return {"config": sae.config.model_dump(mode="json"), "origin": sae.origin.model_dump(mode="json")}


def recalled(document: Mapping[str, Any], facts: Mapping[str, Any], origin: Origin) -> tuple[dict[str, Any], Origin]:
    """Fields of the configuration, and the origin: those carried along, where what is seen in the file agrees.

    Args:
        document: where ``KEY`` may be.
        facts: fields that follow from the file itself, which go before those carried along.
        origin: what the file itself tells.
    """
    carried = document.get(KEY, {})
    try:
        config = Config(**carried["config"])
        known = Origin.model_validate(carried["origin"])
    except (TypeError, KeyError, InputError, ValidationError):
        # Not written by us, or by a version with other fields: the file itself is enough.
        return dict(facts), origin
    fields = config.model_dump()
    if any(fields[name] != facts[name] for name in ("d_in", "width", "architecture")):
        return dict(facts), origin
    kept = fields["normalisation"]
    fields |= {name: facts[name] for name in ("subtract_decoder_bias", "normalisation", "k") if name in facts}
    if facts.get("normalisation", "none") == "none" and kept not in PER_TOKEN:
        # A number that was folded into the weights, which the file does not tell of.
        fields["normalisation"] = kept
    return fields, known


def architecture_among(document: Mapping[str, Any], threshold: Any, default: str) -> str:
    """The architecture carried along, for a file that knows JumpReLU alone: where one threshold serves all latents."""
    carried = document.get(KEY)
    config = carried.get("config") if isinstance(carried, Mapping) else None
    named = config.get("architecture") if isinstance(config, Mapping) else None
    one = bool((threshold == threshold[0]).all())
    return str(named) if one and named in ("batchtopk", "matryoshka") else default


def layer_of(site: str) -> int | None:
    """The number of the layer whose output or input a site is; None where it is something else."""
    found = _LAYER.search(site.partition(":")[0])
    return int(found[1]) if found else None


def decoder_of(weights: Weights) -> str:
    """Whether the decoder's rows have length 1."""
    lengths = weights["W_dec"].norm(dim=1)
    return "unit" if bool((lengths - 1).abs().max() < 1e-3) else "free"


def refused(path: Path, what: str, advice: str) -> InputError:
    """The error for a kind of autoencoder that is not known here."""
    return InputError(f"{str(path)!r} holds {what}, which pellucid has no autoencoder for; {advice}.")
