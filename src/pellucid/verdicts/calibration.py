"""A trial of methods on the inputs at hand, by the symmetric relevance gain, within a budget of rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.errors import PellucidError
from pellucid.games import Question
from pellucid.methods import AbstractMethod, PermutationShapley, all_methods, make_method
from pellucid.metrics import Example, Srg
from pellucid.metrics.statistics import bootstrap
from pellucid.metrics.together import judge_together
from pellucid.progress import hidden, progress
from pellucid.records import Candidate, Selection

BUDGET = 4000
"""Rows of the network, by default; a row that is differentiated counts three times."""
DIFFERENTIATED = 3
MOST_INPUTS = 20
"""Inputs that are tried at most."""
INTERVAL_FROM = 8
"""Inputs from which an interval is given."""
METRIC = Srg(steps=10)


class Trial(NamedTuple):
    """What came of one method."""

    method: AbstractMethod
    """The method, with its own settings."""
    scores: list[float]
    """SRG on each input, over that of the reference; empty where it failed."""
    rows: float
    """Rows that it may take for one input, mean."""
    reason: str
    """Why it has no score."""


def calibrate(questions: Sequence[Question], budget: int) -> tuple[AbstractMethod, Selection]:
    """The method with the highest normalised SRG on these inputs, and how all of them did.

    0 is what a random order is expected to get, and 1 what sampled Shapley values get. Cheap methods are tried first;
    those that the budget does not reach are named. Raises PellucidError where no method can be tried.
    """
    asked = list(questions)[:MOST_INPUTS]
    ceilings = [_gain(each, PermutationShapley().attribute(each).values.sum(0)) for each in asked]
    spent, trials = 0.0, list[Trial]()
    order = sorted(_candidates(asked[0]), key=lambda each: _price(each, asked[0]))
    with progress("Trying methods", len(order)) as advance, hidden():
        for method in order:
            price = len(asked) * _price(method, asked[0])
            if trials and spent + price > budget:
                reason = f"not tried: it would take {price:,.0f} of the {budget:,} rows of the trial"
                trials.append(Trial(method, [], 0.0, reason))
            else:
                trials.append(_tried(method, asked, ceilings))
                spent += price
            advance(1)
    return _chosen(trials, asked)


def _candidates(question: Question) -> list[AbstractMethod]:
    """Every method that explains this kind of input and can be made without settings."""
    found = []
    for name, kind in all_methods().items():
        blind = "gradient" in kind.facts.needs and not question.model.differentiable
        if question.model.modality in kind.facts.modalities and not blind:
            try:
                found.append(make_method(name))
            except PellucidError:
                continue
    return found


def _price(method: AbstractMethod, question: Question) -> float:
    factor = DIFFERENTIATED if "gradient" in method.facts.needs else 1
    return float(factor * method.rows(len(question.features)))


def _gain(question: Question, values: Float[np.ndarray, " player"]) -> float:
    (found,) = judge_together([METRIC], {"": Example(question, values, question.seed)})
    if found.refusal is not None:
        raise found.refusal
    return found.score


def _tried(method: AbstractMethod, questions: Sequence[Question], ceilings: Sequence[float]) -> Trial:
    scores = []
    try:
        for question, ceiling in zip(questions, ceilings, strict=True):
            values = method.attribute(question).values.sum(0)
            if not np.isfinite(values).all():
                return Trial(method, [], 0.0, "its scores are not finite")
            if ceiling > 0:
                scores.append(_gain(question, values) / ceiling)
    except PellucidError as error:
        return Trial(method, [], 0.0, " ".join(str(error).split()))
    reason = "" if scores else "no order of the features matters for these inputs"
    rows = sum(method.rows(len(each.features)) for each in questions) / len(questions)
    return Trial(method, scores, rows, reason)


def _chosen(trials: Sequence[Trial], questions: Sequence[Question]) -> tuple[AbstractMethod, Selection]:
    scored = sorted((each for each in trials if each.scores), key=lambda each: -float(np.mean(each.scores)))
    failed = [each for each in trials if not each.scores]
    best = scored[0] if scored else next((each for each in trials if not each.reason), failed[0])
    count = len(best.scores)
    selection = Selection(
        source="calibration",
        detail=f"Tried on {len(questions)} of the inputs at hand; no benchmark of this model and kind of feature is "
        f"there. {len(scored)} methods were weighed.",
        metric=f"{METRIC.named(questions[0])} over that of sampled Shapley values",
        inputs=count,
        enough=False,
        candidates=tuple(_candidate(each, each is best) for each in [*scored, *failed]),
    )
    return best.method, selection


def _candidate(trial: Trial, is_best: bool) -> Candidate:
    name = trial.method.facts.name
    if not trial.scores:
        return Candidate(method=name, score=None, reason=trial.reason)
    mean, low, high = float(np.mean(trial.scores)), None, None
    if len(trial.scores) >= INTERVAL_FROM:
        found = bootstrap(np.array(trial.scores))
        low, high = found.low, found.high
    reason = "" if is_best else "no higher score"
    return Candidate(method=name, score=mean, low=low, high=high, rows=trial.rows, reason=reason)
