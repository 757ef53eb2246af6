"""Every method on every ground truth, each judged by what its facts promise."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from pellucid.api import explain
from pellucid.errors import InputError, MissingPackageError, ModelError, NoRuleError, NumericalError
from pellucid.explanation import Explanation
from pellucid.ground_truth import GroundTruth, all_truths
from pellucid.ground_truth.reasons import OF_FAMILIES, OF_METHODS
from pellucid.methods import AbstractMethod, all_methods
from pellucid.metrics.functional.agreement import cosine, spearman
from pellucid.metrics.functional.plausibility import auprc
from pellucid.metrics.functional.randomisation import model_contrast
from pellucid.models import Model
from pellucid.progress import hidden, progress

CLOSE = 0.05
"""Largest difference, as a fraction of the truth's scale, that is still close: the tolerance of path integrals."""
ERRORS = 4.0
"""Standard errors within which a sampled score agrees with the truth."""
WIDEST = 0.5
"""Largest error bar, as a fraction of the truth's scale, that an agreement may rest on: a wider one agrees with all."""
FOUND = 0.8
"""Smallest mean AUPRC that counts as finding a rationale; random scores reach about its share of the words. Also the
smallest share of the attribution that counts as having moved between two models."""
Outcome = Literal["exact", "sampled", "close", "wrong", "not applicable"]
ORDER: tuple[Outcome, ...] = get_args(Outcome)
"""Outcomes from the best to the worst."""
Quantity = Literal["contributions", "path", "sensitivity", "rationale", "contrast", "nothing"]
Values = Float[np.ndarray, "raw player"]


class Verdict(NamedTuple):
    """How one method did on one truth."""

    method: str
    """Name of the method."""
    truth: str
    """Name of the truth."""
    outcome: Outcome
    """Exact within the truth's tolerance; within four of its own standard errors (sampled); close (for a rationale:
    found, or moved); or wrong."""
    quantity: Quantity
    """What it was held against."""
    reason: str
    """Why it is wrong or not applicable, as far as known; empty where nothing needs a reason."""
    error: float = math.nan
    """Largest difference from the truth, as a fraction of the truth's scale; NaN for a rationale or a contrast."""
    cosine: float = math.nan
    """Mean over the inputs."""
    spearman: float = math.nan
    """Mean over the inputs; NaN where there are fewer than three features."""
    auprc: float = math.nan
    """Mean over the inputs, of sizes; NaN where the truth is no rationale."""
    contrast: float = math.nan
    """Share of the attribution that moved between two models, mean over the inputs; NaN where there is one model."""
    rows: float = math.nan
    """Rows of the network for one input, mean."""

    @property
    def unexpected(self) -> bool:
        """Whether it is wrong and nobody knows why."""
        return self.outcome == "wrong" and not self.reason


def truth_table(truths: Iterable[GroundTruth] | None = None, methods: Sequence[str] | None = None) -> list[Verdict]:
    """The verdict on every method for every truth, by default on all of both, methods within truths."""
    chosen = list(all_truths() if truths is None else truths)
    names = list(all_methods() if methods is None else methods)
    found = []
    with progress("Judging methods", len(chosen) * len(names)) as advance, hidden():
        for truth in chosen:
            for name in names:
                found.append(judge(name, truth))
                advance(1)
    return found


def judge(method: str, truth: GroundTruth, seed: int = 0) -> Verdict:
    """Run a method with its own settings on each input of a truth, and compare what comes out with what is known."""
    kind = all_methods()[method]
    quantity = asked(kind, truth)
    obstacle = obstacle_to(kind, truth)
    if quantity == "nothing" or obstacle:
        reason = obstacle or "it gives no contributions, and nothing else is known here"
        return Verdict(method, truth.name, "not applicable", "nothing", reason)
    try:
        explanations = _explained(kind, truth, truth.model, seed)
        others = [] if truth.partner is None else _explained(kind, truth, truth.partner, seed)
    except NoRuleError as refusal:
        reason = f"there is no rule for {refusal.operation!r}"
        return Verdict(method, truth.name, "not applicable", "nothing", reason)
    except (NumericalError, MissingPackageError):
        raise
    except (InputError, ModelError) as refusal:
        return Verdict(method, truth.name, "not applicable", "nothing", str(refusal))
    if quantity == "contrast":
        return _moved(kind, truth, explanations, others)
    if quantity == "rationale":
        return _pointed(kind, truth, explanations)
    return _compared(kind, truth, explanations, quantity)


def reason_for(method: type[AbstractMethod], truth: GroundTruth) -> str:
    """Why a method misses a truth, as far as known: empty otherwise."""
    name, family = method.facts.name, method.facts.family
    return truth.fails.get(name, OF_METHODS.get(name, OF_FAMILIES.get(family, "")))


def asked(method: type[AbstractMethod], truth: GroundTruth) -> Quantity:
    """What a method's facts let it be held against: signed scores are contributions, those without a sign slopes."""
    if truth.partner is not None:
        return "contrast"
    if truth.rationale is not None:
        return "rationale"
    if method.facts.signed:
        return "nothing" if truth.contributions is None else "contributions"
    return "nothing" if truth.sensitivity is None else "sensitivity"


