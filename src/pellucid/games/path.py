"""What the gradient methods share: a path from a baseline, gradients, and sums over the positions of a feature."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.games.question import Question

# Positions that go through the network at once. With gradients every one keeps its activations of all layers: a token
# of SmolLM2 about 1.5 MB, a pixel of EfficientNet-Lite0 about 2 kB.
CHUNK_POSITIONS = {"text": {"cpu": 384, "cuda": 16384}, "image": {"cpu": 1 << 17, "cuda": 1 << 22}}


class Path:
    """The input's embeddings and the baseline's from the first feature on, and the target as a function of them.

    Only positions that belong to a feature differ between the two ends; everything else stays as it is.
    """

    def __init__(self, question: Question, baseline: str | None) -> None:
        model = question.model
        owner = question.owners
        offset = int((owner >= 0).int().argmax())
        # A decoder's first token has nothing before it to cache, and an encoder looks both ways.
        self.function = question.embedded(offset)
        self.meter, self.modality, self.name = model.meter, model.modality, model.name
        self.owner = owner[self.function.offset :].to(model.device)
        self.players = len(question.features)
        self.input = self.function.embeddings
        chosen = question.stand_in(baseline)
        self.described = chosen.described
        # A baseline is one vector for all positions, or one for each of the whole input.
        filler = chosen.embedding if chosen.embedding.ndim == 1 else chosen.embedding[self.function.offset :]
        self.baseline = torch.where((self.owner >= 0)[:, None], filler, self.input)

    def at(self, shares: Float[Tensor, " batch"]) -> Float[Tensor, "batch seq dim"]:
        """Points on the straight line: 0 is the baseline, 1 the input."""
        return self.baseline + shares.to(self.input)[:, None, None] * (self.input - self.baseline)

    def value(self, points: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        """The target at each point, without gradients."""
        with torch.no_grad():
            return self.function(points).double()

    def gradients(
        self, points: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "batch target"], Float[Tensor, "target batch seq dim"]]:
        """The target at each point and its gradient: one forward pass, and one backward pass for each target."""
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            scores = self.function(points)
        if not scores.requires_grad:
            raise ModelError(
                f"{self.name} gives no gradient of its output (a tree, or a network that cuts the graph); use a method "
                "that perturbs, such as kernel_shap."
            )
        targets = scores.shape[1]
        found = []
        for target in range(targets):
            (gradient,) = torch.autograd.grad(scores[:, target].sum(), points, retain_graph=target + 1 < targets)
            found.append(gradient)
            self.meter.backwards += 1
        return scores.detach().double(), torch.stack(found)

    def chunks(self, count: int) -> list[slice]:
        """``count`` points in groups that fit the device's budget, at least one point in each."""
        budget = CHUNK_POSITIONS["image" if self.modality in ("image", "tabular") else "text"]
        kind = self.input.device.type
        positions = self.input.shape[1] if self.function.by_place else len(self.input)
        size = max(1, budget.get(kind, budget["cuda"]) // max(1, positions))
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def by_place(self, products: Float[Tensor, "target seq dim"]) -> Float[np.ndarray, "target player place"] | None:
        """The scores of each feature at each place, where the embeddings are such; else None."""
        return products.double().cpu().numpy() if self.function.by_place else None

    def to_features(self, scores: Float[Tensor, "target seq"]) -> Float[np.ndarray, "target player"]:
        """Scores of positions summed over the positions of each feature."""
        return summed(scores, self.owner, self.players)


def summed(
    scores: Float[Tensor, "target seq"], owner: Int[Tensor, " seq"], players: int
) -> Float[np.ndarray, "target player"]:
    """Scores of positions summed over the positions that each player owns; what nobody owns (-1) is left out."""
    sums = torch.zeros(len(scores), players + 1, dtype=torch.float64, device=scores.device)
    place = torch.where(owner >= 0, owner, players)
    return sums.index_add(1, place, scores.double())[:, :-1].cpu().numpy()
