"""The game of a picture or a table row: features absent by an imputer, scored by the model in full batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pellucid.explanation import Feature
from pellucid.games.game import AbstractInputGame, Coalitions, Values
from pellucid.games.tensor_imputers import AbstractTensorImputer
from pellucid.models import AbstractTensorClassifier, BoundTarget
from pellucid.progress import progress

# Numbers of input that go through the network together: it bounds the memory, not the speed.
BATCH_NUMBERS = {"cpu": 1 << 21, "cuda": 1 << 26}


class TensorGame(AbstractInputGame):
    """A game whose players are the features of one tensor."""

    def __init__(
        self,
        model: AbstractTensorClassifier[Any],
        features: Sequence[Feature],
        target: BoundTarget,
        imputer: AbstractTensorImputer,
    ) -> None:
        super().__init__(len(features), imputer)
        self._model, self._target, self._imputer = model, target, imputer
        budget = BATCH_NUMBERS.get(model.device.type, BATCH_NUMBERS["cuda"])
        self._coalitions_at_once = max(1, budget // (imputer.row.numel() * imputer.draws))

    def _play(self, coalitions: Coalitions) -> Values:
        found = []
        with progress("Asking the model", len(coalitions)) as advance:
            for start in range(0, len(coalitions), self._coalitions_at_once):
                part = coalitions[start : start + self._coalitions_at_once]
                alternatives = self._model.alternatives(self._imputer.rows(part), self._target)
                scores = self._target.target.score(alternatives).double().cpu().numpy()
                found.append(scores.reshape(len(part), self._imputer.draws, -1).mean(1))
                advance(len(part))
        return np.concatenate(found)
