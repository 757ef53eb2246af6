"""Speed and memory of attribution beside Captum 0.9, on one clinical prompt of SmolLM2.

python benchmarks/bench_attribution.py                  # all of it; results/attribution.json and docs/benchmarks.md
python benchmarks/bench_attribution.py --only shapley   # one section of it anew
python benchmarks/bench_attribution.py --quick          # a smoke run, which writes nothing
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "attribution.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"
# A thread that waits by spinning would be counted as CPU time.
THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few evaluations, one round; nothing is written")
    parser.add_argument("--only", metavar="NAME", action="append", help="only this section; may be repeated")
    chosen = parser.parse_args()

    from page import page
    from sections import SECTIONS
    from setting import Setting

    unknown = [name for name in chosen.only or [] if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}")
    setting = Setting()
    setting.forward()
    for name in chosen.only or SECTIONS:
        print(f"{name} ...", flush=True)
        result = SECTIONS[name](setting, chosen.quick)
        print(json.dumps(result, indent=1), flush=True)
        if not chosen.quick:
            found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"sections": {}}
            found |= facts(setting)
            now = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "load": round(os.getloadavg()[1], 1)}
            found["sections"][name] = now | result
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            PAGE.write_text(page(found))


def facts(setting) -> dict:
    from importlib.metadata import version

    from pellucid.audit.hardware import read_machine

    machine = read_machine()
    return {
        "machine": machine.model_dump(mode="json") | {"captum": version("captum")},
        "environment": THREADS,
        "setting": {
            "prompt_tokens": len(setting.inputs.row.ids),
            "answer_tokens": len(setting.answer),
            "fields": len(setting.prompt.fields),
        },
    }


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **THREADS})
    main()
