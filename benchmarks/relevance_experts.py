"""What relevance costs in a mixture of experts, beside a plain gradient of the same network.

python benchmarks/relevance_experts.py                          # attnlrp, both ways of computing the experts
python benchmarks/relevance_experts.py --composites cp-lrp --rounds 5 --layers 4

The network has the shape of a small Qwen-MoE and random weights. Prints CPU time as a ratio to the gradient, round by
round in random order; ``--json FILE`` writes it.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import ratio
from relevance_measure import THREADS, shuffled

IMPLEMENTATIONS = ("grouped_mm", "eager")
SHAPE = {
    "vocab_size": 8192, "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
    "intermediate_size": 1024, "moe_intermediate_size": 256, "num_experts": 16, "num_experts_per_tok": 4,
}  # fmt: skip


def cost(implementation: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Times of the composites, each also with the relevance of every expert kept, by turns with the gradient."""
    import torch
    import transformers as hf

    import pellucid

    torch.manual_seed(0)
    network = hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**SHAPE, num_hidden_layers=chosen.layers)).eval()
    network.set_experts_implementation(implementation)
    ids = torch.randint(0, SHAPE["vocab_size"], (1, chosen.tokens))

    def gradient() -> None:
        vectors = network.get_input_embeddings()(ids).detach().requires_grad_()
        network.requires_grad_(False)
        torch.autograd.grad(network(inputs_embeds=vectors).logits[0, -1].max(), vectors)

    def traced(composite: str, keep: str | tuple[()]) -> Callable[[], Any]:
        return lambda: pellucid.trace(network, {"input_ids": ids}, pellucid.Logit(), composite=composite, keep=keep)

    works: dict[str, Callable[[], Any]] = {"plain gradient": gradient}
    for composite in chosen.composites:
        works[composite] = traced(composite, ())
        works[f"{composite}, experts kept"] = traced(composite, "*.experts")
    times = shuffled(works, chosen.rounds)
    return {name: {"times": each, "ratio": ratio(each, times["plain gradient"])} for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--composites", nargs="*", default=["attnlrp", "cp-lrp"])
    parser.add_argument("--implementations", nargs="*", default=IMPLEMENTATIONS, choices=IMPLEMENTATIONS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {each: cost(each, chosen) for each in chosen.implementations}
    for implementation, works in found.items():
        for name, each in works.items():
            r, seconds = each["ratio"], each["times"]["cpu"]["median"]
            print(
                f"{implementation:12}{name:28}{seconds:7.2f} s  {r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f}) "
                "plain gradients"
            )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    os.environ.update(THREADS)
    main()
