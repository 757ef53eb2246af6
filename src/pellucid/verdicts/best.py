"""``method="best"``: the newest benchmark of the nearest task decides, or a trial where there is none."""

import math
from collections.abc import Sequence

import numpy as np

from pellucid.errors import InputError, PellucidError
from pellucid.games import Question
from pellucid.methods import AbstractMethod, make_method
from pellucid.records import Candidate, Check, Selection
from pellucid.verdicts.calibration import BUDGET, calibrate
from pellucid.verdicts.verdict import Verdict, kept

BEST = "best"
"""The name under which a method is asked for that nobody names."""
TOLD_APART = 0.05
"""Largest p-value at which a method counts as worse than the best."""


def best_method(questions: Sequence[Question], budget: int = BUDGET) -> tuple[AbstractMethod, Selection]:
    """The method to explain these inputs of one model by, and why.

    Of the benchmarks of this very model whose features are of the same kind, the one of the same kind of target and of
    the most similar number of features decides, the newest of several; the first method of its ranking that runs on
    the first input is taken. Where there is none, ``calibrate`` tries methods on the inputs within ``budget`` rows.
    Raises InputError for a budget below 1, and PellucidError where no method can be run.
    """
    if budget < 1:
        raise InputError(f"the budget of a trial is {budget} rows; it must be at least 1.")
    first = questions[0]
    players = float(np.median([len(each.features) for each in questions]))
    known = [each for each in kept(first.model.fingerprint().weights) if each.features.partition(":")[0] == first.unit]
    target = type(first.target.target).__name__
    # Stable: of equally near ones the newest, which comes first, stays first.
    known.sort(key=lambda each: (each.target != target, round(abs(math.log(each.players / players)), 1)))
    return _by_verdict(known[0], first) if known else calibrate(questions, budget)


def _by_verdict(verdict: Verdict, question: Question) -> tuple[AbstractMethod, Selection]:
    rejected: list[Candidate] = []
    for place, entry in enumerate(verdict.entries):
        try:
            method = make_method(entry.method, **entry.settings)
            method.attribute(question)
        except PellucidError as error:
            reason = f"it does not run here: {' '.join(str(error).split())}"
            rejected.append(Candidate(method=entry.method, score=entry.score, reason=reason))
            continue
        best, *others = (
            Candidate(
                method=each.method,
                score=each.score,
                low=each.low,
                high=each.high,
                rows=each.rows,
                reason="" if each is entry else _reason(each.p_value),
            )
            for each in verdict.entries[place:]
        )
        return method, Selection(
            source="benchmark",
            detail=f"Benchmark of the task {verdict.task!r} on {verdict.inputs} inputs, {verdict.date}, "
            f"{verdict.folder}.",
            metric=verdict.metric,
            inputs=verdict.inputs,
            enough=verdict.enough,
            candidates=(best, *others, *rejected),
        )
    raise InputError(
        f"no method of the benchmark of {verdict.task!r} runs on this input ({rejected[0].method}: "
        f"{rejected[0].reason}); name a method."
    )


def _reason(p_value: float | None) -> str:
    if p_value is None or p_value > TOLD_APART:
        said = "" if p_value is None else f" (p = {p_value:.2g})"
        return f"a lower mean, though it cannot be told apart from the best{said}"
    return f"worse than the best (p = {p_value:.2g})"


def selection_check(selection: Selection) -> Check:
    """The choice as a piece of evidence that informs."""
    best, *others = selection.candidates
    beside = f", before {others[0].method} with {others[0].score:.2f}" if others and others[0].score is not None else ""
    score = "" if best.score is None else f" with {best.score:.2f} (0 is chance, 1 the reference{beside})"
    claim = "" if selection.enough else " That is not enough for a claim."
    return Check(
        name="selection",
        value=best.score,
        threshold=None,
        passed=None,
        decisive=False,
        detail=f"{best.method} was chosen by {selection.metric}{score}. {selection.detail}{claim}",
    )