def obstacle_to(method: type[AbstractMethod], truth: GroundTruth) -> str:
    """Why the facts of a method and a truth do not go together; empty where they do."""
    facts = method.facts
    if truth.model.modality not in facts.modalities:
        return f"it does not explain {truth.model.modality}"
    if "gradient" in facts.needs and not truth.differentiable:
        return "the network has no gradient"
    if truth.baseline == "marginal" and "baseline" in method.model_fields:
        return "it interpolates from one baseline, and the truth averages over rows"
    return ""


def _explained(method: type[AbstractMethod], truth: GroundTruth, model: Model, seed: int) -> list[Explanation]:
    """The method's explanation of each input, by the truth's model or its partner."""
    options: dict[str, Any] = dict(truth.settings.get(method.facts.name, {}))
    if "baseline" in method.facts.needs:
        options["baseline"] = truth.baseline
    options |= {"target": truth.target, "features": truth.features, "background": truth.background}
    name = method.facts.name
    return [explain(model, raw, method=name, checks="none", seed=seed, **options) for raw in truth.raws]


def _compared(
    method: type[AbstractMethod], truth: GroundTruth, explanations: Sequence[Explanation], quantity: Quantity
) -> Verdict:
    values = np.stack([each.values[0] for each in explanations]).astype(np.float64)
    errors = np.stack([_error(each) for each in explanations])
    candidates: list[tuple[Quantity, Values | None]] = [(quantity, getattr(truth, quantity))]
    if method.facts.complete:
        candidates.append(("path", truth.path))
    verdicts = [_verdict(method, truth, values, errors, known, name) for name, known in candidates if known is not None]
    best = min(verdicts, key=lambda each: (ORDER.index(each.outcome), each.error))
    return best._replace(rows=_rows(explanations))


def _verdict(
    method: type[AbstractMethod], truth: GroundTruth, values: Values, errors: Values, known: Values, quantity: Quantity
) -> Verdict:
    # A truth of zeros beside others has the scale of those: a path that sees nothing of what Shapley's value shows.
    scale = np.abs(truth.answers if quantity == "path" else known).max(1, keepdims=True)
    difference = np.abs(values - known) / scale
    bars = ERRORS * errors / scale
    outcome: Outcome = "wrong"
    if (difference <= truth.tolerance).all():
        outcome = "exact"
    elif bars.max() <= WIDEST and (difference <= truth.tolerance + bars).all():
        outcome = "sampled"
    elif difference.max() <= CLOSE:
        outcome = "close"
    reason = reason_for(method, truth) if outcome == "wrong" or quantity == "path" else ""
    alike = [cosine(each, true) for each, true in zip(values, known, strict=True)]
    ordered = [spearman(each, true) for each, true in zip(values, known, strict=True)]
    return Verdict(
        method.facts.name,
        truth.name,
        outcome,
        quantity,
        reason,
        error=float(difference.max()),
        cosine=float(np.mean(alike)),
        spearman=float(np.mean(ordered)),
    )


def _pointed(method: type[AbstractMethod], truth: GroundTruth, explanations: Sequence[Explanation]) -> Verdict:
    assert truth.rationale is not None
    found = [
        auprc(np.abs(each.values[0].astype(np.float64)), mask)
        for each, mask in zip(explanations, truth.rationale, strict=True)
    ]
    mean = float(np.mean(found))
    outcome: Outcome = "exact" if mean > 1 - truth.tolerance else "close" if mean >= FOUND else "wrong"
    reason = reason_for(method, truth) if outcome == "wrong" else ""
    return Verdict(method.facts.name, truth.name, outcome, "rationale", reason, auprc=mean, rows=_rows(explanations))


def _moved(
    method: type[AbstractMethod],
    truth: GroundTruth,
    explanations: Sequence[Explanation],
    others: Sequence[Explanation],
) -> Verdict:
    assert truth.rationale is not None
    found = [
        model_contrast(one.values[0].astype(np.float64), other.values[0].astype(np.float64), mask)
        for one, other, mask in zip(explanations, others, truth.rationale, strict=True)
    ]
    # Scores of zero everywhere have not moved anywhere.
    mean = float(np.mean(np.nan_to_num(found)))
    outcome: Outcome = "exact" if mean > 1 - truth.tolerance else "close" if mean >= FOUND else "wrong"
    reason = reason_for(method, truth) if outcome == "wrong" else ""
    return Verdict(method.facts.name, truth.name, outcome, "contrast", reason, contrast=mean, rows=_rows(explanations))


def _error(explanation: Explanation) -> Float[np.ndarray, " player"]:
    error = explanation.standard_error
    return np.zeros(len(explanation.features)) if error is None else error[0].astype(np.float64)


def _rows(explanations: Sequence[Explanation]) -> float:
    return float(np.mean([each.cost.rows for each in explanations]))
