"""The tables of the paper of DLBacktrace on our data, with intervals, and what it printed beside them.

python benchmarks/paper_tables.py                      # writes results/paper_tables.json and docs/benchmarks-papers.md
python benchmarks/paper_tables.py --only sst2          # one task; the others keep what is written of them
python benchmarks/paper_tables.py --quick              # a few inputs of each task; nothing is written
python benchmarks/paper_tables.py --page               # writes the page anew from the results

The inputs are those of the benchmark's tasks; ``backtrace`` is the closed form of the paper's rule.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "paper_tables.json"
PAGE = HERE.parent / "docs" / "benchmarks-papers.md"
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
INPUTS, QUICK = 100, 3
"""Inputs of each task: as many as a claim needs; a smoke run."""
RANDOM, OWN = "random", "backtrace"
"""Noise of the size of a method's scores, and the method that the paper is about."""


class Column(NamedTuple):
    """One number of a table."""

    name: str
    """What the page calls it."""
    metric: Callable[[], Any]
    """Makes the metric."""
    runs_method: bool = False
    """Whether it explains again, so that noise has no score."""
    factor: float = 1.0
    """What the score is multiplied by to be in the paper's unit."""


class Subject(NamedTuple):
    """One task under one table of the paper."""

    table: str
    """Which of the paper's tables."""
    methods: dict[str, dict[str, Any]]
    """Methods, pellucid's or a peer's, with their settings."""
    columns: Callable[[], list[Column]]
    """What they are judged by."""
    most: int = INPUTS
    """The most inputs."""


def tabular() -> list[Column]:
    from pellucid.metrics import Complexity, Mprt

    return [Column("mprt", Mprt, runs_method=True), Column("complexity", Complexity)]


def images() -> list[Column]:
    from pellucid.metrics import FaithfulnessCorrelation, MaxSensitivity, Morf

    return [
        Column("faithfulness_correlation", FaithfulnessCorrelation),
        Column("max_sensitivity", MaxSensitivity, runs_method=True),
        Column("morf", lambda: Morf(scale="probability")),
    ]


def photographs() -> list[Column]:
    return [column for column in images() if not column.runs_method]


def text() -> list[Column]:
    from pellucid.metrics import Lerf, Morf, Srg

    return [
        Column("morf", lambda: Morf(scale="probability"), factor=100.0),
        Column("lerf", lambda: Lerf(scale="probability"), factor=100.0),
        Column("delta", lambda: Srg(scale="probability"), factor=100.0),
    ]


ROWS: dict[str, dict[str, Any]] = {
    OWN: {},
    "backtrace-contrast": {},
    "kernel_shap": {},
    "shap:kernel": {},
    "lime": {},
    "lime:tabular": {},
    "integrated_gradients": {},
    "lrp-gamma": {},
    "exact_shapley": {},
}
PICTURES: dict[str, dict[str, Any]] = {
    OWN: {},
    "backtrace-contrast": {},
    "grad_cam": {},
    "gradient": {},
    "smoothgrad": {},
    "integrated_gradients": {"steps": 32},
    "lrp-gamma": {},
    "kernel_shap": {},
    "occlusion": {},
}
SENTENCES: dict[str, dict[str, Any]] = {
    OWN: {},
    "backtrace-contrast": {},
    "integrated_gradients": {"steps": 32},
    "smoothgrad": {},
    "rollout": {},
    "grad_cam": {},
    "input_x_gradient": {},
    "attnlrp": {},
    "kernel_shap": {},
    "occlusion": {},
}
SUBJECTS = {
    "wisconsin": Subject("tabular", {name: ROWS[name] for name in ROWS if name != "exact_shapley"}, tabular),
    "gbsg2": Subject("tabular", ROWS, tabular),
    "credit": Subject("tabular", {name: ROWS[name] for name in ROWS if name != "exact_shapley"}, tabular),
    "fashion-cnn": Subject("images", PICTURES, images),
    "imagenet": Subject("images", PICTURES, photographs, most=20),
    "sst2": Subject("text", SENTENCES, text),
}


def made(name: str, settings: dict[str, Any]) -> Any:
    """A method of pellucid, or of a peer where the name has a colon."""
    from pellucid.benchmark.peers import make_peer
    from pellucid.methods import make_method

    return make_peer(name, **settings) if ":" in name else make_method(name, **settings)


def asked(task: Any, model: Any, cases: list[Any]) -> list[Any]:
    """The question of each case: one target, one kind of feature and one imputer for all methods."""
    from pellucid.games import ask

    shared = {"features": task.features, "imputer": task.imputers[0], "background": task.background}
    return [
        ask(model, case.raw, target=case.target or task.target, seed=number, **shared)
        for number, case in enumerate(cases)
    ]


