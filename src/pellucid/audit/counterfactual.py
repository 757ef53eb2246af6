"""The smallest change of fields that flips a decision: a search over values that the cohort itself holds."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.audit.cases import Wordings
from pellucid.audit.config import Search
from pellucid.games.scoring import Scorer, scorer_for
from pellucid.models import CausalLM, Template, TextClassifier
from pellucid.targets import Options

ROWS_AT_ONCE = 8
Values = Mapping[str, str | None]


class Flip(NamedTuple):
    """What the search found."""

    changes: dict[str, str | None]
    """The changed fields and their new values; empty where nothing flipped."""
    decision: str
    """The decision on the changed case; empty where nothing flipped."""
    probability: float
    """Its probability; 0 where nothing flipped."""
    evaluations: int
    """Changed cases that the model was asked about."""
    exhaustive: bool
    """Whether every change of fewer fields, and every change of one field, was tried."""
    searched: str
    """What was searched, in one sentence."""


class FlipSearch:
    """Searches with one model, template and cohort.

    Args:
        values: for each field the values that the cohort holds, as the table has them; None for a missing one.
        wordings: how the template says a value.
        limits: how far to search.
    """

    def __init__(
        self,
        model: CausalLM | TextClassifier,
        template: Template,
        options: tuple[str, ...],
        values: Mapping[str, Sequence[str | None]],
        wordings: Wordings,
        limits: Search,
    ) -> None:
        self._model, self._template, self._options = model, template, options
        self._values, self._say, self._limits = values, wordings.word, limits
        self._scorer: Scorer | None = None

    def run(self, case: Values, decision: str, scores: Mapping[str, float]) -> Flip:
        """Try single fields, those that speak most for the decision first, then sets of the most promising values."""
        trial = _Trial(self._score, case, self._options, decision, self._limits.max_evaluations)
        order = sorted(self._values, key=lambda field: -scores.get(field, 0.0))
        singles: list[Values] = [{field: value} for field in order for value in self._others(field, case[field])]
        every_single = len(singles) <= self._limits.max_evaluations
        for number in range(1, self._limits.max_changes + 1):
            found = trial.first_flip(singles if number == 1 else _sets(number, trial.kept))
            if found is not None:
                return self._flip(trial, found, exhaustive=number == 1 or (every_single and number == 2))
        return self._flip(trial, None, exhaustive=every_single and self._limits.max_changes == 1)

    def _others(self, field: str, own: str | None) -> list[str | None]:
        """Other values of the cohort, those furthest apart first, so that a small budget still spans the range."""
        known = dict.fromkeys(self._values[field])
        others = [value for value in sorted(known, key=_numeric) if self._say(field, value) != self._say(field, own)]
        return [others[place] for place in _spread(len(others))]

    def _score(self, cases: Sequence[Values]) -> Float[np.ndarray, "case option"]:
        """Probability of every option on each case."""
        prompts = [
            self._template(**{field: self._say(field, case[field]) for field in self._template.fields})
            for case in cases
        ]
        if self._scorer is None:
            bound = self._model.bind(Options(self._options), self._model.encode(prompts[0]))
            # One scorer for all cases: what the template says before the first field is computed once.
            self._scorer = scorer_for(self._model, bound)
        return np.exp(self._scorer([self._model.row(prompt.text) for prompt in prompts], lambda steps: None))

    def _flip(self, trial: "_Trial", found: tuple[Values, np.ndarray] | None, *, exhaustive: bool) -> Flip:
        limits = self._limits
        searched = (
            f"values that the cohort holds, in up to {limits.max_changes} of {len(self._values)} fields at once, "
            f"at most {limits.max_evaluations} changed cases"
        )
        if found is None:
            return Flip({}, "", 0.0, trial.spent, exhaustive, searched)
        changes, probabilities = found
        decision = self._options[int(probabilities.argmax())]
        return Flip(dict(changes), decision, float(probabilities.max()), trial.spent, exhaustive, searched)


class _Trial:
    """The changes of one case that were tried so far, within a budget."""

    def __init__(
        self,
        score: Callable[[Sequence[Values]], Float[np.ndarray, "case option"]],
        case: Values,
        options: Sequence[str],
        decision: str,
        budget: int,
    ) -> None:
        self._score, self._case, self._own, self._budget = score, case, options.index(decision), budget
        self.spent = 0
        self.kept: dict[str, tuple[float, str | None]] = {}
        """For each field that was changed by itself: the lowest probability that the decision kept, and the value."""

    def first_flip(self, changes: Sequence[Values]) -> tuple[Values, Float[np.ndarray, " option"]] | None:
        """Score changes a few at a time; stop at the first few among which one flips, and take the clearest."""
        for start in range(0, len(changes), ROWS_AT_ONCE):
            part = changes[start : start + min(ROWS_AT_ONCE, self._budget - self.spent)]
            if not part:
                return None
            probabilities = self._score([{**self._case, **change} for change in part])
            self.spent += len(part)
            self._note(part, probabilities[:, self._own])
            flipped = np.flatnonzero(probabilities.argmax(1) != self._own)
            if len(flipped):
                clearest = flipped[probabilities[flipped].max(1).argmax()]
                return part[clearest], probabilities[clearest]
        return None

    def _note(self, changes: Sequence[Values], kept: Float[np.ndarray, " change"]) -> None:
        for change, probability in zip(changes, kept.tolist(), strict=True):
            if len(change) == 1:
                ((field, value),) = change.items()
                self.kept[field] = min(
                    self.kept.get(field, (2.0, None)), (probability, value), key=lambda pair: pair[0]
                )


def _sets(number: int, kept: Mapping[str, tuple[float, str | None]]) -> list[Values]:
    """Sets of ``number`` fields, each with the value that weakened the decision most by itself, the weakest first."""
    found = sorted(combinations(kept, number), key=lambda fields: sum(kept[field][0] for field in fields))
    return [{field: kept[field][1] for field in fields} for fields in found]


def _numeric(value: str | None) -> tuple[int, float, str]:
    """Missing first, then numbers by size, then texts."""
    if value is None:
        return (0, 0.0, "")
    try:
        return (1, float(value), value)
    except ValueError:
        return (2, 0.0, value)


def _spread(count: int) -> list[int]:
    """Places 0 .. count - 1, both ends first, then the middle, then the middles of what is left.

    >>> _spread(5)
    [0, 4, 2, 1, 3]
    """
    order, gaps = [0, count - 1][: min(count, 2)], [(0, count - 1)]
    for low, high in gaps:
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order
