"""A benchmark run: who takes part, settings tuned, metrics past the gate, cases examined until the budget ends."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pellucid.benchmark.budget import Budget, Purse, in_words
from pellucid.benchmark.entrants import choose
from pellucid.benchmark.examining import REFERENCE, Examiner
from pellucid.benchmark.gate import by_cluster, findings, on_the_task, promises_kept
from pellucid.benchmark.panel import Given, panel
from pellucid.benchmark.peers import warm_up
from pellucid.benchmark.preparing import Say, Settings, beforehand, first_question, identity, tuned
from pellucid.benchmark.remembering import verdict_of
from pellucid.benchmark.store import Rows, Store, empty_rows
from pellucid.benchmark.tasks.task import Case, Task
from pellucid.errors import InputError
from pellucid.metrics import AbstractMetric
from pellucid.metrics.statistics import ENOUGH
from pellucid.models import ImageClassifier
from pellucid.progress import hidden, progress
from pellucid.verdicts import keep

IDENTITY = ("task", "weights", "data", "selection", "features", "imputers", "seeds", "target", "pellucid")
"""What must be the same for a run to go on in a folder."""
SHARD_CASES, SHARD_SECONDS = 10, 30.0
"""A shard is written after so many cases or seconds, whichever comes first."""
CURVE_ROWS = (32, 64, 256)
"""Budgets that the methods that draw have for the curves, beside that of the run, in coalitions."""


class Outcome(NamedTuple):
    """What a run has done."""

    folder: Path
    """Where the results lie."""
    done: int
    """Inputs that have results, those of earlier sessions included."""
    clusters: int
    """Independent groups of them."""
    new: int
    """Inputs of this session."""
    left: int
    """Inputs of this session's part that its budget did not reach."""
    of: int
    """Inputs of the task."""
    rows: int
    """Rows of the network that this session spent."""
    seconds: float
    """How long it took."""

    @property
    def sentence(self) -> str:
        """What a person wants to know."""
        end = " The budget is spent; the same command goes on." if self.left else ""
        claim = "" if self.clusters >= ENOUGH else f" That is not enough for a claim: {ENOUGH} independent inputs are."
        return f"{self.done} of {self.of} inputs have results in {str(self.folder)!r}.{claim}{end}"


def run(task: Task, folder: Path, settings: Settings, say: Say = lambda line: None) -> Outcome:
    """Run a benchmark of one task into a folder, or go on with the one that it holds.

    Args:
        task: what is asked.
        folder: where results go.
        settings: who takes part, and what may be spent.
        say: told each step in a sentence.

    Raises:
        InputError: names that do not exist, a folder that holds another run, an input that does not fit the task.
        RecordError: a folder of another version, or one that is broken.
    """
    purse = Purse(settings.budget)
    model = task.load()
    cases = list(task.cases("test"))[: settings.cases]
    if not cases:
        raise InputError(f"the task {task.name!r} has no inputs.")
    chosen = choose(settings.methods, model.modality, model.differentiable)
    given = Given(_any(cases, "rationale"), _any(cases, "label"), isinstance(model, ImageClassifier))
    judges = panel(settings.metrics, settings.steps, given)
    if any(each.name.startswith("shap:") for each in chosen.entrants):
        # What a library compiles at its first call is nobody's price.
        warm_up()
    seeds = tuple(range(settings.seeds))
    examiner = Examiner(task, model, chosen.entrants, judges.metrics, seeds, settings.rows, CURVE_ROWS)
    store = Store(folder)
    first = first_question(examiner, cases)
    manifest = identity(examiner, cases, settings, first) | {"absent": [*chosen.absent, *judges.absent]}
    known = store.begin(manifest, IDENTITY)
    say(beforehand(examiner, first))
    examiner = tuned(examiner, cases, first, settings, store, known, say)
    return _examined(examiner, cases, settings, store, purse, say)


def _any(cases: Sequence[Case], name: str) -> bool:
    return any(getattr(case, name) is not None for case in cases)


