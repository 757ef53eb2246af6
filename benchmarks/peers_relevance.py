"""What peers make of small networks, as fixtures for our tests; and what LXT costs on a Llama.

It never imports pellucid. It is run by an environment of its own, for LXT wants a transformers of the year before and
zennit has another licence:

python -m venv peers
peers/bin/pip install torch==2.13.0 transformers==4.52.4 lxt==2.1 zennit==0.5.1 captum==0.9.0 safetensors
peers/bin/python benchmarks/peers_relevance.py fixtures      # writes tests/fixtures/peers_relevance/*.safetensors
peers/bin/python benchmarks/peers_relevance.py llama --tokens 512 --rounds 5       # prints times as JSON

torchvision comes with LXT; without the compiled operators that fit this torch it is good for an import alone, which is
all that LXT needs.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from relevance_measure import SMOLLM2, THREADS, shuffled

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures" / "peers_relevance"
PACKAGES = ("torch", "transformers", "lxt", "zennit", "captum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fixtures = commands.add_parser("fixtures", help="write the fixtures of the tests")
    fixtures.add_argument("--to", type=Path, default=FIXTURES, metavar="FOLDER")
    fixtures.set_defaults(work=lambda chosen: write_all(chosen.to))
    llama = commands.add_parser("llama", help="time LXT on a Llama of SmolLM2's shape")
    llama.add_argument("--tokens", type=int, default=512)
    llama.add_argument("--rounds", type=int, default=5)
    llama.set_defaults(work=lambda chosen: print(json.dumps(timed_llama(chosen.tokens, chosen.rounds))))
    chosen = parser.parse_args()
    chosen.work(chosen)


def write_all(folder: Path) -> None:
    """A file for each network: its description, its weights, its inputs, and its relevance by each rule."""
    import relevance_lxt as lxt
    import relevance_rules as rules
    from relevance_specs import PLAIN, TRANSFORMERS, seeded, sequential

    folder.mkdir(parents=True, exist_ok=True)
    for name, network in PLAIN.items():
        module = seeded(sequential(network.described), network.seed)
        weights = module.state_dict()
        found = {case: rules.relevance(network, weights, each) for case, each in rules.CASES[name].items()}
        written = {case: each._asdict() for case, each in rules.CASES[name].items()}
        output = {"x": module(network.inputs["x"]), "|x|": module(network.inputs["x"].abs())}
        write(folder / f"{name}.safetensors", network, weights, output, found, written)
    for name, network in TRANSFORMERS.items():
        module = seeded(lxt.built(network), network.seed)
        weights = module.state_dict()
        found = {}
        for case, each in lxt.CASES[name].items():
            in_own_process = ProcessPoolExecutor(1, get_context("spawn"))
            with in_own_process as pool:
                parts = pool.submit(lxt.relevance, network, weights, each).result()
            output = {"x": parts.pop("output")}
            found |= {f"{case}@{layer}" if layer else case: tensor for layer, tensor in parts.items()}
        written = {case: {"peer": "lxt", **each._asdict()} for case, each in lxt.CASES[name].items()}
        named = lxt.named_as_in_transformers_5(network, weights)
        write(folder / f"{name}.safetensors", network, named, output, found, written)


def write(path: Path, network: Any, weights: dict, output: dict, relevance: dict, cases: dict) -> None:
    """Weights and inputs in float32, which holds them exactly; outputs and relevance in float64."""
    import torch
    from safetensors.torch import save_file

    def narrow(tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().clone()

    tensors = {f"weight:{name}": narrow(tensor) for name, tensor in weights.items()}
    tensors |= {f"input:{name}": narrow(tensor) for name, tensor in network.inputs.items()}
    tensors |= {f"output:{name}": tensor.contiguous() for name, tensor in output.items()}
    tensors |= {f"relevance:{name}": tensor.contiguous() for name, tensor in relevance.items()}
    facts = {
        "network": network.described,
        "target": network.target,
        "cases": cases,
        "versions": {package: version(package) for package in PACKAGES},
    }
    save_file(tensors, path, {"facts": json.dumps(facts)})  # of several keys the order would be left to chance
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {len(relevance)} relevances")


def timed_llama(tokens: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of LXT's AttnLRP, the plain gradient and the plain forward pass, by turns in one process."""
    import torch

    import relevance_lxt as lxt

    module = lxt.llama(SMOLLM2)
    ids = torch.randint(SMOLLM2["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.no_grad():
            module(ids, use_cache=False, logits_to_keep=1)

    def gradient() -> torch.Tensor:
        start = module.get_input_embeddings()(ids).requires_grad_()
        logits = module(inputs_embeds=start, use_cache=False, logits_to_keep=1).logits
        (found,) = torch.autograd.grad(logits[0, -1, 1], start)
        return start * found

    def relevance() -> torch.Tensor:
        with lxt.llama_patched():
            return gradient()

    works = {"forward": forward, "plain gradient": gradient, "lxt attnlrp": relevance}
    times = shuffled(works, rounds)
    return {"versions": {package: version(package) for package in PACKAGES}, "tokens": tokens, "times": times}


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **THREADS})
    main()
