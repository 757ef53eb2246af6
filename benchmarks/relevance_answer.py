"""Every token of a 64-token answer to a prompt of 512 tokens, explained on SmolLM2: memory, and time in forward passes.

Writes docs/benchmarks-relevance-answer.md. Each setting runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-relevance-answer.md"
PROMPT, ANSWER = 512, 64
BUDGET = 3_500
"""Megabytes above the loaded model, in which the default has to do."""
SENTENCE = "The patient was admitted with chest pain and short of breath after a long walk in the hills. "


def one(composite: str, at_once: int | None) -> dict[str, float]:
    """Memory above the loaded model, and CPU time beside that of a plain forward pass over the same tokens."""
    import pellucid
    from pellucid.memory import PeakMemory

    model = pellucid.load("smollm2", chat=False)
    text = SENTENCE * 40
    ids = model.tokenizer(text)["input_ids"][:PROMPT]
    text = model.tokenizer.decode(ids)
    answer = (model.generate(model.encode(text), pellucid.Generated(max_new_tokens=ANSWER)) * ANSWER)[:ANSWER]
    whole = torch.tensor([[*ids, *answer]])
    forwards = []
    for _ in range(4):
        before = time.process_time()
        with torch.no_grad():
            model.module(whole, logits_to_keep=ANSWER)
        forwards.append(time.process_time() - before)
    settings = {} if at_once is None else {"at_once": at_once}
    before = time.process_time()
    with PeakMemory() as memory:
        explained = pellucid.explain(
            model, text, method=composite, target=pellucid.Generated(token_ids=answer), checks="none", **settings
        )
    assert explained.values.shape[0] == ANSWER
    spent = time.process_time() - before
    return {"megabytes": memory.above_bytes / 1e6, "forwards": spent / median(forwards[1:]), "seconds": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--composites", nargs="+", default=["attnlrp", "lrp-epsilon"])
    parser.add_argument("--at-once", nargs="+", type=int, default=[0, 1, 8], help="0: the default")
    parser.add_argument("--one", help="measure one, in this process")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.one:
        composite, at_once = asked.one.split(",")
        print(json.dumps(one(composite, int(at_once) or None)))
        return
    rows = []
    for composite in asked.composites:
        for at_once in asked.at_once:
            run = [sys.executable, __file__, "--one", f"{composite},{at_once}"]
            out = subprocess.run(run, check=True, capture_output=True, text=True).stdout
            found = json.loads(out.strip().splitlines()[-1])
            rows.append((composite, at_once or "default", found))
            print(*rows[-1])
    lines = [
        "# An answer, token by token",
        "",
        f"Written by `python benchmarks/relevance_answer.py`: SmolLM2-135M, a prompt of {PROMPT} tokens, each token",
        f"of an answer of {ANSWER} explained, layers included; float32, one thread. Memory is the peak above the",
        f"loaded model; the default is to stay below {BUDGET} MB. Price: CPU time over one plain forward pass over",
        f"all {PROMPT + ANSWER} tokens.",
        "",
        "| composite | tokens at once | memory, MB | price, forward passes | seconds |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {composite} | {at_once} | {found['megabytes']:,.0f} | {found['forwards']:.0f} | {found['seconds']:.0f} |"
        for composite, at_once, found in rows
    ]
    lines += [
        "",
        f"A plain gradient for each token costs {2 * ANSWER} to {3 * ANSWER} such passes. More tokens at once cost",
        "memory and, on a processor, save little: the arithmetic is the same.",
    ]
    PAGE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
