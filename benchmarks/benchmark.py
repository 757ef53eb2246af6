"""The benchmark on 100 sentences, eight metrics x twelve methods, beside the bare forward passes that it needs.

python benchmarks/benchmark.py              # writes results/benchmark.json and docs/benchmarks-benchmark.md
python benchmarks/benchmark.py --anew       # the same from the start; without it, a run that was stopped goes on
python benchmarks/benchmark.py --quick      # a smoke run of one sentence, which writes nothing
python benchmarks/benchmark.py --profile 3  # where the time of three sentences goes; writes nothing
"""

import argparse
import cProfile
import json
import os
import pstats
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "benchmark.json"
PAGE = HERE.parent / "docs" / "benchmarks-benchmark.md"
# A thread that waits by spinning would be counted as CPU time.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
SENTENCES, TASK_SENTENCES, NAIVE = 100, 10, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="sentences of the aim's setting")
    parser.add_argument("--task", type=int, default=TASK_SENTENCES, help="first of them that are also run as the task")
    parser.add_argument("--naive", type=int, default=NAIVE, help="first of them that are also run one by one")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("--quick", action="store_true", help="one sentence; nothing is written")
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    parser.add_argument("--profile", type=int, metavar="N", help="profile N sentences; nothing is written")
    chosen = parser.parse_args()

    if chosen.page:
        from benchmark_page import page

        PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
        return
    bench = Bench()
    if chosen.profile:
        bench.profile(chosen.profile)
    elif chosen.quick:
        measure(bench, {"sentences": []}, {"aim": 1, "task": 1}, 1, written=False)
    else:
        found = {"sentences": []} if chosen.anew or not RESULTS.is_file() else json.loads(RESULTS.read_text("utf-8"))
        if found["sentences"] and found["setting"] != bench.facts()["setting"]:
            parser.error(f"{RESULTS.name} was measured with other methods, metrics or versions; begin --anew")
        counts = {"aim": chosen.sentences, "task": min(chosen.task, chosen.sentences)}
        measure(bench, found, counts, chosen.naive, written=True)


def measure(bench: "Bench", found: dict[str, Any], counts: dict[str, int], naive: int, *, written: bool) -> None:
    """Measure the sentences that are not among the results yet, and write after each: a run that is stopped goes on."""
    from benchmark_page import page

    found |= bench.facts()
    done = {(each["number"], each["setting"]) for each in found["sentences"]}
    for number, name in bench.order(counts):
        if (number, name) in done:
            continue
        result = bench.sentence(name, number, with_naive=name == "aim" and number < naive)
        found["sentences"].append(result)
        print(line(result), flush=True)
        if written:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
            PAGE.write_text(page(found), "utf-8")
    print(page(found))


def line(result: dict[str, Any]) -> str:
    """One sentence's result, for those who wait."""
    from benchmark_page import ratio

    work = result["times"]["work"]["cpu"]
    slower = "" if result["naive"] is None else f", one by one {result['naive']['cpu'] / work:.2f} times that"
    return (
        f"{result['setting']} {result['number']}: {result['players']} words, {result['rows']['distinct']} rows, "
        f"{work:.2f} CPU s, {ratio([result], 'cpu'):.3f} times the floor{slower}"
    )


