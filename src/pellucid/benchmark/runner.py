"""A benchmark run: who takes part, settings tuned, metrics past the gate, cases examined until the budget ends."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pellucid._version import __version__
from pellucid.benchmark.budget import Budget, Purse, in_words
from pellucid.benchmark.entrants import Entrant, choose
from pellucid.benchmark.examining import REFERENCE, Examiner, digest
from pellucid.benchmark.gate import by_cluster, findings, on_the_task, promises_kept
from pellucid.benchmark.panel import Given, panel
from pellucid.benchmark.peers import warm_up
from pellucid.benchmark.query import query
from pellucid.benchmark.references import ENUMERATED, ORACLE_ROWS, RANDOM_SEEDS
from pellucid.benchmark.remembering import verdict_of
from pellucid.benchmark.store import Rows, Store, empty_rows
from pellucid.benchmark.tasks.task import Case, Task
from pellucid.benchmark.tuning import tune
from pellucid.errors import InputError
from pellucid.metrics import AbstractMetric
from pellucid.metrics.statistics import ENOUGH
from pellucid.models import ImageClassifier
from pellucid.progress import hidden, progress
from pellucid.verdicts import keep

IDENTITY = ("task", "weights", "data", "selection", "features", "imputers", "seeds")
"""What must be the same for a run to go on in a folder."""
SHARD_CASES, SHARD_SECONDS = 10, 30.0
"""A shard is written after so many cases or seconds, whichever comes first."""
CURVE_CASES, CURVE_ROWS = 10, (32, 64, 256)
"""Cases on which quality against rows is measured, and the rows beside those of the run."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is asked for."""

    methods: str = "all"
    """Methods, peers, families or groups, with commas between them."""
    metrics: str = "default"
    """Metrics, families or groups."""
    budget: Budget = field(default_factory=Budget)
    """What it may spend in this session."""
    rows: int | None = None
    """Rows that a method that draws may spend on an input; None: 50, and 4 more for each feature."""
    steps: int = 10
    """Points of the removal curves beside their start."""
    seeds: int = 3
    """Seeds of the methods that draw."""
    cases: int | None = None
    """The most inputs; None: all that the task has."""
    tuning: int = 10
    """Inputs of the tuning split on which settings are chosen; 0: every method keeps its own."""
    curves: int = CURVE_CASES
    """Inputs on which quality against rows is measured."""
    shard: tuple[int, int] = (0, 1)
    """Which part of the inputs, of how many: for several processes that write to one folder."""

    @property
    def selection(self) -> dict[str, Any]:
        """What decides the numbers, as it stands in the manifest."""
        named = {"methods": self.methods, "metrics": self.metrics, "rows": self.rows, "tuning": self.tuning}
        return named | {"steps": self.steps, "seeds": self.seeds, "curves": self.curves}


class Outcome(NamedTuple):
    """What a run has done."""

    folder: Path
    """Where the results lie."""
    done: int
    """Inputs that have results, those of earlier sessions included."""
    new: int
    """Inputs of this session."""
    of: int
    """Inputs of the task."""
    rows: int
    """Rows of the network that this session spent."""
    seconds: float
    """How long it took."""

    @property
    def sentence(self) -> str:
        """What a person wants to know."""
        end = "" if self.done == self.of else " The budget is spent; the same command goes on."
        claim = "" if self.done >= ENOUGH else f" That is not enough for a claim: {ENOUGH} independent inputs are."
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
    manifest = _identity(examiner, cases, settings) | {"absent": [*chosen.absent, *judges.absent]}
    known = store.begin(manifest, IDENTITY)
    examiner = _tuned(examiner, settings, store, known, say)
    return _examined(examiner, cases, settings, store, say)


def _any(cases: Sequence[Case], name: str) -> bool:
    return any(getattr(case, name) is not None for case in cases)


def _identity(examiner: Examiner, cases: Sequence[Case], settings: Settings) -> dict[str, Any]:
    """The beginning of a manifest."""
    task, model = examiner.task, examiner.model
    question = examiner.question(cases[0], 0)
    fingerprint = model.fingerprint()
    return {
        "task": task.name,
        "title": task.title,
        "model": fingerprint.model,
        "weights": fingerprint.weights,
        "data": digest(cases),
        "selection": settings.selection,
        "target": f"{type(question.target.target).__name__}, {question.target.unit}",
        "features": task.features,
        "imputers": list(task.imputers),
        "seeds": list(examiner.seeds),
        "cases": len(cases),
        "quotable": task.quotable,
        "source": task.source,
        "licence": task.licence,
        "gate": [],
        "provenance": {
            "pellucid": __version__,
            **fingerprint.versions,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": fingerprint.device,
            "dtype": fingerprint.dtype,
            "threads": str(torch.get_num_threads()),
            "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "oracle": f"all coalitions up to {ENUMERATED:,}, else random orders of {ORACLE_ROWS:,} rows",
            "random rows": str(RANDOM_SEEDS),
            "data": f"{task.source}; {task.licence}",
        },
    }


