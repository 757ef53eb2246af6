"""Families of transformers as their authors wrote them, tiny and random, under every coefficient composite."""

import copy
from functools import cache

import pytest
import torch
import transformers as hf

from pellucid import Logit
from pellucid.relevance import trace
from relevance_tools import near

COMPOSITES = ("input-x-gradient", "lrp-0", "lrp-epsilon", "cp-lrp", "decompx", "attnlrp", "reslrp")

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 40,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
GPT2 = {
    "vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2
}  # fmt: skip
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
STAGES = {"hidden_sizes": [4, 6, 8, 8], "depths": [1, 1, 2, 1], "num_labels": 3}
PICTURE = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": 16,
    "patch_size": 4, "num_labels": 3,
}  # fmt: skip

ENCODERS = {
    "bert": lambda: hf.BertConfig(**SIZES),
    "roberta": lambda: hf.RobertaConfig(**SIZES),
    "electra": lambda: hf.ElectraConfig(**SIZES, embedding_size=8, hidden_act="gelu_new"),
    "distilbert": lambda: hf.DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=4, hidden_dim=24),
    "deberta-v2": lambda: hf.DebertaV2Config(**SIZES, **RELATIVE),
    "deberta-v2, as released": lambda: hf.DebertaV2Config(
        **SIZES, **RELATIVE, share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=4, conv_kernel_size=3
    ),
    "deberta-v2, absolute": lambda: hf.DebertaV2Config(**SIZES, relative_attention=False, pos_att_type=[]),
    "modernbert": lambda: hf.ModernBertConfig(**SIZES, global_attn_every_n_layers=2, local_attention=6),
}
DECODERS = {
    "gpt2": lambda: hf.GPT2Config(**GPT2),
    "gpt2, upcast": lambda: hf.GPT2Config(
        **GPT2, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True, activation_function="relu"
    ),
    "llama": lambda: hf.LlamaConfig(**GROUPED, attention_bias=True, mlp_bias=True),
    "llama, dynamic rotary": lambda: hf.LlamaConfig(
        **GROUPED, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    ),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED),
    "gemma": lambda: hf.GemmaConfig(**GROUPED),
    "gemma2": lambda: hf.Gemma2Config(**GROUPED, **WINDOW),
    "gemma3": lambda: hf.Gemma3TextConfig(**GROUPED, **WINDOW),
    "phi3": lambda: hf.Phi3Config(**SIZES, num_key_value_heads=2),
    "gpt-neox": lambda: hf.GPTNeoXConfig(**SIZES, use_parallel_residual=True),
    "mistral": lambda: hf.MistralConfig(**GROUPED, sliding_window=4),
    "olmo2": lambda: hf.Olmo2Config(**SIZES),
}  # fmt: skip
PICTURES = {
    "vit": lambda: hf.ViTConfig(**PICTURE),
    "dinov2": lambda: hf.Dinov2Config(**PICTURE, use_swiglu_ffn=True),
    "swin": lambda: hf.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 2], num_heads=[2, 4], window_size=4, num_labels=3
    ),
    "convnext": lambda: hf.ConvNextConfig(**STAGES),
    "convnextv2": lambda: hf.ConvNextV2Config(**STAGES),
    "resnet": lambda: hf.ResNetConfig(**STAGES, embedding_size=4, layer_type="bottleneck"),
    "mobilenet-v2": lambda: hf.MobileNetV2Config(depth_multiplier=0.1, num_labels=3),
    "efficientnet": lambda: hf.EfficientNetConfig(
        width_coefficient=0.25, in_channels=[32, 16], out_channels=[16, 24], kernel_sizes=[3, 5], strides=[1, 2],
        num_block_repeats=[1, 2], expand_ratios=[1, 2], depthwise_padding=[], hidden_dim=320, image_size=32,
        num_labels=3,
    ),
}  # fmt: skip
FAMILIES = ENCODERS | DECODERS | PICTURES


def dtype(name):
    return torch.float32 if "upcast" in name else torch.float64


@cache
def network(name, kernel):
    """A double network; None where the family has no such kernel."""
    config = copy.deepcopy(FAMILIES[name]())
    auto = hf.AutoModelForSequenceClassification if name in ENCODERS else hf.AutoModelForImageClassification
    auto = hf.AutoModelForCausalLM if name in DECODERS else auto
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            module = auto.from_config(config, attn_implementation=kernel)
        except ValueError:
            return None
        for parameter in module.parameters():
            # Biases too, so that something is absorbed.
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_var.uniform_(0.5, 1.5)
    return module.to(dtype(name)).eval()


def inputs(name):
    generator = torch.Generator().manual_seed(1)
    if name in PICTURES:
        size = 16 if getattr(FAMILIES[name](), "image_size", 32) == 16 else 32
        return {"pixel_values": torch.randn(2, 3, size, size, generator=generator).double()}
    ids = torch.randint(3, 40, (2, 7), generator=generator)
    mask = torch.ones_like(ids)
    # The last prediction of a decoder must not be that of padding, and its first token must see something.
    mask[1, slice(1, 3) if name in DECODERS else slice(5, 7)] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_under_every_composite(name):
    x, tolerance = inputs(name), 1e-7 if dtype(name) is torch.float64 else 1e-3
    key = next(iter(x))
    kernels = [each for each in (network(name, "eager"), network(name, "sdpa")) if each is not None]
    with torch.no_grad():
        logits = kernels[0](**x).logits
    logits = logits[:, -1] if logits.ndim == 3 else logits
    # The others are made of the same rules.
    for composite in COMPOSITES if name in ("bert", "gpt2", "llama", "vit", "resnet") else ("cp-lrp", "reslrp"):
        eager, *others = (trace(module, x, Logit(1), composite=composite) for module in kernels)
        near(torch.as_tensor(eager.seeded), logits[:, 1].sum().double(), tolerance)
        assert torch.isfinite(eager.input[key]).all()
        assert eager.input[key].any()
        assert not eager.approximated
        for fused in others:
            # Eager attention takes its softmax in single precision.
            near(fused.input[key], eager.input[key], max(tolerance, 1e-5))
        if composite in ("cp-lrp", "reslrp"):
            row = {each: value[1:] for each, value in x.items()}
            one = trace(kernels[-1], row, Logit(1), composite=composite)
            near(one.input[key][0], eager.input[key][1], tolerance)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_keeps_account_of_everything(name):
    module, x, tolerance = network(name, "eager"), inputs(name), 1e-7 if dtype(name) is torch.float64 else 1e-3
    account = trace(module, x, Logit(1), composite="reslrp", account=True).account()
    assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, abs=tolerance)
    assert max(abs(row.leaked) for row in account) < tolerance * max(1.0, abs(account.seeded)), account[0]
    assert abs(account.absorbed) > 1e-6