class Bench:
    """The benchmark of each setting, warmed up, and the floor's best batch."""

    def __init__(self) -> None:
        import benchmark_work
        from measure import timed

        self.work, self.timed = benchmark_work, timed
        self.examiners = benchmark_work.examiners()
        examiner = self.examiners["aim"]
        self.cases, self.module = examiner.task.cases("test"), examiner.model.module
        warm = min(range(len(self.cases)), key=lambda number: abs(len(self.cases[number].raw) - 10))
        _, passes = self._examined("aim", warm)
        # Twice, for the first round also warms up; the second decides.
        for _ in range(2):
            taken = {budget: self._floor(passes, budget)["tokens"]["cpu"] for budget in benchmark_work.BUDGETS}
        self.budget = min(taken, key=taken.__getitem__)

    def order(self, counts: dict[str, int]) -> list[tuple[int, str]]:
        """What to measure, the settings in turn."""
        most = min(max(counts.values()), len(self.cases))
        return [(number, name) for number in range(most) for name in self.examiners if number < counts[name]]

    def sentence(self, name: str, number: int, *, with_naive: bool) -> dict[str, Any]:
        """Times and rows of one sentence: the work, then the floor that was recorded meanwhile."""
        examiner, case = self.examiners[name], self.cases[number]
        before = examiner.model.meter.snapshot()
        (times, rows), passes = self._examined(name, number)
        spent = examiner.model.meter - before
        if rows["failures"]:
            raise RuntimeError(f"something failed on {case.id}: {rows['failures'][0]}")
        distinct = len(passes.distinct)
        with self.work.references_of(self.work.SETTINGS[name]) as oracle:
            question = examiner.question(case, number)
            asked = self.work.asked(examiner, question, rows, oracle(len(question.features)))
        return {
            "setting": name,
            "number": number,
            "case": case.id,
            "players": len(question.features),
            "load": round(os.getloadavg()[0], 1),
            "times": {"work": times, **self._floor(passes, self.budget)},
            "rows": {
                "asked": asked,
                "computed": spent.rows,
                "distinct": distinct + passes.embedded,
                "embedded": passes.embedded,
                "again": len(passes.rows) - distinct,
                "backwards": sum(call.backwards for call in passes.calls),
            },
            "naive": self._naive(name, number, rows) if with_naive else None,
        }

    def _examined(self, name: str, number: int) -> tuple[Any, Any]:
        examiner, case = self.examiners[name], self.cases[number]
        with self.work.references_of(self.work.SETTINGS[name]), self.work.recorded(examiner.model) as passes:
            return self.timed(lambda: examiner.examine(case, number)), passes

    def _floor(self, passes: Any, budget: int) -> dict[str, dict[str, float]]:
        works = self.work.floor(self.module, passes, budget)
        with self.examiners["aim"].model.evaluating():
            return {name: self.timed(work)[0] for name, work in works.items()}

    def _naive(self, name: str, number: int, rows: Any) -> dict[str, Any]:
        examiner, case = self.examiners[name], self.cases[number]
        before = examiner.model.meter.snapshot()
        with self.work.references_of(self.work.SETTINGS[name]) as oracle:
            times, scores = self.timed(lambda: self.work.naive(examiner, case, number, oracle))
        spent = examiner.model.meter - before
        return {**times, "rows": spent.rows, "difference": self.work.difference(scores, self.work.scores(rows))}

    def facts(self) -> dict[str, Any]:
        """What was measured, and where."""
        import platform

        import torch

        from pellucid.audit.hardware import read_machine

        settings = {name: setting._asdict() for name, setting in self.work.SETTINGS.items()}
        return {
            "setting": {
                "task": self.work.TASK,
                "methods": list(self.work.METHODS),
                "metrics": list(self.work.METRICS),
                "steps": self.work.STEPS,
                "seeds": list(self.work.SEEDS),
                # As they look once they were read.
                "settings": json.loads(json.dumps(settings)),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "environment": THREADS,
            "floor_tokens": self.budget,
            "machine": read_machine().model_dump(mode="json"),
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        }

    def profile(self, count: int) -> None:
        """Print where the time of the main thread goes; the players' own threads are counted by pellucid itself."""
        setting = self.work.SETTINGS["aim"]
        profiler = cProfile.Profile()
        with self.work.references_of(setting), profiler:
            for number in range(count):
                self.examiners["aim"].examine(self.cases[number], number)
        for order, most in (("cumulative", 60), ("tottime", 30)):
            pstats.Stats(profiler).sort_stats(order).print_stats(most)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