def explained(method: Any, questions: list[Any]) -> list[Any]:
    """Its scores of each question, and the error of the first that it cannot explain."""
    return [method.attribute(question).values.sum(0) for question in questions]


def measured(name: str, count: int) -> dict[str, Any]:
    """All methods of a subject under all of its metrics."""
    import pellucid
    from pellucid.benchmark.tasks import find_task
    from pellucid.errors import PellucidError

    subject, task = SUBJECTS[name], find_task(name)
    cases = list(task.cases("test"))[: min(count, subject.most)]
    model = task.load()
    methods, values, failed, seconds = {}, {}, {}, {}
    for label, settings in subject.methods.items():
        # Questions of its own: a game remembers what another method has asked.
        questions = asked(task, model, cases)
        begun = perf_counter()
        try:
            method = made(label, settings)
            values[label] = explained(method, questions)
        except PellucidError as error:
            failed[label] = str(error)
            continue
        methods[label], seconds[label] = method, (perf_counter() - begun) / len(cases)
        print(f"{name}, {label}: {seconds[label]:.2f} s an input", file=sys.stderr, flush=True)
    noise = pellucid.metrics.references([each.astype(float) for each in next(iter(values.values()))])["random"]
    columns = subject.columns()
    scores = [
        *judged(task, model, cases, [each for each in columns if not each.runs_method], {**values, RANDOM: noise}, {}),
        *judged(task, model, cases, [each for each in columns if each.runs_method], values, methods),
    ]
    order = [each.name for each in columns]
    return {
        "task": task.title,
        "model": task.model,
        "table": subject.table,
        "features": [min(len(each) for each in noise), max(len(each) for each in noise)],
        "imputer": task.imputers[0],
        "inputs": len(cases),
        "clusters": len({case.cluster for case in cases}),
        "columns": sorted(scores, key=lambda each: order.index(each["column"])),
        "seconds": seconds,
        "failed": failed,
    }


def judged(
    task: Any, model: Any, cases: list[Any], columns: list[Column], values: dict[str, Any], methods: dict[str, Any]
) -> list[dict[str, Any]]:
    """Mean and interval of every method in each column, and its paired difference to ``backtrace``."""
    import pellucid

    if not columns:
        return []
    raws, clusters = [case.raw for case in cases], [case.cluster for case in cases]
    shared = {"features": task.features, "imputer": task.imputers[0], "background": task.background}
    metrics, begun = [column.metric() for column in columns], perf_counter()
    scores = pellucid.metrics.evaluate(
        model, raws, values, metrics, target=task.target, methods=methods or None, **shared
    )
    print(f"{', '.join(each.name for each in columns)}: {perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    found = []
    for index, column in enumerate(columns):
        mine = {each.of: each for each in scores[index * len(values) : (index + 1) * len(values)]}
        first = mine[next(iter(values))]
        rows = {name: row(each, mine.get(OWN), clusters, column.factor) for name, each in mine.items()}
        facts = {"metric": first.metric, "higher_is_better": first.facts.higher_is_better}
        found.append({"column": column.name, **facts, "rows": rows})
    return found


def row(scores: Any, own: Any, clusters: list[str], factor: float) -> dict[str, Any]:
    """One method's mean with its interval, every input's score, and how it compares with ``backtrace``."""
    import pellucid

    known = int((~scores.values.isnan()).sum())
    found = {"values": (factor * scores.values).tolist(), "defined": known}
    if known:
        between = scores.interval(clusters)
        found |= {part: factor * getattr(between, part) for part in ("mean", "low", "high")}
    if own is None or own is scores or not known:
        return found
    against = pellucid.metrics.compare(scores, own, clusters)
    difference = {part: factor * getattr(against.difference, part) for part in ("mean", "low", "high")}
    return found | {"difference": difference, "p": against.test.p_value, "wins": against.win_rate}


def keep(name: str, found: dict[str, Any]) -> None:
    """Put what was found in place of what an earlier run found: one that was stopped goes on with ``--only``."""
    from paper_tables_page import page

    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    merged = {each: ({**known, name: found})[each] for each in SUBJECTS if each in {*known, name}}
    RESULTS.write_text(json.dumps(merged, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(merged), "utf-8")


def main() -> None:
    from paper_tables_page import page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few inputs; nothing is written")
    parser.add_argument("--only", choices=SUBJECTS, nargs="+", default=list(SUBJECTS), help="some of the tasks")
    parser.add_argument("--page", action="store_true", help="write the page of the results that are there")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), "utf-8")
        return
    for name in given.only:
        found = measured(name, QUICK if given.quick else INPUTS)
        if given.quick:
            print(page({name: found}))
        else:
            keep(name, found)
        print(f"{name}: done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
