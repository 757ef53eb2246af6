"""From interpretations to what pages and releases show of them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pellucid.dashboard.gathering import Meaning
from pellucid.report.latents_view import Estimate, ScoreView
from pellucid.sae.autoencoder import SAE
from pellucid.sae.interpretation.results import RANDOM, Interpretation, checked_interpretations, read_lines
from pellucid.sae.interpretation.scoring import Interval, Score
from pellucid.sae.interpretation.summary import Average, mean

MEASURES = {"accuracy": "balanced accuracy", "auc": "AUC"}
"""What is shown of a score, in words."""
CHANCE = 0.5
"""Balanced accuracy and AUC of guessing."""
_SHUFFLED = "with the explanation of another latent"
_BESIDE = {"shuffled": _SHUFFLED, "oracle": "by a judge that knows the truth"}
Means = Mapping[tuple[str, str], Sequence[tuple[str, Estimate]]]
"""By score and measure what the whole run gives wrong explanations and random directions, in words."""


def read_meanings(folder: Path, sae: SAE) -> dict[int, Meaning]:
    """By latent, from a run's folder. Raises InputError where it is of another autoencoder, RecordError."""
    found = checked_interpretations(folder, sae).values()
    return meanings(found, list(read_lines(folder / RANDOM, Interpretation)))


def meanings(interpretations: Iterable[Interpretation], random: Sequence[Interpretation] = ()) -> dict[int, Meaning]:
    """By latent; ``random`` are the run's random directions."""
    found = list(interpretations)
    means = _means(found, random)
    return {each.latent: _meaning(each, means) for each in found}


def _means(found: Sequence[Interpretation], random: Sequence[Interpretation]) -> Means:
    """Over the whole run: few of its latents are scored with another explanation, and random directions are of none."""
    names = {name for each in found for name in each.scores}
    kinds = ((_SHUFFLED, "latents", [each.shuffled for each in found]),
             ("random directions", "directions", [each.scores for each in random]))  # fmt: skip
    return {
        (name, measure): [
            (f"{words}, mean over {average.latents} {noun} of the run", _estimate(average.mean))
            for words, noun, scores in kinds
            if (average := mean(_values(scores, name, measure))).mean is not None
        ]
        for name in names
        for measure in MEASURES
    }


def _values(scores: Iterable[Mapping[str, Score]], name: str, measure: str) -> list[float]:
    found = (getattr(each[name], measure) for each in scores if name in each)
    return [each.value for each in found if each is not None]


def _meaning(interpretation: Interpretation, means: Means) -> Meaning:
    """What was said of one latent, its scores in the order detection, fuzzing, embedding."""
    order = ("detection", "fuzzing", "embedding")
    names = sorted(interpretation.scores, key=lambda name: (order.index(name) if name in order else len(order), name))
    scores = [view for name in names for view in _views(interpretation, name, means)]
    return Meaning(interpretation.explanation, interpretation.explainer, tuple(scores))


def _views(interpretation: Interpretation, name: str, means: Means) -> list[ScoreView]:
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
                beside=(*_beside(interpretation, name, measure), *means[name, measure]),
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


def _estimate(value: Interval | Average) -> Estimate:
    return Estimate(value.value, value.low, value.high)
