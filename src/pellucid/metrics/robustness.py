"""Robustness: how far an attribution moves when the input moves a little and the prediction does not.

A constant map is perfectly robust: read these beside a metric of faithfulness. The noise is uniform in a box around the
input's embeddings (its pixels, its columns), never on token ids.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from pellucid.errors import ModelError
from pellucid.facts import MetricFacts
from pellucid.games import Question
from pellucid.metrics.base import AbstractMetric, Example, explainer
from pellucid.metrics.functional import robustness


class _Moved(NamedTuple):
    """The attributions of several moved inputs."""

    values: Float[np.ndarray, "draw player"]
    origin: Float[np.ndarray, " dim"]
    moved: Float[np.ndarray, "draw dim"]
    same_prediction: Bool[np.ndarray, " draw"]


class _Robustness(AbstractMetric):
    radius: Annotated[float, Field(gt=0)] = 0.02
    """Half the side of the box, in standard deviations of what the network reads."""
    draws: Annotated[int, Field(ge=1)] = 8
    """Moved inputs."""

    def rows(self, players: int) -> int:
        # The prediction on the input itself and on every moved one.
        return 2 * (self.draws + 1)

    @final
    def score(self, example: Example) -> float:
        return self.detail(example).value

    @abstractmethod
    def detail(self, example: Example) -> robustness.Robustness:
        """The score, and the share of the moved inputs that changed the prediction and were left out."""

    def moved(self, example: Example, seen: Literal["input", "representation", "output"]) -> _Moved:
        """Explain the moved inputs, and look at how the input, a representation or the output moves with them."""
        explain, question = explainer(example, self), example.question
        model, predicted = question.model, question.model.predicted(question.inputs)
        origin = _seen(question, seen)
        values, moved, same = [], [], []
        for draw in range(self.draws):
            with model.nudged(question.inputs, self.radius, example.seed + draw) as inputs:
                there = question.of(inputs)
                same.append(model.predicted(inputs) == predicted)
                moved.append(_seen(there, seen))
                values.append(explain(there))
        return _Moved(np.stack(values), origin, np.stack(moved), np.array(same))


@final
class MaxSensitivity(_Robustness):
    """Largest ||a' - a|| / (||a|| + eps) over moved inputs of the same prediction [yeh2019, def. 4.1]. Low is good."""

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="max_sensitivity",
        title="Max-sensitivity (relative)",
        family="robustness",
        higher_is_better=False,
        range=(0.0, np.inf),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0 for a constant map",
        cost="draws runs of the method + 2 (draws + 1)",
        source="Yeh et al. 2019, def. 4.1",
    )

    def detail(self, example: Example) -> robustness.Robustness:
        found = self.moved(example, "input")
        return robustness.max_sensitivity(example.values, found.values, found.same_prediction)


@final
class RelativeStability(_Robustness):
    """Largest relative change of the attribution over that of the input, a representation or the output [agarwal2022].

    Low is good. Norms are divided and never single elements, so that one score near 0 cannot rule.
    """

    of: Literal["input", "representation", "output"] = "input"
    """RIS, RRS or ROS. The representation is what the network's last linear layer reads; the output is the target."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="relative_stability",
        title="Relative stability (RIS, RRS, ROS)",
        family="robustness",
        higher_is_better=False,
        range=(0.0, np.inf),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0 for a constant map",
        cost="draws runs of the method + 2 (draws + 1)",
        source="Agarwal et al. 2022, eq. 2, 3 and 5",
    )

    def detail(self, example: Example) -> robustness.Robustness:
        found = self.moved(example, self.of)
        return robustness.relative_stability(
            example.values, found.values, found.origin, found.moved, found.same_prediction
        )


def _seen(question: Question, what: Literal["input", "representation", "output"]) -> Float[np.ndarray, " dim"]:
    embedded = question.model.embedded(question.inputs, question.target, 0)
    with torch.no_grad():
        if what == "input":
            seen = embedded.embeddings
        elif what == "output":
            seen = embedded(embedded.embeddings[None])
        else:
            with _last_linear(question.model.module) as read:
                embedded(embedded.embeddings[None])
            if not read:
                raise ModelError(f"{question.model.name} has no linear layer whose input could be its representation.")
            seen = read[-1]
    return seen.double().flatten().cpu().numpy()


@contextmanager
def _last_linear(module: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, what linear layers read is noted, the last one last."""
    read: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        read[:] = [given[0].detach()]

    hooks = [part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, nn.Linear)]
    try:
        yield read
    finally:
        for hook in hooks:
            hook.remove()
