"""The layout of sparsify: ``cfg.json`` and ``sae.safetensors``; TopK only."""

from pathlib import Path

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import PER_TOKEN, Origin
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
from pellucid.sae.formats.memory import KEY, carried, decoder_of, recalled, refused

CONFIG, WEIGHTS, BESIDE = "cfg.json", "sae.safetensors", "pellucid.json"


def read(folder: Path) -> SAE:
    """An autoencoder of sparsify. Raises InputError on a kind that is not known, RecordError on damage."""
    path, file = folder / CONFIG, folder / WEIGHTS
    document = document_of(path)
    if document.get("transcode") or document.get("skip_connection"):
        raise refused(path, "a transcoder of sparsify", "only its autoencoders can be read")
    if document.get("activation", "topk") != "topk":
        raise refused(path, f"the activation {document['activation']!r} of sparsify", "topk can be read")
    d_in = entry(path, document, "d_in")
    # As the library does: 0 stands for a multiple of the activations' width.
    width = document.get("num_latents") or d_in * document.get("expansion_factor", 32)
    shapes = {"encoder.weight": (width, d_in), "encoder.bias": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    weights = taken(file, safetensors_of(file), shapes)
    weights["W_enc"], weights["b_enc"] = weights.pop("encoder.weight"), weights.pop("encoder.bias")
    facts = {
        "d_in": d_in,
        "width": width,
        "k": entry(path, document, "k"),
        "architecture": "topk",
        "subtract_decoder_bias": True,
        "normalisation": "none",
        "decoder": decoder_of(weights),
    }
    beside = folder / BESIDE
    ours = document_of(beside) if beside.is_file() else {}
    fields, origin = recalled(ours, facts, Origin(training={"layout": "sparsify"}))
    return assembled(path, fields, weights, origin)


def contents(sae: SAE) -> Contents:
    """Only TopK fits. Raises InputError on the others, and where every token is normalised."""
    config = sae.config
    if config.architecture != "topk" or config.normalisation in PER_TOKEN:
        what = config.architecture if config.architecture != "topk" else f"topk with {config.normalisation}"
        raise InputError(f"sparsify holds plain topk autoencoders, and this one is {what}; write it as sae-lens.")
    bias = sae.b_enc
    if not config.subtract_decoder_bias:
        # Taken off there and not here: W (x - b_dec) + (b_enc + W b_dec) is the same.
        bias = (bias.double() + sae.W_enc.double() @ sae.b_dec.double()).to(bias.dtype)
    weights = {"encoder.weight": sae.W_enc, "encoder.bias": bias, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    document = {
        "activation": "topk",
        "expansion_factor": max(1, config.width // config.d_in),
        "normalize_decoder": config.decoder == "unit",
        "num_latents": config.width,
        "k": config.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": config.d_in,
    }
    # In a file of its own, since sparsify warns of entries that it does not know.
    beside = json_writer({KEY: carried(sae)})
    return {WEIGHTS: safetensors_writer(weights), BESIDE: beside, CONFIG: json_writer(document)}


LAYOUT = Layout("sparsify", CONFIG, WEIGHTS, read, contents)
