"""The game of a picture or a table row: features absent by an imputer, scored by the model in full batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.games.game import Coalitions, Values
from pellucid.games.input_game import AbstractInputGame
from pellucid.games.tensor_imputers import AbstractTensorImputer
from pellucid.models import AbstractTensorClassifier, BoundTarget
from pellucid.progress import progress
from pellucid.records import Feature

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
        self._rows_at_once = max(1, budget // imputer.row.numel())
        self._coalitions_at_once = max(1, self._rows_at_once // imputer.draws)

    def _play(self, coalitions: Coalitions) -> Values:
        draws, found = self._imputer.draws, []
        with progress("Asking the model", len(coalitions)) as advance:
            for start in range(0, len(coalitions), self._coalitions_at_once):
                part = coalitions[start : start + self._coalitions_at_once]
                # Where everything is present, all draws are the input itself: it is scored once.
                needed = np.repeat(~part.all(1), draws)
                needed[::draws] = True
                scores = self._scores(self._imputer.rows(part)[torch.from_numpy(needed)])[needed.cumsum() - 1]
                found.append(scores.reshape(len(part), draws, -1).mean(1))
                advance(len(part))
        return np.concatenate(found)

    def _scores(self, rows: Float[Tensor, "row ..."]) -> Float[np.ndarray, "row target"]:
        batches = torch.split(rows, self._rows_at_once)
        scored = [self._target.target.score(self._model.alternatives(batch, self._target)) for batch in batches]
        return np.concatenate([scores.double().cpu().numpy() for scores in scored])