def _tuned(examiner: Examiner, settings: Settings, store: Store, known: dict[str, Any], say: Say) -> Examiner:
    """The examiner with tuned entrants, and the manifest with them; an earlier session's choice stands."""
    if "entrants" in known:
        chosen = {each["name"]: each for each in known["entrants"]}
        entrants = tuple(
            Entrant(each.kind, each.is_peer, chosen[each.name]["settings"], chosen[each.name]["tuned"])
            for each in examiner.entrants
            if each.name in chosen
        )
        say(f"Going on with what {str(store.folder)!r} holds.")
        return examiner._replace(entrants=entrants)
    say(f"Trying {len(examiner.metrics)} metrics where the truth is known.")
    question = examiner.question(examiner.task.cases("test")[0], 0)
    known["gate"] = [
        {"name": metric.named(question), "metric": metric.facts.name, "findings": findings(promises_kept(metric))}
        for metric in examiner.metrics
    ]
    cases = list(examiner.task.cases("tuning"))[: settings.tuning]
    trials: list[Any] = []
    if cases:
        say(f"Tuning settings on {len(cases)} inputs that are not scored.")
        with progress("Tuning", len(cases)) as advance, hidden():
            entrants, tried = tune(examiner, cases, advance)
        examiner, trials = examiner._replace(entrants=entrants), [each._asdict() for each in tried]
    known |= {
        "entrants": [_described(each, examiner) for each in examiner.entrants],
        "metrics": [
            {
                "metric": each.facts.name,
                "settings": each.model_dump(mode="json", exclude_defaults=True),
                "facts": each.facts.to_dict(),
            }
            for each in examiner.metrics
        ],
        "tuning": trials,
        "tuning_cases": len(cases),
    }
    store.write_manifest(known)
    return examiner


def _described(entrant: Entrant, examiner: Examiner) -> dict[str, Any]:
    facts = entrant.facts
    library = entrant.name.partition(":")[0] if entrant.is_peer else "pellucid"
    return {
        "name": entrant.name,
        "kind": "peer" if entrant.is_peer else "method",
        "family": facts.family,
        "origin": library,
        "title": facts.title,
        "source": facts.source,
        "notice": facts.notice,
        "settings": dict(entrant.settings),
        "tuned": entrant.tuned,
        "sampled": facts.sampled,
        "baseline": examiner.task.imputers[0] if facts.family == "perturbation" else "",
    }


def _examined(examiner: Examiner, cases: Sequence[Case], settings: Settings, store: Store, say: Say) -> Outcome:
    done = store.done()
    part, parts = settings.shard
    todo = [(number, case) for number, case in enumerate(cases) if number % parts == part and case.id not in done]
    purse, meter, shard = Purse(settings.budget), examiner.model.meter, _Shard(store)
    begun, new = meter.rows, 0
    try:
        with progress("Benchmarking", len(todo)) as advance, hidden():
            for number, case in todo:
                # The first input is always examined: it tells what one costs.
                if new and purse.is_empty:
                    break
                shard.add(number, examiner.examine(case, number, with_curve=0 < number <= settings.curves))
                new += 1
                purse.rows = meter.rows - begun
                if new == 1:
                    say(_estimate(purse, settings.budget, len(todo)))
                advance(1)
    finally:
        # What is computed is kept, whatever stops the run.
        shard.flush()
    _close_gate(examiner.metrics, store)
    _remember(store.folder, say)
    return Outcome(store.folder, len(store.done()), new, len(cases), purse.rows, purse.seconds)


def _remember(folder: Path, say: Say) -> None:
    """Keep what the run says of the model for ``method="best"``."""
    verdict = verdict_of(folder)
    if verdict is not None:
        keep(verdict)
        best = verdict.entries[0]
        say(f"method='best' will take {best.method} for inputs like these ({best.score:.2f} by {verdict.metric}).")


def _estimate(purse: Purse, budget: Budget, todo: int) -> str:
    seconds, rows = purse.seconds, purse.rows
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


def _close_gate(metrics: Sequence[AbstractMetric], store: Store) -> None:
    """Write what the gate found, on the known truth and on the task's own reference rows."""
    manifest = store.read()
    references: dict[str, list[tuple[str, str, float | None]]] = {}
    for name, kind, entrant, cluster, score in query(
        store.folder, "SELECT metric, kind, entrant, cluster, score FROM scores ORDER BY ALL"
    ).rows:
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
    store.write_manifest(manifest | {"gate": gate})
