"""The target as a network of what the model reads, for the peers that take gradients of one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError
from pellucid.games import Path, Question
from pellucid.models import AbstractTensorClassifier


class Scored(nn.Module):
    """The target as a function of the embeddings, or of the picture; counts what it is asked and keeps its last answer.

    Raises ModelError where it is to be differentiated and gives no gradient.

    Args:
        path: the way from a baseline to the input.
        hooked: the model's network, for a peer that puts hooks on its modules; they are this network's parts then.
    """

    def __init__(self, path: Path, hooked: nn.Module | None = None) -> None:
        super().__init__()
        self._function, self._meter, self._name = path.function, path.meter, path.name
        self.rows_asked = 0
        self.last: Float[Tensor, "batch target"] = torch.zeros(0, 0)
        self.hooked = hooked

    def forward(self, points: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        """The target at each point."""
        self.rows_asked += len(points)
        scores = self._function(points)
        if torch.is_grad_enabled() and points.requires_grad:
            if not scores.requires_grad:
                raise ModelError(
                    f"{self._name} gives no gradient of its output (a tree, or a network that cuts the graph); use a "
                    "method that perturbs, such as captum:kernel_shap."
                )
            self._meter.backwards += 1
        self.last = scores.detach()
        return scores


class ScoredPicture(Scored):
    """The same of pictures, as the network takes them."""

    def __init__(self, question: Question, path: Path, hooked: nn.Module | None = None) -> None:
        super().__init__(path, hooked)
        assert isinstance(question.model, AbstractTensorClassifier)
        self._model = question.model

    def forward(self, pictures: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch target"]:
        """The target of each picture."""
        return super().forward(self._model.to_sequence(pictures))


def picture_of(question: Question) -> Float[Tensor, "1 channel height width"]:
    """The picture of a question, as the network takes it. Raises InputError for any other input."""
    model, row = question.model, question.inputs.row
    if not isinstance(model, AbstractTensorClassifier) or row.ndim != 3:
        raise InputError(f"{model.name} reads {model.modality}, and this method explains pictures alone.")
    return torch.as_tensor(row)[None].to(model.like)
