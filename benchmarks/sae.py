"""What one training step of a sparse autoencoder costs beside SAELens, dictionary_learning and sparsify, at equal loss.

python benchmarks/sae.py                      # writes results/sae.json and docs/benchmarks-sae.md
python benchmarks/sae.py --only memory        # one part anew: steps, memory, harvest, page
python benchmarks/sae.py --quick              # two steps of a small case, which writes nothing

The peers are measured where they are installed; docs/benchmarks-sae.md says how to install them beside each other.
Harvesting needs none of them, but a model: run that part where pellucid's models are installed.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "sae.json"
PAGE = HERE.parent / "docs" / "benchmarks-sae.md"
# A thread that waits by spinning would be counted as CPU time.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
PARTS = ("steps", "memory", "harvest")


def measure_steps(found, given):
    from sae_peers import ARCHITECTURES, Case
    from sae_work import STEPS, steps

    part = found.setdefault("steps", {})
    for width in given.widths:
        for architecture in ARCHITECTURES:
            case = Case(architecture, width)
            part[f"{architecture} {width}"] = steps(case, present(found), given.steps or STEPS) | stamp()
            write(found)


def measure_memory(found, given):
    from sae_peers import ARCHITECTURES, Case
    from sae_work import makers, memory

    part = found.setdefault("memory", {})
    for width in given.widths:
        for architecture in ARCHITECTURES:
            case = Case(architecture, width)
            # The manner decides the memory of ours by the decoder alone, and sparsify's is dictionary_learning's.
            names = [name for name in makers(case, present(found)) if name not in ("floor", "ours like sparsify")]
            part[f"{architecture} {width}"] = {name: memory(name, case) for name in names}
            write(found)


def measure_harvest(found, given):
    from sae_harvest import harvest

    found["harvest"] = harvest() | stamp()
    write(found)


def present(found):
    """The peers that can be imported here."""
    return [name for name, version in found["peers"].items() if version is not None]


def stamp():
    return {"date": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[0], 1)}


def machine():
    import torch

    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    bf16 = {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx_tile": torch.cpu._is_amx_tile_supported()}
    return {
        "cpu": cpu, "cores": os.cpu_count(), "bfloat16": bf16, "torch": torch.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def write(found):
    from sae_page import page

    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")


def quick(peers):
    """Two steps of a small case, and their losses."""
    from sae_peers import ARCHITECTURES, Case
    from sae_work import steps

    for architecture in ARCHITECTURES:
        found = steps(Case(architecture, 512, d_in=64, batch=256, k=8), peers, 2)
        for name, losses in found["losses"].items():
            print(f"{architecture:12} {name:40} {' '.join(f'{loss:.5f}' for loss in losses)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two steps of a small case; nothing is written")
    parser.add_argument("--only", choices=(*PARTS, "page"), help="measure one part anew, or write the page anew")
    parser.add_argument("--widths", type=lambda text: [int(each) for each in text.split(",")], help="such as 4608")
    parser.add_argument("--steps", type=int, help="of each, instead of 10")
    given = parser.parse_args()
    from sae_peers import versions
    from sae_work import WIDTHS

    measures_peers = given.only in (None, "steps", "memory")
    peers = versions() if measures_peers or given.quick else {}
    for name in [name for name, version in peers.items() if version is None]:
        print(f"{name} is not installed here and is left out; docs/benchmarks-sae.md says how to install it.")
    if given.quick:
        quick([name for name, version in peers.items() if version is not None])
        return
    given.widths = given.widths or WIDTHS
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    if given.only == "page":
        write(found)
        return
    if measures_peers:
        found |= {"peers": peers, "machine": machine(), "environment": THREADS}
    works = {"steps": measure_steps, "memory": measure_memory, "harvest": measure_harvest}
    for name in [given.only] if given.only else PARTS:
        works[name](found, given)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
