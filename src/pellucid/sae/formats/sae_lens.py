"""SAELens' layout of version 6: ``cfg.json`` and ``sae_weights.safetensors``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import Origin
from pellucid.sae.formats.folders import (
    Contents,
    Layout,
    Weights,
    assembled,
    document_of,
    entry,
    json_writer,
    safetensors_of,
    safetensors_writer,
    taken,
)
from pellucid.sae.formats.memory import (
    KEY,
    architecture_among,
    carried,
    decoder_of,
    layer_of,
    recalled,
    refused,
)

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
VERSION = "6.54.12"
"""The version of SAELens whose layout this is."""
NORMALISATIONS = {"none": "none", "layer_norm": "layer-norm", "constant_norm_rescale": "token-norm"}
"""SAELens' names of what is done to every token, and ours."""
SCALED = "expected_average_only_in"
TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka_batchtopk": "matryoshka"}
"""SAELens' names of architectures that it saves as JumpReLU, and ours."""


def read(folder: Path) -> SAE:
    """An autoencoder of SAELens. Raises InputError on a kind that is not known, RecordError on damage.

    TopK, JumpReLU and, with a threshold of 0, standard ReLU ones; BatchTopK and Matryoshka ones are saved as JumpReLU
    and become what they were where the file says so.
    """
    path = folder / CONFIG
    document = document_of(path)
    architecture = _architecture(path, document)
    d_in, width = entry(path, document, "d_in"), entry(path, document, "d_sae")
    shapes = {"W_enc": (d_in, width), "b_enc": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    if architecture == "jumprelu":
        shapes["threshold"] = (width,)
    weights = taken(folder / WEIGHTS, safetensors_of(folder / WEIGHTS), shapes)
    weights["W_enc"] = weights["W_enc"].T
    if architecture == "standard":
        weights["threshold"] = torch.zeros(width)
    if document.get("rescale_acts_by_decoder_norm"):
        _fold_lengths(weights)
    normalisation = _normalised(folder, document, weights)
    facts = {
        "d_in": d_in,
        "width": width,
        "subtract_decoder_bias": bool(document.get("apply_b_dec_to_input", True)),
        "normalisation": normalisation,
        "decoder": decoder_of(weights),
        **_selection(path, document, architecture, weights),
    }
    fields, origin = recalled(_metadata(document), facts, _origin(document))
    return assembled(path, fields, weights, origin)


def _architecture(path: Path, document: Mapping[str, Any]) -> str:
    """The architecture, also of a file from before version 6. Raises InputError on what cannot be read."""
    named = str(document.get("architecture") or "standard")
    if named == "standard" and document.get("activation_fn_str", document.get("activation_fn", "relu")) == "topk":
        named = "topk"
    if named not in ("topk", "jumprelu", "standard"):
        raise refused(path, f"the architecture {named!r} of SAELens", "topk, jumprelu and standard can be read")
    if document.get("reshape_activations", "none") != "none":
        raise refused(
            path,
            f"an autoencoder that reshapes activations ({document['reshape_activations']!r})",
            "take one of a residual stream or of a module's output",
        )
    return named


def _normalised(folder: Path, document: Mapping[str, Any], weights: Weights) -> str:
    """Our name of what is done to each token; a scale is folded into the weights, as is what the two do differently."""
    named = document.get("normalize_activations") or "none"
    named = SCALED if named is True else named
    if named == SCALED and (folder / SCALER).is_file():
        scale = entry(folder / SCALER, document_of(folder / SCALER), "scaling_factor")
        _scale_input(weights, float(scale))
        return "none"
    if named not in NORMALISATIONS:
        beside = f", and no {SCALER} beside it says by how much" if named == SCALED else ""
        raise refused(
            folder / CONFIG,
            f"an autoencoder of activations normalised by {named!r}{beside}",
            f"fold it in SAELens first; {', '.join(NORMALISATIONS)} can be read",
        )
    if named == "layer_norm":
        # SAELens divides by the standard deviation with d - 1 below, we by that with d.
        d_in = len(weights["b_dec"])
        _scale_input(weights, ((d_in - 1) / d_in) ** 0.5)
    return NORMALISATIONS[named]


def _scale_input(weights: Weights, scale: float) -> None:
    """From an autoencoder of ``scale * x`` to one of x."""
    weights |= {
        "W_enc": weights["W_enc"] * scale, "W_dec": weights["W_dec"] / scale, "b_dec": weights["b_dec"] / scale
    }  # fmt: skip


def _fold_lengths(weights: Weights) -> None:
    """From activations that are scaled by the lengths of the decoder's rows to a decoder with rows of length 1."""
    lengths = weights["W_dec"].norm(dim=1).clamp(min=1e-8)
    weights |= {
        "W_enc": weights["W_enc"] * lengths[:, None],
        "b_enc": weights["b_enc"] * lengths,
        "W_dec": weights["W_dec"] / lengths[:, None],
    }


def _selection(path: Path, document: Mapping[str, Any], architecture: str, weights: Weights) -> dict[str, Any]:
    """Architecture, k and prefixes; one threshold in place of equal ones."""
    if architecture == "topk":
        kwargs = document.get("activation_fn_kwargs")
        return {"architecture": "topk", "k": kwargs["k"] if kwargs else entry(path, document, "k")}
    threshold, metadata = weights["threshold"], _metadata(document)
    details = metadata.get("training_architecture_details")
    details = details if isinstance(details, Mapping) else {}
    trained = TRAINED_AS.get(str(metadata.get("training_architecture")), "jumprelu")
    found = architecture_among(metadata, threshold, trained)
    if found == "jumprelu" or not bool((threshold == threshold[0]).all()):
        return {"architecture": "jumprelu"}
    weights["threshold"] = threshold[0]
    widths = details.get("matryoshka_widths") if found == "matryoshka" else None
    facts = {"architecture": found, "prefixes": tuple(widths or ())}
    return {**facts, "k": details["k"]} if "k" in details else facts


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where it comes from; before version 6 that stood among the other entries."""
    found = document.get("metadata", document)
    return found if isinstance(found, Mapping) else {}


def _origin(document: Mapping[str, Any]) -> Origin:
    metadata = _metadata(document)
    known = {name: metadata[name] for name in _TOLD if metadata.get(name) is not None}
    site = metadata.get("hf_hook_name") or ""
    return Origin(
        model=str(metadata.get("model_name") or ""),
        site=str(site),
        corpus=str(metadata.get("dataset_path") or ""),
        training={"layout": "sae-lens", **json.loads(json.dumps(known, default=str))},
    )


_TOLD = ("hook_name", "context_size", "prepend_bos", "sae_lens_version", "training_architecture", "neuronpedia_id")


def contents(sae: SAE) -> Contents:
    """Every autoencoder fits: BatchTopK and Matryoshka ones as JumpReLU with one threshold for all latents."""
    config = sae.config
    weights = {name: getattr(sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    if config.normalisation == "layer-norm":
        _scale_input(weights, (config.d_in / (config.d_in - 1)) ** 0.5)
    weights["W_enc"] = weights["W_enc"].T
    topk = config.architecture == "topk"
    if not topk:
        weights["threshold"] = sae.threshold.expand(config.width)
    theirs = {ours: name for name, ours in NORMALISATIONS.items()}
    document = {
        "d_in": config.d_in,
        "d_sae": config.width,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": config.subtract_decoder_bias,
        "normalize_activations": theirs.get(config.normalisation, "none"),
        "reshape_activations": "none",
        "metadata": _metadata_of(sae),
        "architecture": "topk" if topk else "jumprelu",
    }
    if topk:
        document |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    return {WEIGHTS: safetensors_writer(weights), CONFIG: json_writer(document)}


def _metadata_of(sae: SAE) -> dict[str, Any]:
    """Where it comes from, in SAELens' words where it has some."""
    config, origin = sae.config, sae.origin
    layer = layer_of(origin.site)
    point = "hook_resid_pre" if origin.site.endswith(":input") else "hook_resid_post"
    known = {
        "model_name": origin.model,
        "hook_name": origin.site if layer is None else f"blocks.{layer}.{point}",
        "hf_hook_name": "" if ":" in origin.site else origin.site,
        "dataset_path": origin.corpus,
    }
    found: dict[str, Any] = {name: value for name, value in known.items() if value}
    theirs = {ours: name for name, ours in TRAINED_AS.items()}
    if config.architecture in theirs:
        details: dict[str, Any] = {"k": config.k}
        if config.architecture == "matryoshka":
            details["matryoshka_widths"] = list(config.prefixes)
        found |= {
            "training_architecture": theirs[config.architecture],
            "training_architecture_details": details,
        }
    return {"sae_lens_version": VERSION, **found, KEY: carried(sae)}


LAYOUT = Layout("sae-lens", CONFIG, WEIGHTS, read, contents)
