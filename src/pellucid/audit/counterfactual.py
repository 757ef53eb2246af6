"""The smallest change of fields that flips a decision: a search over values that the cohort itself holds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.audit.cases import Wordings
from pellucid.audit.config import Search
from pellucid.games.scoring import Scorer, scorer_for
from pellucid.models import CausalLM, Prompt, Row, Template, TextClassifier
from pellucid.targets import Options

ROWS_AT_ONCE = 8
VALUES_PER_FIELD_IN_SETS = 2


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
        self._values, self._say = values, wordings.word
        self._max_changes, self._max_evaluations = limits.max_changes, limits.max_evaluations

    def run(self, case: Mapping[str, str | None], decision: str, scores: Mapping[str, float]) -> Flip:
        """Try single fields, those that speak most for the decision first, then sets of the most promising values."""
        self._case, self._decision, self._spent = dict(case), decision, 0
        self._scorer: Scorer | None = None
        order = sorted(self._values, key=lambda field: -scores.get(field, 0.0))
        singles = [{field: value} for field in order for value in self._alternatives(field)]
        lowered: dict[str, list[tuple[float, str | None]]] = {}
        complete = len(singles) <= self._max_evaluations
        for number in range(1, self._max_changes + 1):
            candidates = singles if number == 1 else self._sets(number, lowered)
            tried, best = self._try(candidates)
            for change, kept in tried:
                if number == 1:
                    ((field, value),) = change.items()
                    lowered.setdefault(field, []).append((kept, value))
            if best is not None:
                change, probabilities = best
                new = self._options[int(probabilities.argmax())]
                return self._flip(change, new, float(probabilities.max()), number == 1 or (complete and number == 2))
            if self._spent >= self._max_evaluations:
                break
        return self._flip({}, "", 0.0, complete and self._max_changes == 1)

    def _alternatives(self, field: str) -> list[str | None]:
        """Other values of the cohort, those furthest apart first, so that a small budget still spans the range."""
        own = self._say(field, self._case[field])
        known = list(dict.fromkeys(self._values[field]))
        others = [value for value in sorted(known, key=_numeric) if self._say(field, value) != own]
        return [others[place] for place in _spread(len(others))]

    def _sets(self, number: int, lowered: Mapping[str, list[tuple[float, str | None]]]) -> list[dict[str, str | None]]:
        """Sets of ``number`` fields, each with the values that weakened the decision most by themselves."""
        best = {
            field: sorted(tried, key=lambda pair: pair[0])[:VALUES_PER_FIELD_IN_SETS]
            for field, tried in lowered.items()
        }
        fields = sorted(best, key=lambda field: best[field][0][0])
        found = []
        for chosen in combinations(fields, number):
            weight = sum(best[field][0][0] for field in chosen)
            found.append((weight, {field: best[field][0][1] for field in chosen}))
        return [change for _, change in sorted(found, key=lambda pair: pair[0])]

    def _try(
        self, candidates: Sequence[dict[str, str | None]]
    ) -> tuple[list[tuple[dict[str, str | None], float]], tuple[dict[str, str | None], np.ndarray] | None]:
        """Score candidates a few at a time; stop at the first few among which one flips, and take the clearest."""
        tried: list[tuple[dict[str, str | None], float]] = []
        own = self._options.index(self._decision)
        for start in range(0, len(candidates), ROWS_AT_ONCE):
            part = candidates[start : start + min(ROWS_AT_ONCE, self._max_evaluations - self._spent)]
            if not part:
                break
            probabilities = np.exp(self._score(part))
            tried += [(change, float(p[own])) for change, p in zip(part, probabilities, strict=True)]
            flipped = [number for number, p in enumerate(probabilities) if int(p.argmax()) != own]
            if flipped:
                clearest = max(flipped, key=lambda number: float(probabilities[number].max()))
                return tried, (part[clearest], probabilities[clearest])
        return tried, None

    def _score(self, changes: Sequence[Mapping[str, str | None]]) -> Float[np.ndarray, "change option"]:
        rows = [self._row({**self._case, **change}) for change in changes]
        if self._scorer is None:
            inputs = self._model.encode(self._prompt(self._case))
            self._scorer = scorer_for(self._model, self._model.bind(Options(self._options), inputs))
        self._spent += len(rows)
        return np.asarray(self._scorer(rows, lambda steps: None))

    def _row(self, case: Mapping[str, str | None]) -> Row:
        return self._model.row(self._prompt(case).text)

    def _prompt(self, case: Mapping[str, str | None]) -> Prompt:
        return self._template(**{field: self._say(field, case[field]) for field in self._template.fields})

    def _flip(self, change: dict[str, str | None], decision: str, probability: float, exhaustive: bool) -> Flip:
        searched = (
            f"values that the cohort holds, in up to {self._max_changes} of {len(self._values)} fields at once, "
            f"at most {self._max_evaluations} changed cases"
        )
        return Flip(change, decision, probability, self._spent, exhaustive, searched)


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
