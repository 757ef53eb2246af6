"""dictionary_learning's layout, which MAIRA-2's release has: ``ae.pt``, tensors by name, and ``config.json``."""

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pellucid.errors import InputError, RecordError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.config import PER_TOKEN, Config, Origin
from pellucid.sae.formats.folders import (
    Contents,
    Layout,
    Weights,
    assembled,
    document_of,
    entry,
    json_writer,
    portable,
    taken,
    torch_state_of,
)
from pellucid.sae.formats.memory import KEY, carried, decoder_of, layer_of, recalled, refused

CONFIG, WEIGHTS = "config.json", "ae.pt"


class Kind(NamedTuple):
    """A class of dictionary_learning."""

    dictionary: str
    """Its name."""
    trainer: str
    """The class that trains it."""
    linear: bool
    """Whether its weights are those of ``nn.Linear`` layers, and so transposed and named differently."""
    subtracts: bool
    """Whether it takes the decoder's bias off before it encodes."""


KINDS = {
    "topk": Kind("AutoEncoderTopK", "TopKTrainer", linear=True, subtracts=True),
    "batchtopk": Kind("BatchTopKSAE", "BatchTopKTrainer", linear=True, subtracts=True),
    "matryoshka": Kind("MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer", linear=False, subtracts=True),
    "jumprelu": Kind("JumpReluAutoEncoder", "JumpReluTrainer", linear=False, subtracts=False),
}
"""The class of each architecture."""
_SAME = {
    "lr": "lr",
    "seed": "seed",
    "steps": "steps",
    "warmup_steps": "warmup",
    "auxk_alpha": "aux_weight",
    "top_k_aux": "aux_k",
    "threshold_beta": "threshold_decay",
    "threshold_start_step": "threshold_start",
    "bandwidth": "bandwidth",
    "sparsity_penalty": "l0_weight",
    "sparsity_warmup_steps": "l0_warmup",
}
"""Settings of a trainer, and ours."""


def read(folder: Path) -> SAE:
    """An autoencoder of dictionary_learning. Raises InputError on a kind that is not known, RecordError on damage."""
    path, file = folder / CONFIG, folder / WEIGHTS
    document = document_of(path)
    named = str(entry(path, document, "trainer", "dict_class"))
    architecture = next((name for name, kind in KINDS.items() if kind.dictionary == named), None)
    if architecture is None:
        known = ", ".join(kind.dictionary for kind in KINDS.values())
        raise refused(path, f"the class {named!r} of dictionary_learning", f"{known} can be read")
    kind, state = KINDS[architecture], torch_state_of(file)
    trainer: Mapping[str, Any] = document["trainer"]
    encoder = state.get("encoder.weight" if kind.linear else "W_enc")
    if encoder is None or encoder.ndim != 2:
        raise RecordError(f"{str(file)!r} has no encoder of a {named}; get the file anew.")
    width, d_in = encoder.shape if kind.linear else encoder.shape[::-1]
    weights = _taken(file, state, architecture, width, d_in)
    facts = {
        "d_in": d_in,
        "width": width,
        "architecture": architecture,
        "subtract_decoder_bias": kind.subtracts,
        "normalisation": "none",
        "decoder": decoder_of(weights),
        **_training(path, trainer, state, width, architecture),
    }
    fields, origin = recalled(document, facts, _origin(trainer))
    return assembled(path, fields, weights, origin)


