"""Relevance by LXT, on models of transformers and on ``nn.MultiheadAttention``; and what it costs on a Llama.

LXT replaces methods of classes for the whole process, so that each patch needs a process of its own.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from torch import Tensor, nn

import relevance_torchvision  # noqa: F401 - before LXT
from relevance_specs import Network, sequential


class Case(NamedTuple):
    """A patch of LXT, as it is written into the fixture."""

    patch: str
    """``attnLRP`` or ``cp_LRP``."""
    origin: str
    """The module of LXT that defines the patch; ``parts`` where we put it together from LXT's parts."""
    layers: tuple[str, ...] = ()
    """Modules whose output's relevance is kept, too."""


CASES: dict[str, dict[str, Case]] = {
    "llama": {
        "lxt_attnlrp": Case("attnLRP", "llama", ("model.layers.0", "model.layers.1.self_attn")),
        "lxt_cp_lrp": Case("cp_LRP", "llama", ("model.layers.0",)),
    },
    "bert": {"lxt_attnlrp": Case("attnLRP", "bert", ("bert.encoder.layer.0",))},
    "gpt2": {"lxt_attnlrp": Case("attnLRP", "gpt2"), "lxt_cp_lrp": Case("cp_LRP", "gpt2")},
    "vit": {"lxt_attnlrp": Case("attnLRP", "parts"), "lxt_cp_lrp": Case("cp_LRP", "parts")},
    "encoder": {"lxt_cp_lrp": Case("cp_LRP", "vit_torch")},
}
ARCHITECTURES = {"LlamaForCausalLM": "llama", "BertForSequenceClassification": "bert"}
ARCHITECTURES |= {"GPT2LMHeadModel": "gpt2", "ViTForImageClassification": "vit"}
TO_TRANSFORMERS_5 = [
    (r"vit\.encoder\.layer\.(\d+)\.", r"vit.layers.\1."),
    (r"attention\.attention\.(query|key|value)\.", lambda found: f"attention.{found[1][0]}_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
]


def built(network: Network) -> nn.Module:
    """The described network, of the classes that are in transformers at this moment."""
    if "layers" in network.described:
        return sequential(network.described)
    name = network.described["class"]
    family = import_module(f"transformers.models.{ARCHITECTURES[name]}.modeling_{ARCHITECTURES[name]}")
    kind = getattr(family, name)
    return kind._from_config(kind.config_class(**network.described["config"]), attn_implementation="eager").eval()


def named_as_in_transformers_5(network: Network, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that a ViT has in transformers 5; those of the other networks did not change."""
    if network.described.get("class") != "ViTForImageClassification":
        return weights
    found = {}
    for name, tensor in weights.items():
        for old, new in TO_TRANSFORMERS_5:
            name = re.sub(old, new, name)
        found[name] = tensor
    return found


def relevance(network: Network, weights: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    """Relevance of the input (of the embeddings, for tokens) as ``""``, and of the outputs of the named modules."""
    patch(network, case)
    module = built(network).double()
    module.load_state_dict(weights)
    module.requires_grad_(False)
    kept: dict[str, Tensor] = {}
    for name in case.layers:
        module.get_submodule(name).register_forward_hook(partial(keep, kept, name))
    kept[""], output = asked(module, network.inputs)
    output[:, network.target].sum().backward()
    return {"output": output.detach()} | {name: (each * each.grad).detach() for name, each in kept.items()}


def keep(kept: dict[str, Tensor], name: str, _: nn.Module, __: Any, output: Any) -> None:
    kept[name] = output[0] if isinstance(output, tuple) else output
    kept[name].retain_grad()


def asked(module: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The tensor that relevance goes back to, and the outputs [batch, class]."""
    given = dict(inputs)
    if "x" in given:
        start = given["x"].clone().requires_grad_()
        return start, module(start)
    if "input_ids" in given:
        start = module.get_input_embeddings()(given.pop("input_ids")).requires_grad_()
        logits = module(inputs_embeds=start, **given).logits
        return start, logits[:, -1] if logits.ndim == 3 else logits
    start = given["pixel_values"].clone().requires_grad_()
    return start, module(pixel_values=start).logits


def patch(network: Network, case: Case) -> None:
    """Put LXT's methods into the classes; a class that it fails to patch is an error."""
    from lxt.efficient import monkey_patch

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Failed to patch")
        if case.origin == "parts":
            family = import_module(f"transformers.models.vit.{'modeling_vit'}")
            monkey_patch(family, vit_of_parts(family, case.patch))
        else:
            monkey_patch(nn, getattr(import_module(f"lxt.efficient.models.{case.origin}"), case.patch))


def vit_of_parts(family: Any, name: str) -> dict[Any, Callable[[Any], bool]]:
    """LXT has no patch for the ViT of transformers; this is one of its parts: norms, activations, attention."""
    from lxt.efficient import patches
    from transformers.activations import GELUActivation

    return {
        nn.LayerNorm: partial(patches.patch_method, patches.layer_norm_forward),
        GELUActivation: partial(patches.patch_method, patches.non_linear_forward, keep_original=True),
        family: {"attnLRP": patches.patch_attention, "cp_LRP": patches.patch_cp_attention}[name],
    }


def llama(config: dict[str, Any]) -> nn.Module:
    """A Llama of random weights, as it is before LXT changes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    described = LlamaConfig(**config)
    return LlamaForCausalLM._from_config(described, attn_implementation="sdpa").eval().requires_grad_(False)


@contextmanager
def llama_patched(case: Case = CASES["llama"]["lxt_attnlrp"]) -> Iterator[None]:
    """A Llama as LXT has it, for a while: for timing beside the plain one in the same process."""
    from transformers.models.llama import modeling_llama as family

    places = [
        (family.LlamaMLP, "forward"),
        (family.LlamaRMSNorm, "forward"),
        (nn.Dropout, "forward"),
        (family, "eager_attention_forward"),
        (family, "ALL_ATTENTION_FUNCTIONS"),
    ]
    before = [getattr(owner, name) for owner, name in places]
    patch(Network({}, {}, 0), case)
    try:
        yield
    finally:
        for (owner, name), value in zip(places, before, strict=True):
            setattr(owner, name, value)
