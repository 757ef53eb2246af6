"""``method="best"``: the newest benchmark of the nearest task decides, or a trial where there is none."""

import math
from collections.abc import Sequence

import numpy as np

from pellucid.errors import InputError, PellucidError
from pellucid.games import Question
from pellucid.methods import AbstractMethod, all_methods
from pellucid.methods.budgets import default_rows, within
from pellucid.records import Candidate, Check, Selection
from pellucid.verdicts.calibration import BUDGET, calibrate
from pellucid.verdicts.verdict import Entry, Verdict, kept

BEST = "best"
"""The name under which a method is asked for that nobody names."""


def best_method(questions: Sequence[Question], budget: int = BUDGET) -> tuple[AbstractMethod, Selection]:
    """The method to explain these inputs of one model by, and why.

    Of the benchmarks of this very model whose features are of the same kind, the one of the same kind of target, of the
    same imputer and of the most similar number of features decides, the newest of several; the first method of its
    ranking that runs on the first input is taken, with the sample that it was ranked with. Where there is none,
    ``calibrate`` tries methods on the inputs within ``budget`` rows. Raises InputError for a budget that pays for no
    trial, and PellucidError where no method can be run.
    """
    if budget < 1:
        raise InputError(f"the budget of a trial is {budget} rows; it must be at least 1.")
    first = questions[0]
    players = float(np.median([len(each.features) for each in questions]))
    ours = [each for each in kept(first.model.fingerprint().weights) if each.features.partition(":")[0] == first.unit]
    known = [each for each in ours if not each.obstacle]
    if not known:
        passed = [f"the benchmark of {each.task!r} decides nothing, since {each.obstacle}" for each in ours]
        reason = "; ".join(passed) or "no benchmark of this model and kind of feature is there"
        return calibrate(questions, budget, reason)
    target, imputer = type(first.target.target).__name__, first.game.imputer.name
    # Stable: of equally near ones the newest, which comes first, stays first.
    known.sort(
        key=lambda each: (
            each.target != target,
            each.imputer != imputer,
            round(abs(math.log(each.players / players)), 1),
        )
    )
    return _by_verdict(known[0], first)


def _by_verdict(verdict: Verdict, question: Question) -> tuple[AbstractMethod, Selection]:
    rejected: list[Candidate] = []
    for place, entry in enumerate(verdict.entries):
        try:
            method = _as_ranked(entry, verdict, question)
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
                reason="" if each is entry else _reason(each, is_to_the_first=not place),
            )
            for each in verdict.entries[place:]
        )
        return method, Selection(
            source="benchmark",
            detail=_told(verdict, question),
            metric=verdict.metric,
            inputs=verdict.inputs,
            enough=verdict.enough,
            candidates=(best, *others, *rejected),
        )
    raise InputError(
        f"no method of the benchmark of {verdict.task!r} runs on this input ({rejected[0].method}: "
        f"{rejected[0].reason}); name a method."
    )


def _as_ranked(entry: Entry, verdict: Verdict, question: Question) -> AbstractMethod:
    """The method with the sample that it had in the benchmark."""
    players, draws = len(question.features), question.game.imputer.draws
    rows = default_rows(players, draws) if verdict.rows is None else verdict.rows
    known = all_methods()
    if entry.method not in known:
        raise InputError(f"{entry.method} is not installed here.")
    return within(known[entry.method], entry.settings, players, rows, draws)


def _told(verdict: Verdict, question: Question) -> str:
    imputer = question.game.imputer.name
    other = (
        f" It filled absent features by {verdict.imputer}, here {imputer} does." if imputer != verdict.imputer else ""
    )
    where = f"{verdict.inputs} inputs, {verdict.date}, {verdict.folder}"
    return f"Benchmark of the task {verdict.task!r} on {where}.{other}"


def _reason(entry: Entry, *, is_to_the_first: bool) -> str:
    """Why a method was not taken. Its test is against the first of the ranking alone."""
    if not is_to_the_first or entry.p_value is None:
        return "a lower mean"
    said = f"p = {entry.p_value:.2g}"
    return f"worse than the best ({said})" if entry.is_worse else f"a lower mean, not told apart from the best ({said})"


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
