"""The game of a text: features absent by an imputer, scored by the model."""

from collections.abc import Sequence

import numpy as np

from pellucid.games.game import Coalitions, Values
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.scoring import PrefixScorer, scorer_for
from pellucid.games.text_imputers import AbstractTextImputer
from pellucid.models import AbstractTextModel, BoundTarget, Row
from pellucid.progress import progress
from pellucid.records import Feature


class TextGame(AbstractInputGame):
    """A game whose players are the features of one text. Rows that come out equal are scored once."""

    def __init__(
        self,
        model: AbstractTextModel,
        features: Sequence[Feature],
        target: BoundTarget,
        imputer: AbstractTextImputer,
        full: Row,
    ) -> None:
        super().__init__(len(features), imputer)
        self._text_imputer, self._full = imputer, full
        self.scorer = scorer_for(model, target)
        self._scores: dict[Row, np.ndarray] = {}

    def _play(self, coalitions: Coalitions) -> Values:
        rows = self._text_imputer.rows(coalitions)
        fresh = [row for row in dict.fromkeys(rows) if row not in self._scores]
        if fresh:
            with progress("Asking the model", len(fresh)) as advance:
                self._scores.update(zip(fresh, self.scorer(fresh, advance), strict=True))
        values = np.stack([self._scores[row] for row in rows])
        return np.asarray(values.reshape(len(coalitions), self.imputer.draws, -1).mean(1))

    def self_test(self) -> float | None:
        if isinstance(self.scorer, PrefixScorer) and self.evaluations:
            return self.scorer.self_test(self._full)
        return None
