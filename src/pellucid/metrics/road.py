"""Remove and debias (ROAD): removal in pictures that leaves no trace of the shape of what was removed."""

from typing import Annotated, ClassVar, final

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.games import Coalitions, Question
from pellucid.games.tensor import BATCH_NUMBERS
from pellucid.games.tensor_imputers import NoisyLinear
from pellucid.metrics.base import AbstractMetric, Example
from pellucid.metrics.functional import removal, road
from pellucid.metrics.functional.inputs import Sign, pooled
from pellucid.models import ImageClassifier


@final
class Road(AbstractMetric):
    """How much longer a picture's label stays when the least relevant pixels go than when the most do [rong2022].

    High is good, 0 is chance. Removed pixels are filled with the weighted mean of their neighbours and a little noise,
    whatever the imputer of the other metrics is: a constant patch has a shape, and that alone can give the label away.
    Of one picture the score is a share of steps; the mean over pictures is the gap of the paper's accuracy curves, with
    the label that the network gives for the true one. It does not look at the target. Raises InputError for all but
    picture classifiers.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive."""
    shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = road.SHARES
    """Shares of the features that are removed."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="road",
        title="Remove and debias (gap of LeRF and MoRF)",
        family="removal",
        higher_is_better=True,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("picture",),
        chance="0",
        centred=True,
        cost="2 shares + 1, and a sparse system for each",
        source="Rong et al. 2022",
    )

    @property
    def compares_models(self) -> bool:
        return False

    def rows(self, players: int) -> int:
        return 2 * len(self.shares) + 1

    def conditions(self, question: Question) -> tuple[str, ...]:
        return (NoisyLinear.name, question.unit, "label")

    def score(self, example: Example) -> float:
        values = pooled(example.values, self.sign)
        players = len(values)
        order, sizes = removal.order(values, example.seed), removal.bin_sizes(players, self.shares)
        whole = np.ones((1, players), dtype=bool)
        masks = np.concatenate([whole, removal.removed(order[::-1], sizes), removal.removed(order, sizes)])
        label, *labels = _labels(example.question, masks)
        kept = np.asarray(labels) == label
        return road.road(kept[: len(sizes)], kept[len(sizes) :])


def _labels(question: Question, coalitions: Coalitions) -> Int[np.ndarray, " coalition"]:
    """The class that the network gives to each coalition, absent pixels filled from their neighbours."""
    model = question.model
    if not isinstance(model, ImageClassifier):
        raise InputError(
            f"road fills in pixels of a picture and looks at its label, and {model.name} is a {type(model).__name__}; "
            "use srg."
        )
    distinct, place = np.unique(coalitions, axis=0, return_inverse=True)
    rows = question.imputed(NoisyLinear.name).game.imputer.rows(distinct)
    at_once = max(1, BATCH_NUMBERS.get(model.device.type, BATCH_NUMBERS["cuda"]) // rows[0].numel())
    found = torch.cat([model.logits(batch).argmax(1) for batch in torch.split(rows, at_once)])
    return np.asarray(found.cpu().numpy()[place])
