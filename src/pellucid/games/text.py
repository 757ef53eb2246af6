"""The game of a text: features absent by an imputer, scored by the model."""

from collections.abc import Sequence

import numpy as np

from pellucid.explanation import Feature
from pellucid.games.game import AbstractGame, Coalitions, Values
from pellucid.games.imputers import AbstractImputer
from pellucid.games.scoring import scorer_for
from pellucid.models import BoundTarget, Model, Row
from pellucid.progress import progress


class TextGame(AbstractGame):
    """A game whose players are the features of one text. Rows that come out equal are scored once."""

    def __init__(
        self, model: Model, features: Sequence[Feature], target: BoundTarget, imputer: AbstractImputer
    ) -> None:
        super().__init__(len(features))
        self.imputer = imputer
        self.scorer = scorer_for(model, target)
        self._scores: dict[Row, np.ndarray] = {}

    def _play(self, coalitions: Coalitions) -> Values:
        rows = self.imputer.rows(coalitions)
        fresh = [row for row in dict.fromkeys(rows) if row not in self._scores]
        if fresh:
            with progress("Asking the model", len(fresh)) as advance:
                self._scores.update(zip(fresh, self.scorer(fresh, advance), strict=True))
        values = np.stack([self._scores[row] for row in rows])
        return np.asarray(values.reshape(len(coalitions), self.imputer.draws, -1).mean(1))
