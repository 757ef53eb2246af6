"""A trial of methods on the inputs at hand, by the symmetric relevance gain, within a budget of rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.errors import InputError, PellucidError
from pellucid.games import Question
from pellucid.methods import AbstractMethod, PermutationShapley, all_methods, make_method
from pellucid.methods.budgets import row_price, within
from pellucid.metrics import Example, Srg
from pellucid.metrics.statistics import resampled_means
from pellucid.metrics.together import judge_together
from pellucid.progress import hidden, progress
from pellucid.records import Candidate, Selection

BUDGET = 4000
"""Rows of the network, by default; a row that is differentiated counts three times."""
REFERENCE_SHARE = 3
"""One part in so many of the budget is for the reference."""
MOST_INPUTS = 20
"""Inputs that are tried at most."""
INTERVAL_FROM = 8
"""Inputs from which an interval is given."""
METRIC = Srg(steps=10)


class Trial(NamedTuple):
    """What came of one method."""

    method: AbstractMethod
    """The method, with its own settings."""
    gains: list[float]
    """SRG on each input; empty where it failed."""
    rows: float
    """Rows that it may take for one input."""
    reason: str
    """Why it has no score."""


def calibrate(
    questions: Sequence[Question], budget: int, why: str = "no benchmark was asked"
) -> tuple[AbstractMethod, Selection]:
    """The method with the highest normalised SRG on these inputs, and how all of them did.

    Mean gain over the mean gain of the reference: 0 is what a random order is expected to get, and 1 what sampled
    Shapley values get. Cheap methods are tried first; those that the budget does not reach are named.

    Args:
        questions: the inputs; as many of the first ``MOST_INPUTS`` are tried as the reference can be paid for.
        budget: rows of the network for everything: reference, methods and scores.
        why: why a trial decides, in half a sentence.

    Raises InputError where the budget pays for no method, and where no method can be tried.
    """
    asked, reference = _affordable(questions, budget)
    meter = asked[0].model.meter
    begun = meter.rows
    ceilings = np.array([_gain(each, reference.attribute(each).values.sum(0)) for each in asked])
    # A differentiated row is on the meter once.
    extra, trials = 0, list[Trial]()
    order = sorted(_candidates(asked[0]), key=lambda each: _price(each, asked[0]))
    with progress("Trying methods", len(order)) as advance, hidden():
        for method in order:
            price, left = len(asked) * _price(method, asked[0]), budget - (meter.rows - begun + extra)
            if price > left:
                reason = (
                    f"not tried: it would take {price:,} rows, and of the trial's {budget:,} were {max(0, left):,} left"
                )
                trials.append(Trial(method, [], 0.0, reason))
            else:
                trials.append(_tried(method, asked))
                if row_price(type(method), 1) > 1:
                    extra += 2 * len(asked) * method.rows(len(asked[0].features))
            advance(1)
    return _chosen(trials, asked, ceilings, why)


def _affordable(questions: Sequence[Question], budget: int) -> tuple[list[Question], AbstractMethod]:
    """The inputs that are tried, and the reference for them. Raises InputError where there is none."""
    players = max(len(each.features) for each in questions[:MOST_INPUTS])
    draws, share = questions[0].game.imputer.draws, budget // REFERENCE_SHARE
    least = PermutationShapley(permutations=4).rows(players) * draws
    count = min(len(questions), MOST_INPUTS, share // least)
    if not count:
        raise InputError(
            f"a budget of {budget:,} rows pays for no trial on {players} features; give at least "
            f"{REFERENCE_SHARE * least:,}, or name a method."
        )
    return list(questions[:count]), within(PermutationShapley, {}, players, share // count, draws)


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


def _price(method: AbstractMethod, question: Question) -> int:
    """Rows that a method and its score may take on one input."""
    players, draws = len(question.features), question.game.imputer.draws
    factor = max(row_price(type(method), draws), 3 if "gradient" in method.facts.needs else 1)
    return factor * method.rows(players) + METRIC.rows(players) * draws


def _gain(question: Question, values: Float[np.ndarray, " player"]) -> float:
    (found,) = judge_together([METRIC], {"": Example(question, values, question.seed)})
    if found.refusal is not None:
        raise found.refusal
    return found.score


def _tried(method: AbstractMethod, questions: Sequence[Question]) -> Trial:
    gains = []
    try:
        for question in questions:
            values = method.attribute(question).values.sum(0)
            if not np.isfinite(values).all():
                return Trial(method, [], 0.0, "its scores are not finite")
            gains.append(_gain(question, values))
    except PellucidError as error:
        return Trial(method, [], 0.0, " ".join(str(error).split()))
    return Trial(method, gains, float(method.rows(len(questions[0].features))), "")


def _chosen(
    trials: Sequence[Trial], questions: Sequence[Question], ceilings: Float[np.ndarray, " input"], why: str
) -> tuple[AbstractMethod, Selection]:
    if not ceilings.mean() > 0:
        trials = [
            each._replace(gains=[], reason="no order of the features matters for these inputs") for each in trials
        ]
    scored = sorted((each for each in trials if each.gains), key=lambda each: -float(np.mean(each.gains)))
    failed = [each for each in trials if not each.gains]
    if not scored:
        reasons = "; ".join(f"{each.method.facts.name}: {each.reason}" for each in failed[:2])
        raise InputError(f"no method could be tried on these inputs ({reasons}); name a method.")
    selection = Selection(
        source="calibration",
        detail=f"Tried on {len(questions)} of the inputs at hand, since {why}. {len(scored)} methods were weighed.",
        metric=f"{METRIC.named(questions[0])} over that of sampled Shapley values",
        inputs=len(questions),
        enough=False,
        candidates=tuple(_candidate(each, each is scored[0], ceilings) for each in [*scored, *failed]),
    )
    return scored[0].method, selection


def _candidate(trial: Trial, is_best: bool, ceilings: Float[np.ndarray, " input"]) -> Candidate:
    name = trial.method.facts.name
    if not trial.gains:
        return Candidate(method=name, score=None, reason=trial.reason)
    gains, low, high = np.array(trial.gains), None, None
    if len(gains) >= INTERVAL_FROM:
        # The same inputs are drawn for both.
        means = resampled_means(np.stack([gains, ceilings]))
        low, high = (float(each) for each in np.quantile(means[:, 0] / means[:, 1], (0.025, 0.975)))
    score = float(gains.mean() / ceilings.mean())
    reason = "" if is_best else "no higher score"
    return Candidate(method=name, score=score, low=low, high=high, rows=trial.rows, reason=reason)
