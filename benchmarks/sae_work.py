"""What is measured of training steps: times by turns with their losses, and memory in a fresh process."""

import gc
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import spread, timed
from sae_peers import LOOKS_LIKE, PEERS, Case, Step, data, floor, ours, weights

WIDTHS = (4608, 16384)
STEPS = 10
MEMORY_STEPS = 2


def makers(case: Case, present: list[str]) -> dict[str, Any]:
    """Everything that trains this case, by name; ``ours`` once in the manner of each peer."""
    peers = [name for name in present if case.architecture == "topk" or name != "sparsify"]
    found: dict[str, Any] = {"floor": floor} | {name: PEERS[name] for name in peers}
    for name in peers or LOOKS_LIKE[:1]:
        found[f"ours like {name}"] = lambda case, state, name=name: ours(case, state, name)
    for name in [each for each in peers if each in LOOKS_LIKE] or LOOKS_LIKE[:1]:
        found[f"ours like {name}, bfloat16"] = lambda case, state, name=name: ours(case, state, name, "bfloat16")
    return found


def steps(case: Case, present: list[str], count: int, seed: int = 0) -> dict[str, Any]:
    """``count`` steps of each, one a round in an order drawn anew: times of all but the first, and every loss."""
    batches = data(case, count)
    state = weights(case, batches[0])
    works: dict[str, Step] = {name: make(case, state) for name, make in makers(case, present).items()}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    losses: dict[str, list[float]] = {name: [] for name in works if name != "floor"}
    drawn = random.Random(seed)
    for number, x in enumerate(batches):
        for name in drawn.sample(list(works), len(works)):
            gc.collect()
            time, loss = timed(lambda step=works[name], x=x: step(x))
            if number or count == 1:
                taken[name].append(time)
            if name in losses:
                losses[name].append(loss)
    times = {
        name: {unit: spread([one[unit] for one in each]) for unit in ("cpu", "wall")} for name, each in taken.items()
    }
    return {"times": times, "losses": losses}


def memory(name: str, case: Case) -> dict[str, int]:
    """Peak resident memory of a few steps above weights and Adam's moments, in a fresh process."""
    asked = json.dumps([name, case.architecture, case.width, case.d_in, case.batch, case.k])
    command = [sys.executable, str(Path(__file__)), asked]
    # Whatever is freed goes back at once, so that what is resident is what is in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def memory_here(name: str, case: Case) -> dict[str, int]:
    """The same in this process, by the kernel's own high-water mark."""
    batches = data(case, MEMORY_STEPS)
    state = weights(case, batches[0])
    tiny = Case(case.architecture, 64, d_in=16, batch=8, k=2)
    make = makers(case, [each for each in PEERS if each in name])[name]
    # What a first step loads is no memory of a step.
    make(tiny, weights(tiny, data(tiny, 1)[0]))(data(tiny, 1)[0])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    step = make(case, state)
    for x in batches:
        step(x)
    numbers = 2 * case.width * case.d_in + case.width + case.d_in
    kept, dense = 3 * 4 * numbers, 4 * case.batch * case.width
    return {"above_bytes": resident("VmHWM") - before - kept, "kept_bytes": kept, "dense_bytes": dense}


def resident(name: str) -> int:
    """Resident memory now (VmRSS), or the most since it was last cleared (VmHWM), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    who, architecture, width, d_in, batch, k = json.loads(sys.argv[1])
    print(json.dumps(memory_here(who, Case(architecture, width, d_in, batch, k))))
