"""One case of a task from the input to rows of results."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.benchmark.attributing import Field, attribute_all
from pellucid.benchmark.entrants import Entrant
from pellucid.benchmark.judging import Verdict, judge
from pellucid.benchmark.references import references
from pellucid.benchmark.store import Rows, empty_rows
from pellucid.benchmark.tasks.task import Case, Task
from pellucid.errors import InputError, PellucidError
from pellucid.games import Question, ask
from pellucid.methods.budgets import default_rows
from pellucid.metrics import AbstractMetric
from pellucid.models import AbstractClassifier, Prompt

REFERENCE = "reference"
TEXT_LIMIT = 500
"""Characters of an input that are kept to be shown."""


class Examiner(NamedTuple):
    """Everything that is the same for every case of a run."""

    task: Task
    """What is asked."""
    model: Any
    """The loaded model."""
    entrants: Sequence[Entrant]
    """Who answers."""
    metrics: Sequence[AbstractMetric]
    """Who judges; the first one judges the curves."""
    seeds: Sequence[int]
    """Seeds of the methods that draw."""
    rows: int | None
    """What they may spend on an input; None: by its number of features."""
    curve: Sequence[int] = ()
    """Further budgets that they are run with, for the curves of quality against rows, in coalitions."""

    def question(self, case: Case, number: int) -> Question:
        """The case as a question; ``number`` is its place in the task, and its seed. Raises InputError."""
        target = case.target or self.task.target
        question = ask(
            self.model,
            case.raw,
            target=target,
            features=self.task.features,
            imputer=self.task.imputers[0],
            background=self.task.background,
            seed=number,
        )
        if case.rationale is not None and len(case.rationale) != len(question.features):
            raise InputError(
                f"case {case.id!r} of {self.task.name!r} has a rationale of {len(case.rationale)} marks for "
                f"{len(question.features)} features."
            )
        return question

    def budget(self, question: Question) -> int:
        """What a method that draws may spend on this input."""
        draws = question.game.imputer.draws
        return default_rows(len(question.features), draws) if self.rows is None else self.rows

    def examine(self, case: Case, number: int, *, with_curve: bool = False) -> Rows:
        """Attribute and judge one case. What fails is among the rows, never left out."""
        rows = empty_rows()
        try:
            question = self.question(case, number)
            field = attribute_all(question, self.entrants, self.seeds, self.budget(question))
        except PellucidError as error:
            rows["failures"] += [
                {"case": case.id, **_who(each, 0), "metric": "", **_said(error)} for each in self.entrants
            ]
            rows["cases"].append(self._case(case, None))
            return rows
        self._attributions(rows, case, field)
        self._judge(rows, case, question, field)
        if with_curve:
            self._curve(rows, case, question)
        rows["cases"].append(self._case(case, question))
        return rows

    def _attributions(self, rows: Rows, case: Case, field: Field) -> None:
        for each in field.attributed:
            who = {"case": case.id, **_who(each.entrant, each.seed)}
            if each.attribution is None or each.price is None:
                assert each.error is not None
                rows["failures"].append({**who, "metric": "", **_said(each.error)})
                continue
            error = each.attribution.standard_error
            rows["costs"].append({**who, **each.price._asdict()})
            rows["attributions"].append(
                {
                    **who,
                    "values": each.attribution.values.sum(0).tolist(),
                    "standard_error": None if error is None else np.sqrt((error**2).sum(0)).tolist(),
                }
            )

    def _judge(self, rows: Rows, case: Case, question: Question, field: Field) -> None:
        known = references(field.oracle, question.seed)
        who = [{"entrant": each.name, "kind": REFERENCE, "seed": each.seed} for each in known]
        values = [each.values for each in known]
        rows["attributions"] += [
            {"case": case.id, **one, "values": found.tolist()} for one, found in zip(who, values, strict=True)
        ]
        methods = {}
        for each in field.attributed:
            if each.attribution is not None and each.method is not None:
                methods[len(who)] = each.method
                who.append(_who(each.entrant, each.seed))
                values.append(each.attribution.values.sum(0))
        verdicts = judge(
            question,
            dict(enumerate(values)),
            self.metrics,
            methods=methods,
            rationale=None if case.rationale is None else np.array(case.rationale, dtype=bool),
            label=case.label,
            imputers=self.task.imputers[1:],
        )
        for verdict in verdicts:
            self._add(rows, case, who[verdict.of], verdict)

    def _add(self, rows: Rows, case: Case, who: Mapping[str, Any], verdict: Verdict) -> None:
        row = {"case": case.id, **who, "metric": verdict.metric}
        if verdict.refusal is not None:
            rows["failures"].append({**row, **_said(verdict.refusal)})
        else:
            score = None if math.isnan(verdict.score) else verdict.score
            rows["scores"].append({**row, "cluster": case.cluster, "score": score})

    def _curve(self, rows: Rows, case: Case, question: Question) -> None:
        """The first metric's score of the methods that draw, at other numbers of rows."""
        drawing = [each for each in self.entrants if each.budget is not None]
        for most in self.curve:
            budget = most * question.game.imputer.draws
            found = attribute_all(question, drawing, self.seeds[:1], budget).attributed
            known = [each for each in found if each.attribution is not None and each.price is not None]
            values = {place: each.attribution.values.sum(0) for place, each in enumerate(known) if each.attribution}
            for verdict in judge(question, values, self.metrics[:1], methods={}) if values else ():
                each = known[verdict.of]
                if each.price is not None and not math.isnan(verdict.score):
                    row = {"case": case.id, **_who(each.entrant, each.seed), "rows": each.price.rows}
                    rows["curves"].append({**row, "metric": verdict.metric, "score": verdict.score})

    def _case(self, case: Case, question: Question | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "case": case.id,
            "cluster": case.cluster,
            "text": "",
            "label": case.label,
            "rationale": None if case.rationale is None else list(case.rationale),
        }
        if question is None:
            return row
        quotable = self.task.quotable
        return row | {
            "text": described(case.raw, question)[:TEXT_LIMIT] if quotable else "",
            "features": [each.label if quotable else "" for each in question.features],
            "predicted": _predicted(question),
            "players": len(question.features),
            "imputer": question.game.imputer.name,
        }


