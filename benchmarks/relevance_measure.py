"""Timing by turns in random order; shared with the program that times LXT in an environment without pellucid."""

import random
from collections.abc import Callable
from typing import Any

from measure import spread, timed

THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
"""A thread that waits by spinning would be counted as CPU time."""

SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
"""The shape of SmolLM2-135M, as a configuration of a Llama."""

Times = dict[str, dict[str, Any]]


def shuffled(works: dict[str, Callable[[], Any]], rounds: int, seed: int = 0) -> Times:
    """Run each work once to warm up, then all in every round, in an order drawn anew: spreads of their times."""
    for work in works.values():
        work()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    drawn = random.Random(seed)
    for _ in range(rounds):
        for name in drawn.sample(list(works), len(works)):
            # What is named here would live through the next work.
            taken[name].append(timed(works[name])[0])
    return {
        name: {unit: spread([one[unit] for one in each]) for unit in ("cpu", "wall")} for name, each in taken.items()
    }
