"""Harvesting beside the model's own forward pass: the same windows of text, the same last layer, by turns."""

import tempfile
from pathlib import Path
from typing import Any

from measure import interleaved, ratio, spread

MODEL, LAYER, SITE = "smollm2", 15, "model.layers.15"
TOKENS, CONTEXT, BATCH = 16_384, 256, 4_096
ROUNDS = 5


def harvest(rounds: int = ROUNDS) -> dict[str, Any]:
    """What share of the bare network's throughput harvesting has, each round's into a folder of its own."""
    import torch

    import pellucid
    from pellucid.sae.store import harvest as harvested

    model = pellucid.load(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        number = 0

        def ours() -> Any:
            nonlocal number
            number += 1
            return harvested(
                model, [SITE], "sotu", Path(folder) / str(number), context=CONTEXT, tokens=TOKENS, batch_tokens=BATCH
            )

        first = ours()
        ids = [first.sample(index).ids for index in range(first.samples)]
        rows = BATCH // CONTEXT
        longest_first = sorted(ids, key=len, reverse=True)
        batches = [padded(longest_first[start : start + rows]) for start in range(0, len(ids), rows)]
        network = model.module.model
        whole = network.layers

        def bare() -> None:
            network.layers = torch.nn.ModuleList(whole[: LAYER + 1])
            try:
                with torch.no_grad():
                    for tokens, mask in batches:
                        network(input_ids=tokens, attention_mask=mask, use_cache=False)
            finally:
                network.layers = whole

        times, _ = interleaved({"bare": bare, "harvest": ours}, 1)
        times, _ = interleaved({"bare": bare, "harvest": ours}, rounds)
        positions = first.manifest.positions
    share = ratio(times["bare"], times["harvest"])
    return {
        "model": "SmolLM2-135M-Instruct, float32",
        "site": SITE,
        "tokens": TOKENS,
        "positions": positions,
        "share": share,
        "times": times,
        "forward_per_second": spread([positions / each for each in times["bare"]["cpu"]["values"]])["median"],
        "harvest_per_second": spread([positions / each for each in times["harvest"]["cpu"]["values"]])["median"],
        "batching": f"Both read the same windows of {CONTEXT} tokens, {rows} at a time; harvesting also reads and "
        "encodes the corpus, sums the statistics in fp64 and hashes what it writes.",
    }


def padded(windows: list[tuple[int, ...]]) -> tuple[Any, Any]:
    """Ids and mask [row, seq], padded on the right."""
    import torch

    longest = max(map(len, windows))
    ids = torch.zeros(len(windows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.tensor(window)
        mask[row, : len(window)] = 1
    return ids, mask
