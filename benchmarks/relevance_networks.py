"""The networks that relevance is timed on, each with the two things that it is compared with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as hf
from torch import Tensor, nn

import pellucid
from relevance_measure import SMOLLM2

TARGET = 1
"""The output that is explained."""
PLAIN = ("forward", "plain gradient")
"""What every composite is compared with."""


class Logits(nn.Module):
    """A model of transformers, asked for logits [batch, class] alone; of a language model those at the last place."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        options = {"use_cache": False, "logits_to_keep": 1} if self.model.can_generate() else {}
        logits: Tensor = self.model(**inputs, **options).logits
        return logits[:, -1] if logits.ndim == 3 else logits


class Subject(NamedTuple):
    """A network with one batch of inputs."""

    module: Logits
    inputs: dict[str, Tensor]

    def forward(self) -> Tensor:
        """One plain forward pass."""
        with torch.no_grad():
            return self.module(**self.inputs)

    def gradient(self) -> Tensor:
        """The gradient of one logit with respect to the word embeddings or the picture, and nothing else."""
        if "input_ids" in self.inputs:
            name, start = "inputs_embeds", self.module.model.get_input_embeddings()(self.inputs["input_ids"])
        else:
            ((name, start),) = self.inputs.items()
        start = start.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(self.module(**{name: start})[:, TARGET].sum(), start)
        return found

    def trace(self, composite: str, **options: Any) -> Any:
        """Relevance of the same logit."""
        return pellucid.trace(self.module, self.inputs, target=pellucid.Logit(TARGET), composite=composite, **options)

    def work(self, name: str) -> Callable[[], Any]:
        """``forward``, ``plain gradient``, or a composite, alone or as ``NAME, keep="*"``."""
        if name in PLAIN:
            return {"forward": self.forward, "plain gradient": self.gradient}[name]
        composite, _, all_kept = name.partition(", ")
        return lambda: self.trace(composite, **({"keep": "*"} if all_kept else {}))


def tokens(batch: int, length: int, vocabulary: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(5, vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))}


def picture(batch: int, side: int = 224) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))}


def bert() -> tuple[nn.Module, dict[str, Tensor]]:
    return hf.BertForSequenceClassification(hf.BertConfig()), tokens(8, 128, 30522)


def vit() -> tuple[nn.Module, dict[str, Tensor]]:
    return hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000)), picture(4)


def resnet() -> tuple[nn.Module, dict[str, Tensor]]:
    sizes = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic", "num_labels": 1000}
    return hf.ResNetForImageClassification(hf.ResNetConfig(**sizes)), picture(8)


def smollm2(length: int = 512) -> tuple[nn.Module, dict[str, Tensor]]:
    return pellucid.load("smollm2").module, tokens(1, length, SMOLLM2["vocab_size"])


def llama(length: int = 512) -> tuple[nn.Module, dict[str, Tensor]]:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SMOLLM2)), tokens(1, length, SMOLLM2["vocab_size"])


NETWORKS: dict[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]] = {
    "bert": bert,
    "vit": vit,
    "resnet": resnet,
    "smollm2": smollm2,
    "llama": llama,
}
TITLES = {
    "bert": "BERT-base, 8 x 128 tokens",
    "vit": "ViT-B/16, 4 x 224 px",
    "resnet": "ResNet-18, 8 x 224 px",
    "smollm2": "SmolLM2-135M, 1 x 512 tokens",
    "llama": "Llama of SmolLM2's shape, random weights",
}


def subject(name: str, device: str = "cpu", length: int | None = None) -> Subject:
    """A network by name, in evaluation mode, without gradients of its own; random weights are seeded."""
    torch.manual_seed(0)
    module, inputs = NETWORKS[name]() if length is None else NETWORKS[name](length)
    module = Logits(module.eval().requires_grad_(False)).to(device)
    return Subject(module, {key: value.to(device) for key, value in inputs.items()})
