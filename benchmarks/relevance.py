"""What relevance costs beside a plain gradient and a plain forward pass; and beside LXT.

python benchmarks/relevance.py                                # all of it, on this machine's processor
python benchmarks/relevance.py --sections cost --networks bert --composites attnlrp --rounds 3
python benchmarks/relevance.py --composites                   # the plain gradient alone
python benchmarks/relevance.py --sections llama --peers PATH  # beside LXT; peers_relevance.py says how PATH is made
python benchmarks/relevance.py --device cuda                  # a table of its own

Writes results/relevance.json (a part that was measured takes the place of what stood there) and
docs/benchmarks-relevance.md; ``--dry`` prints alone.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import ratio
from relevance_measure import THREADS, Times, shuffled

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "relevance.json"
PAGE = HERE.parent / "docs" / "benchmarks-relevance.md"
NETWORKS = ["bert", "vit", "resnet", "smollm2"]
COMPOSITES = [
    "gradient", "input-x-gradient", "attnlrp", "cp-lrp", "lrp-epsilon", "reslrp", "decompx",
    "lrp-gamma", "alpha-beta", "zplus", "backtrace", "backtrace-contrast",
]  # fmt: skip
GROWING = ["attnlrp", "cp-lrp", "lrp-epsilon", "reslrp", "backtrace"]
LENGTHS = [128, 256, 512, 1024]
# Without it the C library keeps large blocks for later, and a peak would hide in what an earlier one left.
FRESH = {"MALLOC_MMAP_THRESHOLD_": "131072"}


def cost(chosen: argparse.Namespace) -> dict[str, Any]:
    """CPU time of each composite on each network."""
    found = {}
    for network in chosen.networks:
        works = [f"{composite}{kept}" for composite in chosen.composites for kept in chosen.kept]
        found[network] = beside_forward(network, works, chosen)
        show(network, found[network])
    return found


def beside_forward(
    network: str, names: list[str], chosen: argparse.Namespace, length: int | None = None
) -> dict[str, Any]:
    """Times of works by turns with the plain passes, as ratios round by round; what was refused, with the reason."""
    import pellucid
    from relevance_networks import PLAIN, subject

    asked = subject(network, chosen.device, length)
    works, refused = {name: asked.work(name) for name in PLAIN}, {}
    for name in names:
        try:
            asked.work(name)()
            works[name] = asked.work(name)
        except pellucid.PellucidError as error:
            refused[name] = str(error)
    if chosen.device == "cuda":
        works = {name: synchronised(work) for name, work in works.items()}
    unit = "wall" if chosen.device == "cuda" else "cpu"
    return compared(shuffled(works, chosen.rounds), unit) | {"refused": refused, "rounds": chosen.rounds}


def synchronised(work: Callable[[], Any]) -> Callable[[], None]:
    """The work and the wait for its end: a GPU works on after the call."""
    import torch

    def waited() -> None:
        work()
        torch.cuda.synchronize()

    return waited


def compared(times: Times, unit: str) -> dict[str, Any]:
    """Seconds of each work, and how many forward passes and gradients they are."""
    return {
        "works": {
            name: {
                "seconds": times[name][unit],
                "forwards": ratio(times[name], times["forward"], unit),
                "gradients": ratio(times[name], times["plain gradient"], unit),
            }
            for name in times
        }
    }


def memory(chosen: argparse.Namespace) -> dict[str, Any]:
    """Peak memory above the model in a process of its own, in bytes; and in gradients."""
    found: dict[str, Any] = {}
    for network in chosen.networks:
        works = ["forward", "plain gradient"]
        works += [f"{composite}{kept}" for composite in chosen.composites for kept in chosen.kept]
        above = {name: above_bytes(network, name, chosen.device) for name in works}
        found[network] = {"above_bytes": above}
        print(network, json.dumps(found[network], indent=1), flush=True)
    return found


def above_bytes(network: str, work: str, device: str) -> int | None:
    """None where the work is refused."""
    command = [sys.executable, str(HERE / "relevance_memory.py"), network, work, device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | FRESH, check=True)
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return told.get("above_bytes")


def growth(chosen: argparse.Namespace) -> dict[str, Any]:
    """The same composites on longer and longer texts."""
    composites = [name for name in chosen.composites if name in GROWING]
    found = {}
    for length in chosen.lengths:
        found[str(length)] = beside_forward("smollm2", composites, chosen, length)
        show(f"{length} tokens", found[str(length)])
    return found


def llama(chosen: argparse.Namespace) -> dict[str, Any]:
    """AttnLRP beside LXT's, each beside the plain passes of its own transformers, in processes of their own."""
    ours = beside_forward("llama", ["attnlrp"], chosen)
    show("llama", ours)
    found = {"ours": ours}
    if chosen.peers:
        script = HERE / "peers_relevance.py"
        command = [chosen.peers, str(script), "llama", "--tokens", "512", "--rounds", str(chosen.rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])
        found["lxt"] = compared(told["times"], "cpu") | {"versions": told["versions"]}
        show("LXT", found["lxt"])
    return found


SECTIONS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "cost": cost,
    "memory": memory,
    "growth": growth,
    "llama": llama,
}


def show(title: str, part: dict[str, Any]) -> None:
    """A few lines while the rest is still being measured."""
    print(title)
    for name, work in part["works"].items():
        seconds, forwards, gradients = (work[unit]["median"] for unit in ("seconds", "forwards", "gradients"))
        print(f"  {name:30} {seconds:8.3f} s {forwards:6.2f} forwards {gradients:6.2f} gradients", flush=True)
    for name, reason in part.get("refused", {}).items():
        print(f"  {name:30} refused: {reason}", flush=True)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old results with the new in their place, work by work."""
    both = dict(old)
    for key, value in new.items():
        inner = isinstance(value, dict) and isinstance(old.get(key), dict) and "median" not in value
        both[key] = merged(old[key], value) if inner else value
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--composites", nargs="*", choices=COMPOSITES, default=COMPOSITES, metavar="NAME")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, metavar="TOKENS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--light", dest="kept", action="store_const", const=("",), default=("", ', keep="*"'), help="no keep='*' beside"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of the environment that has LXT")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    chosen = parser.parse_args()
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    for name in chosen.sections:
        print(f"{name} ...", flush=True)
        now = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "load": round(os.getloadavg()[1], 1)}
        part = {"measured": now, "results": SECTIONS[name](chosen)}
        found = merged(found, {chosen.device: {"machine": machine(), "sections": {name: part}}})
        if not chosen.dry:
            write(found)


def machine() -> dict[str, Any]:
    from pellucid.audit.hardware import read_machine

    return read_machine().model_dump(mode="json")


def write(found: dict[str, Any]) -> None:
    from relevance_page import page

    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
