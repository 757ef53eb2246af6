"""From interpretations to what pages and releases show of them."""

from collections.abc import Iterable, Mapping

from pellucid.dashboard.gathering import Meaning
from pellucid.report.latents_view import Estimate, ScoreView
from pellucid.sae.interpretation.results import Interpretation
from pellucid.sae.interpretation.scoring import Interval, Score

MEASURES = {"accuracy": "balanced accuracy", "auc": "AUC"}
"""What is shown of a score, in words."""
CHANCE = 0.5
"""Balanced accuracy and AUC of guessing."""
_BESIDE = {"shuffled": "with the explanation of another latent", "oracle": "by a judge that knows the truth"}


def meanings(interpretations: Iterable[Interpretation]) -> dict[int, Meaning]:
    """By latent."""
    return {each.latent: meaning(each) for each in interpretations}


def meaning(interpretation: Interpretation) -> Meaning:
    """What was said of one latent, its scores in the order detection, fuzzing, embedding."""
    order = ("detection", "fuzzing", "embedding")
    names = sorted(interpretation.scores, key=lambda name: (order.index(name) if name in order else len(order), name))
    scores = [view for name in names for view in _views(interpretation, name)]
    return Meaning(interpretation.explanation, interpretation.explainer, tuple(scores))


def _views(interpretation: Interpretation, name: str) -> list[ScoreView]:
    score = interpretation.scores[name]
    found = []
    for measure, words in MEASURES.items():
        value: Interval | None = getattr(score, measure)
        if value is not None:
            view = ScoreView(
                name=f"{name}, {words}",
                judge=interpretation.judges.get(name, "a judge"),
                found=_estimate(value),
                chance=CHANCE,
                beside=tuple(_beside(interpretation, name, measure)),
                note=_note(score),
            )
            found.append(view)
    return found


def _beside(interpretation: Interpretation, name: str, measure: str) -> Iterable[tuple[str, Estimate]]:
    for kind, words in _BESIDE.items():
        others: Mapping[str, Score] = getattr(interpretation, kind)
        value = getattr(others[name], measure) if name in others else None
        if value is not None:
            yield words, _estimate(value)
    constant = interpretation.scores[name].constant
    if measure == "accuracy" and constant is not None:
        yield "always the same answer", Estimate(constant)


def _note(score: Score) -> str:
    unread = score.counts.unread if score.counts is not None else 0
    said = f", {unread} of whose answers could not be read" if unread else ""
    return f"{score.examples} examples{said}"


def _estimate(value: Interval) -> Estimate:
    return Estimate(value.value, value.low, value.high)