def _examined(
    examiner: Examiner, cases: Sequence[Case], settings: Settings, store: Store, purse: Purse, say: Say
) -> Outcome:
    done = store.done()
    part, parts = settings.shard
    todo = [(number, case) for number, case in enumerate(cases) if number % parts == part and case.id not in done]
    meter, shard = examiner.model.meter, _Shard(store)
    new, begun = 0, purse.seconds
    try:
        with progress("Benchmarking", len(todo)) as advance, hidden():
            for number, case in todo:
                # The first input is always examined: it tells what one costs.
                if new and purse.is_empty:
                    break
                before = meter.rows
                shard.add(number, examiner.examine(case, number, with_curve=0 < number <= settings.curves))
                new += 1
                purse.rows += meter.rows - before
                if new == 1:
                    say(_estimate(purse.seconds - begun, purse.rows, settings.budget, len(todo)))
                advance(1)
    finally:
        # What is computed is kept, whatever stops the run, and so is what the gate finds on it.
        shard.flush()
        clusters = _close_gate(examiner.metrics, store)
    _remember(store.folder, say)
    return Outcome(
        store.folder, len(store.done()), clusters, new, len(todo) - new, len(cases), purse.rows, purse.seconds
    )


def _remember(folder: Path, say: Say) -> None:
    """Keep what the run says of the model for ``method="best"``."""
    verdict = verdict_of(folder)
    if verdict is None:
        return
    if verdict.obstacle:
        say(f"method='best' takes no account of this run: {verdict.obstacle}.")
        return
    keep(verdict)
    best = verdict.entries[0]
    say(f"method='best' may take {best.method} for inputs like these ({best.score:.2f} by {verdict.metric}).")


def _estimate(seconds: float, rows: int, budget: Budget, todo: int) -> str:
    """How far the budget will reach, by the first input."""
    within = budget.covers(seconds, rows)
    first = f"The first input took {rows:,} rows and {in_words(seconds)}"
    if within >= todo:
        return f"{first}: all {todo} inputs, about {in_words(seconds * todo)} in all."
    enough = min(ENOUGH, todo)
    whole = f"{enough} would take {in_words(seconds * enough)}"
    return f"{first}: about {max(1, int(within))} of {todo} inputs in this budget; {whole}."


class _Shard:
    """Results that are not written yet."""

    def __init__(self, store: Store) -> None:
        self._store, self._rows, self._numbers = store, empty_rows(), list[int]()
        self._begun = time.monotonic()

    def add(self, number: int, rows: Rows) -> None:
        """Take the results of one case, and write where there are enough."""
        for table, found in rows.items():
            self._rows[table] += found
        self._numbers.append(number)
        if len(self._numbers) >= SHARD_CASES or time.monotonic() - self._begun > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what there is."""
        if self._numbers:
            self._store.write(f"{self._numbers[0]:06d}-{self._numbers[-1]:06d}", self._rows)
        self._rows, self._numbers, self._begun = empty_rows(), [], time.monotonic()


def _close_gate(metrics: Sequence[AbstractMetric], store: Store) -> int:
    """Write what the gate found, on the known truth and on the task's own reference rows; returns the clusters."""
    manifest = store.read()
    references: dict[str, list[tuple[str, str, float | None]]] = {}
    for name, kind, entrant, cluster, score in sorted(
        store.columns("scores", "metric", "kind", "entrant", "cluster", "score"), key=lambda row: row[:4]
    ):
        # Metrics that run methods again have no reference rows.
        known = references.setdefault(name, [])
        if kind == REFERENCE:
            known.append((entrant, cluster, score))
    by_name = {each.facts.name: each for each in metrics}
    gate = []
    for name, rows in references.items():
        metric = by_name[name.partition(" ")[0]]
        found = [*promises_kept(metric), *on_the_task(metric, by_cluster(rows))]
        gate.append({"name": name, "findings": findings(found)})
    # A metric that has no score yet keeps what the known truth says.
    gate += [each for each in manifest["gate"] if each["name"] in by_name]
    store.write_manifest(manifest | {"gate": gate})
    return len(set(store.columns("cases", "cluster")))
