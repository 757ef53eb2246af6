"""What comes before the first input of a run: the question, the manifest, the gate, and settings that are tuned."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pellucid._version import __version__
from pellucid.benchmark.budget import Budget
from pellucid.benchmark.entrants import Entrant
from pellucid.benchmark.examining import Examiner, digest, raw_bytes
from pellucid.benchmark.gate import findings, promises_kept
from pellucid.benchmark.references import ENUMERATED, ORACLE_ROWS, RANDOM_SEEDS
from pellucid.benchmark.store import Store
from pellucid.benchmark.tasks.task import Case
from pellucid.benchmark.tuning import tune
from pellucid.errors import InputError, PellucidError
from pellucid.games import Question
from pellucid.progress import hidden, progress

CURVE_CASES = 10
"""Cases on which quality against rows is measured, by default."""
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


def first_question(examiner: Examiner, cases: Sequence[Case]) -> Question:
    """The first case that can be asked; others fail as cases. Raises what the first one raises where none can."""
    failed: PellucidError | None = None
    for number, case in enumerate(cases):
        try:
            return examiner.question(case, number)
        except PellucidError as error:
            failed = failed or type(error)(f"case {case.id!r}: {error}")
    assert failed is not None
    raise failed


def beforehand(examiner: Examiner, question: Question) -> str:
    """What an input will cost at most, before anything is spent."""
    players, draws, rows = len(question.features), question.game.imputer.draws, 0
    for entrant in examiner.entrants:
        try:
            method = entrant.method(players, examiner.budget(question), draws)
        except PellucidError:
            continue
        seeds = len(examiner.seeds) if entrant.facts.sampled else 1
        rows += seeds * method.rows(players) * (draws if entrant.plays else 1)
    attributions = sum(len(examiner.seeds) if each.facts.sampled else 1 for each in examiner.entrants)
    imputers = len(examiner.task.imputers)
    judged = sum(each.rows(players) * (imputers if "game" in each.facts.needs else 1) for each in examiner.metrics)
    most = rows + attributions * judged * draws
    return (
        f"{len(examiner.entrants)} methods and {len(examiner.metrics)} metrics ask for at most {most:,} rows of an "
        f"input with {players} features, before what they share."
    )


def identity(examiner: Examiner, cases: Sequence[Case], settings: Settings, question: Question) -> dict[str, Any]:
    """The beginning of a manifest."""
    task, model = examiner.task, examiner.model
    fingerprint = model.fingerprint()
    return {
        "task": task.name,
        "title": task.title,
        "model": fingerprint.model,
        "weights": fingerprint.weights,
        "data": digest(task, cases),
        "pellucid": __version__,
        "budget": settings.budget.sentence,
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


def tuned(
    examiner: Examiner,
    scored: Sequence[Case],
    question: Question,
    settings: Settings,
    store: Store,
    known: dict[str, Any],
    say: Say,
) -> Examiner:
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
    # By their short names: the whole ones follow with what the task's own inputs say.
    known["gate"] = [
        {"name": metric.facts.name, "findings": findings(promises_kept(metric))} for metric in examiner.metrics
    ]
    cases = _apart(list(examiner.task.cases("tuning"))[: settings.tuning], scored)
    trials: list[Any] = []
    if cases and examiner.metrics[0].facts.higher_is_better is not None:
        say(f"Tuning settings on {len(cases)} inputs that are not scored.")
        with progress("Tuning", len(cases)) as advance, hidden():
            entrants, tried = tune(examiner, cases, advance)
        examiner, trials = examiner._replace(entrants=entrants), [each._asdict() for each in tried]
    known |= {
        "entrants": [_described(each, question) for each in examiner.entrants],
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


def _apart(cases: Sequence[Case], scored: Sequence[Case]) -> Sequence[Case]:
    """The tuning inputs. Raises InputError where one of them is scored too."""
    known = {raw_bytes(case.raw): case.id for case in scored}
    for case in cases:
        if raw_bytes(case.raw) in known:
            raise InputError(
                f"the tuning input {case.id!r} is the same as {known[raw_bytes(case.raw)]!r}, which is scored; give "
                "others, or tune nothing with --tune 0."
            )
    return cases


def _baseline(entrant: Entrant, question: Question) -> str:
    """What stands for an absent feature where the entrant looks; empty where nothing does, or nobody can say."""
    if entrant.plays:
        return question.game.imputer.name
    if "baseline" not in entrant.kind.model_fields:
        return ""
    chosen = entrant.settings.get("baseline", entrant.kind.model_fields["baseline"].default)
    return str(chosen or question.model.preferred_baseline())


def _described(entrant: Entrant, question: Question) -> dict[str, Any]:
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
        "baseline": _baseline(entrant, question),
    }
