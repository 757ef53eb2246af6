"""Timing side by side, and memory in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any


def timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """What a piece of work took: CPU seconds of all threads and wall seconds; and its result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}, result


def interleaved(works: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, dict], dict[str, Any]]:
    """Run the works in turn, A B A B ...: spreads of their times, and of each work's last result."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    results = {}
    for _ in range(rounds):
        for name, work in works.items():
            time_taken, results[name] = timed(work)
            taken[name].append(time_taken)
    times = {
        name: {unit: spread([one[unit] for one in each]) for unit in ("cpu", "wall")} for name, each in taken.items()
    }
    return times, results


def spread(values: list[float]) -> dict[str, Any]:
    """Median, least and most, and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "values": values}


def scaled(times: dict[str, dict], factor: float) -> dict[str, dict]:
    """Times of a part, for the whole."""
    return {unit: spread([factor * value for value in each["values"]]) for unit, each in times.items()}


def ratio(slow: dict[str, dict], fast: dict[str, dict], unit: str = "cpu") -> dict[str, Any]:
    """How many times as long, round by round."""
    return spread([a / b for a, b in zip(slow[unit]["values"], fast[unit]["values"], strict=True)])


def memory_above(name: str) -> int:
    """Peak resident memory in bytes above the loaded and warmed model, of ``memory.py NAME`` in a fresh process."""
    script = Path(__file__).with_name("memory.py")
    done = subprocess.run([sys.executable, str(script), name], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["above_bytes"])
