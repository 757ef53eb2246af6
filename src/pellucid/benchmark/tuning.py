"""Settings of methods, chosen on inputs that no method is scored on.

Every method with a choice tries as many settings on the same inputs for the same rows, and keeps the one with the best
mean score under the first metric. A method without a choice keeps its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from pellucid.benchmark.attributing import attribute_all
from pellucid.benchmark.entrants import Entrant
from pellucid.benchmark.examining import Examiner
from pellucid.benchmark.judging import judge
from pellucid.benchmark.tasks.task import Case
from pellucid.errors import PellucidError

GRID: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "noise": {"noise": (0.03, 0.1, 0.3)},
    "kernel_width": {"kernel_width": (0.1, 0.25, 1.0)},
    "alpha": {"alpha": (0.001, 0.01, 0.1)},
    "residual": {"residual": (0.3, 0.5, 0.7)},
    "layers": {"layers": ("last", "all")},
}
"""What is tried of a setting, by its name. The baseline is no such setting: another baseline is another question."""
TRIALS = 3
"""Settings that each method tries, its own first."""


class Trial(NamedTuple):
    """One setting of one method on the tuning inputs."""

    entrant: str
    """The method."""
    settings: dict[str, Any]
    """What was tried; empty for its own."""
    score: float | None
    """Mean score under the first metric; None where the method failed on some input."""
    chosen: bool
    """Whether it is kept."""


def candidates(entrant: Entrant) -> list[dict[str, Any]]:
    """The settings that an entrant tries, its own first: at most ``TRIALS``."""
    fields = entrant.kind.model_fields
    # Peers run as their libraries have them: what their settings do is theirs to say.
    known = [name for name in GRID if name in fields and not entrant.is_peer]
    if not known:
        return [{}]
    grid = [GRID[name][name] for name in known]
    made = [dict(zip(known, values, strict=True)) for values in product(*grid)]
    own = {name: fields[name].default for name in known}
    # Of several settings the first is varied: each method tries equally many.
    others = [each for each in made if each != own and all(each[name] == own[name] for name in known[1:])]
    return [{}, *others[: TRIALS - 1]]


def tune(
    examiner: Examiner, cases: Sequence[Case], advance: Callable[[int], None]
) -> tuple[tuple[Entrant, ...], list[Trial]]:
    """The entrants with the settings that did best, and everything that was tried.

    ``advance`` is called with 1 after each case.
    """
    tried = [(entrant, settings) for entrant in examiner.entrants for settings in candidates(entrant)]
    scores: dict[int, list[float]] = {place: [] for place in range(len(tried))}
    choosing = {entrant.name for entrant, settings in tried if settings}
    places = [place for place, (entrant, _) in enumerate(tried) if entrant.name in choosing]
    variants = [
        Entrant(entrant.kind, entrant.is_peer, settings) for entrant, settings in (tried[each] for each in places)
    ]
    for number, case in enumerate(cases):
        for place, score in zip(places, _scored(examiner, case, number, variants), strict=True):
            scores[place].append(score)
        advance(1)
    trials, kept = [], []
    for entrant in examiner.entrants:
        own = [place for place, (each, _) in enumerate(tried) if each.name == entrant.name]
        means = [float(np.mean(scores[place])) if scores[place] else math.nan for place in own]
        sign = 1 if examiner.metrics[0].facts.higher_is_better else -1
        best = max(
            range(len(own)), key=lambda each: (-math.inf if math.isnan(means[each]) else sign * means[each], -each)
        )
        settings = tried[own[best]][1]
        tuned = any(not math.isnan(mean) for mean in means)
        kept.append(Entrant(entrant.kind, entrant.is_peer, settings, tuned=tuned))
        if entrant.name in choosing:
            trials += [
                Trial(entrant.name, tried[place][1], None if math.isnan(mean) else mean, number == best)
                for number, (place, mean) in enumerate(zip(own, means, strict=True))
            ]
    return tuple(kept), trials


def _scored(examiner: Examiner, case: Case, number: int, entrants: Sequence[Entrant]) -> list[float]:
    """The first metric's score of each entrant on one case; NaN where there is none."""
    found = [math.nan] * len(entrants)
    try:
        question = examiner.question(case, number)
        field = attribute_all(question, entrants, examiner.seeds[:1], examiner.budget(question))
    except PellucidError:
        return found
    values = {
        place: each.attribution.values.sum(0)
        for place, each in enumerate(field.attributed)
        if each.attribution is not None
    }
    rationale = None if case.rationale is None else np.array(case.rationale, dtype=bool)
    for verdict in judge(question, values, examiner.metrics[:1], methods={}, rationale=rationale, label=case.label):
        found[verdict.of] = verdict.score
    return found
