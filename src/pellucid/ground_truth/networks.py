"""Networks that are written down instead of trained, in double precision, and the table models around them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.models import Column, Tabular

LABEL = "f"
Number = float | int
Numbers = Sequence[Number]


def affine(weights: Sequence[Numbers], bias: Numbers) -> nn.Linear:
    """The layer weights x + bias."""
    # On no device, so that its first weights are not drawn from everybody's random numbers.
    layer = nn.Linear(len(weights[0]), len(weights), device="meta")
    layer.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    layer.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))
    return layer


def relu_sum(units: Sequence[tuple[Number, Numbers, Number]], players: int) -> nn.Sequential:
    """Sum over units (a, w, c) of a relu(w . x + c)."""
    hidden = affine([weights for _, weights, _ in units], [shift for _, _, shift in units])
    assert hidden.in_features == players
    return nn.Sequential(hidden, nn.ReLU(), affine([[outer for outer, _, _ in units]], [0.0]))


class Polynomial(nn.Module):
    """Sum over terms of coefficient times a product of powers of the inputs."""

    def __init__(self, terms: Sequence[tuple[Number, Sequence[int]]]) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor([each for each, _ in terms], dtype=torch.float64))
        self.register_buffer("powers", torch.tensor([powers for _, powers in terms]))

    def forward(self, x: Float[Tensor, "batch player"]) -> Float[Tensor, "batch class"]:
        """The sum, as the one output."""
        powers: Tensor = self.get_buffer("powers")
        # By multiplying, since the derivative of 0 ** 0 is not a number everywhere.
        product = torch.ones(len(x), len(powers), dtype=x.dtype)
        for step in range(int(powers.max())):
            product = product * torch.where(powers > step, x[:, None, :], torch.ones_like(x[:, None, :])).prod(2)
        return (product @ self.coefficients)[:, None]


def table_model(
    name: str, module: nn.Module, *, means: Numbers = (), players: int = 0, labels: Sequence[str] = (LABEL,)
) -> Tabular:
    """The network as a model of a table with columns x1, x2, ... that reads each value minus its column's mean.

    So the baselines ``zero`` and ``mean`` stand for the columns' means, which are 0 unless given, and so do medians.
    """
    means = means or [0.0] * players
    columns = [Column(name=f"x{number}", mean=mean, median=mean) for number, mean in enumerate(means, 1)]
    module.requires_grad_(False)
    return Tabular(module.eval(), columns, labels, name=name)


def slopes(
    contributions: Float[np.ndarray, "raw player"], raws: Sequence[Numbers], baseline: Numbers
) -> Float[np.ndarray, "raw player"]:
    """Mean slope |contribution| / |x - b| between baseline and input; 0 where the two are the same.

    For a linear network that is |w|, and for any other the slope of the line that has its contribution.
    """
    distance = np.abs(np.array(raws, dtype=np.float64) - np.array(baseline))
    steep = np.divide(np.abs(contributions), distance, out=np.zeros_like(distance), where=distance > 0)
    return np.asarray(steep)
