"""Small seeded networks for the comparison with peers, each described so fully that another program can build it anew.

A described network is plain data, and travels in the fixture beside its weights:

    {"layers": [["Linear", {"in_features": 6, "out_features": 8}], ["ReLU", {}], ["Residual", [...]], ...]}
    {"class": "LlamaForCausalLM", "config": {"hidden_size": 16, ...}}

Layers are those of ``torch.nn``, in sequence; ``Residual`` adds to its input what its own layers make of it. Classes
are those of transformers. Neither pellucid nor a peer is imported here.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Described = dict[str, Any]
SCALE = 0.3


class Network(NamedTuple):
    """A described network with what it is asked."""

    described: Described
    inputs: dict[str, Tensor]
    """By the names of its arguments; ``x`` for a network of plain layers."""
    target: int
    """The output whose value is explained, in every row."""
    seed: int = 0
    """Of the weights."""


class Residual(nn.Module):
    """The input plus what the layers make of it; the sum is a module of its own, so that a peer can know it."""

    def __init__(self, layers: list, total: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.total = total

    def forward(self, x: Tensor) -> Tensor:
        return self.total(torch.stack([x, self.layers(x)], dim=-1))


class Total(nn.Module):
    """The sum over the last dimension."""

    def forward(self, parts: Tensor) -> Tensor:
        return parts.sum(-1)


def sequential(described: Described, total: type[nn.Module] = Total) -> nn.Sequential:
    """The network of plain layers; ``total`` is the module that sums in a residual."""

    def layer(kind: str, options: Any) -> nn.Module:
        if kind == "Residual":
            return Residual([layer(*each) for each in options], total())
        return getattr(nn, kind)(**options)

    return nn.Sequential(*(layer(*each) for each in described["layers"])).eval()


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters anew; in float32 and then held in float64, so that a file in float32 loses nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = SCALE * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + drawn if parameter.ndim == 1 and name.endswith("weight") else drawn)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(SCALE * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return module.requires_grad_(False).eval().double()


def drawn(*shape: int) -> Tensor:
    """A standard normal input, exact in float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()


def mlp(bias: bool, activation: str = "ReLU") -> Described:
    widths = [6, 8, 7, 4]
    layers: list = []
    for wide, narrow in pairwise(widths):
        layers += [["Linear", {"in_features": wide, "out_features": narrow, "bias": bias}], [activation, {}]]
    return {"layers": layers[:-1]}


def conv(wide: int, narrow: int, bias: bool, **options: Any) -> list:
    sizes = {"in_channels": wide, "out_channels": narrow, "kernel_size": 3, "padding": 1, "bias": bias}
    return ["Conv2d", sizes | options]


def head(wide: int, bias: bool) -> list:
    return [["Flatten", {}], ["Linear", {"in_features": wide, "out_features": 4, "bias": bias}]]


def cnn(bias: bool) -> Described:
    pools = ["MaxPool2d", {"kernel_size": 2}], ["AvgPool2d", {"kernel_size": 2}]
    first = [conv(2, 4, bias), ["ReLU", {"inplace": True}], pools[0]]
    second = [conv(4, 6, bias, groups=2), ["ReLU", {}], pools[1]]
    return {"layers": [*first, *second, *head(24, bias)]}


def residual(bias: bool) -> Described:
    inner = [conv(4, 4, bias), ["ReLU", {}], conv(4, 4, bias, dilation=2, padding=2)]
    body = [conv(2, 4, bias), ["ReLU", {}], ["Residual", inner], ["ReLU", {}]]
    return {"layers": [*body, ["AdaptiveAvgPool2d", {"output_size": 1}], *head(4, bias)]}


def normed() -> Described:
    norm = ["BatchNorm2d", {"num_features": 4, "eps": 1e-12}]  # zennit merges it away, but for its epsilon
    body = [conv(2, 4, True, stride=2), norm, ["ReLU", {}], conv(4, 4, False), norm, ["ReLU", {}]]
    return {"layers": [*body, *head(64, True)]}


def encoder() -> Described:
    """Two layers of ``nn.MultiheadAttention``; ReLU, for which the identity rule and the gradient are the same."""
    options = {"d_model": 16, "nhead": 4, "dim_feedforward": 24, "dropout": 0.0, "batch_first": True}
    block = ["TransformerEncoderLayer", options | {"activation": "relu", "norm_first": True}]
    return {"layers": [block, block, *head(80, True)]}


SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
COMMON = SIZES | {"vocab_size": 40}
LLAMA = {
    "class": "LlamaForCausalLM",
    "config": COMMON | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32},
}
BERT = {
    "class": "BertForSequenceClassification",
    "config": COMMON | {"num_attention_heads": 4, "max_position_embeddings": 16, "num_labels": 3},
}
GPT2 = {
    "class": "GPT2LMHeadModel",
    "config": {"vocab_size": 40, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4}
    | {"bos_token_id": 1, "eos_token_id": 2},
}
VIT = {
    "class": "ViTForImageClassification",
    "config": SIZES | {"num_attention_heads": 4, "image_size": 8, "patch_size": 4, "num_channels": 2, "num_labels": 3},
}


def tokens(padded: slice) -> dict[str, Tensor]:
    """Two texts of seven tokens; the second is padded."""
    ids = torch.randint(3, 40, (2, 7), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, padded] = 0
    return {"input_ids": ids, "attention_mask": mask}


# Seeds and targets: outputs of both signs and far from zero where the rules bear it; else positive in every row.
PLAIN = {
    "mlp": Network(mlp(True), {"x": drawn(3, 6)}, 0, 24),
    "mlp_nobias": Network(mlp(False), {"x": drawn(3, 6)}, 1, 5),
    "mlp_tanh": Network(mlp(False, "Tanh"), {"x": drawn(3, 6)}, 2, 1),
    "cnn": Network(cnn(True), {"x": drawn(2, 2, 8, 8)}, 1, 18),
    "cnn_nobias": Network(cnn(False), {"x": drawn(2, 2, 8, 8)}, 1, 17),
    "residual": Network(residual(True), {"x": drawn(2, 2, 6, 6)}, 3, 22),
    "residual_nobias": Network(residual(False), {"x": drawn(2, 2, 6, 6)}, 2, 37),
    "normed": Network(normed(), {"x": drawn(2, 2, 8, 8)}, 2),
}
TRANSFORMERS = {
    "llama": Network(LLAMA, tokens(slice(2, 4)), 5),
    "bert": Network(BERT, tokens(slice(5, 7)), 1),
    "gpt2": Network(GPT2, tokens(slice(0, 0)), 5),
    "vit": Network(VIT, {"pixel_values": drawn(2, 2, 8, 8)}, 1),
    "encoder": Network(encoder(), {"x": drawn(2, 5, 16)}, 1),
}
