"""Mixtures of experts: a tiny random network of each family, and one that is written out."""

import torch
import transformers as hf
from torch import nn
from torch.nn import functional as F

from families.example import Example
from pellucid.targets import Logit

EXPERTS, CHOSEN = 4, 2
_COMMON = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GROUPED = _COMMON | {"num_key_value_heads": 1}
_ROUTED = {"num_experts": EXPERTS, "num_experts_per_tok": CHOSEN}
_NARROW = _GROUPED | _ROUTED | {"moe_intermediate_size": 12}
_LATENT = {
    "num_key_value_heads": 2, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}  # fmt: skip


class Mixture(nn.Module):
    """Top-2 of four linear experts, each asked for its tokens and added to the sum; weights that sum to 1."""

    def __init__(self, width: int = 6, hidden: int = 10) -> None:
        super().__init__()
        self.gate = nn.Linear(width, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, width, bias=False))
            for _ in range(EXPERTS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(0, 1)
        weights, chosen = self.gate(tokens).softmax(-1).topk(CHOSEN, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        total = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            rows, slots = torch.where(chosen == index)
            total.index_add_(0, rows, expert(tokens[rows]) * weights[rows, slots, None])
        return total.view_as(x)


class WrittenOut(nn.Module):
    """Token ids to logits through two residual mixtures."""

    def __init__(self, vocabulary: int = 50, width: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Mixture(width) for _ in range(2))
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = x + layer(F.rms_norm(x, x.shape[-1:]))
        return self.head(x)


_BUILDERS = {
    "Mixtral": lambda: hf.MixtralForCausalLM(
        hf.MixtralConfig(**_GROUPED, num_local_experts=EXPERTS, num_experts_per_tok=CHOSEN)
    ),
    "Qwen2-MoE": lambda: hf.Qwen2MoeForCausalLM(hf.Qwen2MoeConfig(**_NARROW, shared_expert_intermediate_size=20)),
    "Qwen3-MoE": lambda: hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**_NARROW, head_dim=8)),
    "OLMoE": lambda: hf.OlmoeForCausalLM(hf.OlmoeConfig(**_GROUPED, **_ROUTED)),
    "GPT-OSS": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(
            **_GROUPED, num_local_experts=EXPERTS, num_experts_per_tok=CHOSEN, head_dim=8, sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    ),
    "DeepSeek-V3": lambda: hf.DeepseekV3ForCausalLM(
        hf.DeepseekV3Config(
            **_COMMON, **_LATENT, n_routed_experts=EXPERTS, num_experts_per_tok=CHOSEN, n_group=2, topk_group=1,
            first_k_dense_replace=1, moe_intermediate_size=12,
        )
    ),
    "a mixture written out": WrittenOut,
}  # fmt: skip


def ids(batch: int = 1, seq: int = 7) -> torch.Tensor:
    """Token ids, none of them special."""
    return torch.randint(3, 50, (batch, seq), generator=torch.Generator().manual_seed(4))


def network(model: str, seed: int = 0) -> nn.Module:
    """A random network in evaluation mode, with matrices large enough that its router has opinions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _BUILDERS[model]()
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return module.eval()


def _example(model: str, note: str = "") -> Example:
    inputs = ids() if model == "a mixture written out" else {"input_ids": ids()}
    return Example(
        family="mixture of experts", model=model, weights="random", module=network(model), inputs=inputs,
        target=Logit(), note=note,
    )  # fmt: skip


def mixtral() -> Example:
    return _example("Mixtral")


def qwen2_moe() -> Example:
    return _example("Qwen2-MoE", "with a shared expert")


def qwen3_moe() -> Example:
    return _example("Qwen3-MoE")


def olmoe() -> Example:
    return _example("OLMoE")


def gpt_oss() -> Example:
    return _example("GPT-OSS", "with attention sinks and biases in the experts")


def deepseek_v3() -> Example:
    return _example("DeepSeek-V3", "with a shared expert and a dense first layer")


def written_out() -> Example:
    return _example("a mixture written out")


EXAMPLES = (mixtral, qwen2_moe, qwen3_moe, olmoe, gpt_oss, deepseek_v3, written_out)