def _taken(file: Path, state: Weights, architecture: str, width: int, d_in: int) -> Weights:
    """The weights in our orientation."""
    each = (width,) if architecture == "jumprelu" else ()
    if KINDS[architecture].linear:
        shapes = {
            "encoder.weight": (width, d_in), "encoder.bias": (width,), "decoder.weight": (d_in, width), "b_dec": (d_in,)
        }  # fmt: skip
    else:
        shapes = {"W_enc": (d_in, width), "b_enc": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    if architecture != "topk":
        shapes["threshold"] = each
    found = taken(file, state, shapes)
    if KINDS[architecture].linear:
        found["W_enc"], found["b_enc"] = found.pop("encoder.weight"), found.pop("encoder.bias")
        found["W_dec"] = found.pop("decoder.weight").T
    else:
        found["W_enc"] = found["W_enc"].T
    # A threshold of -1 was never set: every positive latent is active, there as here at 0.
    found["threshold"] = found.get("threshold", torch.zeros(())).clamp(min=0)
    return found


def _training(path: Path, trainer: Mapping[str, Any], state: Weights, width: int, architecture: str) -> dict[str, Any]:
    """What the trainer's settings are called here."""
    found = {ours: trainer[theirs] for theirs, ours in _SAME.items() if trainer.get(theirs) is not None}
    if found.get("steps") and trainer.get("decay_start"):
        found["decay"] = 1 - trainer["decay_start"] / found["steps"]
    elif found.get("steps"):
        found["decay"] = 0.0
    if architecture == "jumprelu":
        k = min(width, round(trainer.get("target_l0") or 1))
        return {**found, "aux_weight": 0.0, "k": max(1, k)}
    k = state["k"].item() if "k" in state else entry(path, trainer, "k")
    if architecture != "matryoshka":
        return {**found, "k": int(k)}
    sizes = state["group_sizes"].tolist() if "group_sizes" in state else entry(path, trainer, "group_sizes")
    if sum(sizes) != width:
        raise RecordError(f"the groups of {str(path)!r} hold {sum(sizes)} latents of {width}; get both files anew.")
    weights = trainer.get("group_weights") or [1 / len(sizes)] * len(sizes)
    # The library takes the mean over the groups of what it has already weighted.
    shares = tuple(weight / len(sizes) for weight in weights)
    return {**found, "k": int(k), "prefixes": tuple(accumulate(sizes)), "prefix_weights": shares}


def _origin(trainer: Mapping[str, Any]) -> Origin:
    """The model and the site, where the names that the library's demonstration gives are used."""
    layer, named = trainer.get("layer"), str(trainer.get("submodule_name") or "")
    site = f"model.layers.{layer}" if named == f"resid_post_layer_{layer}" else ""
    told = {
        name: trainer[name] for name in ("trainer_class", "layer", "submodule_name") if trainer.get(name) is not None
    }
    return Origin(
        model=str(trainer.get("lm_name") or ""), site=site, training={"layout": "dictionary-learning", **told}
    )


def contents(sae: SAE) -> Contents:
    """All architectures fit. Raises InputError where every token is normalised, which the layout cannot say."""
    config = sae.config
    if config.normalisation in PER_TOKEN:
        raise InputError(
            f"dictionary_learning has no autoencoder that normalises every token, as this one does "
            f"({config.normalisation}); write it as pellucid or sae-lens."
        )
    kind = KINDS[config.architecture]
    state = _state(sae, kind)
    document = {
        "trainer": {"trainer_class": kind.trainer, "dict_class": kind.dictionary, **_settings(sae)},
        "buffer": {
            "d_submodule": config.d_in,
            "io": "in" if sae.origin.site.endswith(":input") else "out",
            "ctx_len": None,
        },
        KEY: carried(sae),
    }
    return {WEIGHTS: _torch_writer(state), CONFIG: json_writer(document)}


def _state(sae: SAE, kind: Kind) -> Weights:
    """The tensors under the names and in the orientation of a class."""
    config = sae.config
    bias = sae.b_enc
    if config.subtract_decoder_bias != kind.subtracts:
        # W (x - b_dec) + b_enc = W x + (b_enc - W b_dec), in double precision so that only one rounding is left.
        shift = sae.W_enc.double() @ sae.b_dec.double()
        bias = (bias.double() + (shift if kind.subtracts else -shift)).to(bias.dtype)
    if kind.linear:
        state = {"encoder.weight": sae.W_enc, "encoder.bias": bias, "decoder.weight": sae.W_dec.T, "b_dec": sae.b_dec}
    else:
        state = {"W_enc": sae.W_enc.T, "b_enc": bias, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if config.architecture == "jumprelu":
        return {**state, "threshold": sae.threshold.expand(config.width)}
    state |= {"k": torch.tensor(config.k, dtype=torch.int32), "threshold": sae.threshold.reshape(())}
    if config.architecture == "matryoshka":
        state["group_sizes"] = torch.tensor(_groups(config))
    return state


def _groups(config: Config) -> list[int]:
    return [upper - lower for lower, upper in pairwise((0, *config.prefixes))]


def _settings(sae: SAE) -> dict[str, Any]:
    """The trainer's settings, as far as the two have them in common."""
    config, origin = sae.config, sae.origin
    layer = layer_of(origin.site)
    found = {theirs: getattr(config, ours) for theirs, ours in _SAME.items()}
    found |= {
        "activation_dim": config.d_in,
        "dict_size": config.width,
        "k": config.k,
        "target_l0": config.k if config.architecture == "jumprelu" else None,
        "decay_start": round(config.steps * (1 - config.decay)) if config.steps and config.decay else None,
        "device": "cpu",
        "layer": layer,
        "lm_name": origin.model,
        "submodule_name": origin.site if layer is None else f"resid_post_layer_{layer}",
    }
    if config.architecture == "matryoshka":
        groups = _groups(config)
        found |= {
            "group_sizes": groups,
            "group_fractions": [size / config.width for size in groups],
            "group_weights": [weight * len(groups) for weight in config.prefix_weights],
        }
    return found


def _torch_writer(state: dict[str, Tensor]) -> Callable[[Path], None]:
    return lambda path: torch.save(portable(state), path)


LAYOUT = Layout("dictionary-learning", CONFIG, WEIGHTS, read, contents)