def described(raw: Any, question: Question) -> str:
    """An input as a line of text."""
    if isinstance(raw, str):
        return " ".join(raw.split())
    if isinstance(raw, Mapping) and isinstance(raw.get("text"), str):
        return " ".join(raw["text"].split())
    if isinstance(raw, Prompt):
        return " ".join(raw.text.split())
    if isinstance(raw, Path):
        return raw.name
    named = [
        f"{each.label}={each.value}" if each.kind in ("field", "column") else each.label for each in question.features
    ]
    return " ".join(named) if question.model.modality in ("text", "tabular") else question.model.modality


def digest(task: Task, cases: Sequence[Case]) -> str:
    """SHA-256 of what is asked: the cases, their inputs, labels, rationales and targets, and the background."""
    found = hashlib.sha256(repr(task.target).encode())
    for case in cases:
        known = [case.id, case.cluster, case.label, case.rationale, repr(case.target)]
        found.update(json.dumps(known).encode())
        found.update(raw_bytes(case.raw))
    for other in task.background:
        found.update(raw_bytes(other))
    return found.hexdigest()


def raw_bytes(raw: Any) -> bytes:
    """An input as bytes that are the same in every process."""
    if isinstance(raw, Path):
        return raw.read_bytes()
    if isinstance(raw, Mapping):
        return b"".join(f"{name}=".encode() + raw_bytes(each) for name, each in raw.items())
    # Pictures and arrays; what they hold, not where they lie.
    return raw.tobytes() if hasattr(raw, "tobytes") else repr(raw).encode()


def _who(entrant: Entrant, seed: int) -> dict[str, Any]:
    return {"entrant": entrant.name, "kind": "peer" if entrant.is_peer else "method", "seed": seed}


def _said(error: Exception) -> dict[str, str]:
    """An error as its class and one line."""
    return {"error": type(error).__name__, "sentence": " ".join(str(error).split())[:1000]}


def _predicted(question: Question) -> str:
    if isinstance(question.model, AbstractClassifier):
        return str(question.model.predicted(question.inputs))
    return question.target.output_names[0]
