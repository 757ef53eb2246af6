"""Integrated gradients, with steps where the integrand needs them."""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.facts import Facts
from pellucid.games import Question
from pellucid.games.path import Path
from pellucid.methods.adaptive import FIRST_PIECES, adaptive_integral
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.progress import Advance, progress

Quadrature = Literal["gauss-legendre", "midpoint", "trapezoid", "left", "right"]
POINTS_PER_PIECE = 4


@final
class IntegratedGradients(AbstractMethod):
    """phi = (x - b) . integral over [0, 1] of df/dx at b + a (x - b) [sundararajan2017, eq. 1].

    Complete: the scores sum to f(x) - f(b), if the integral has converged. Without ``steps`` the path is cut where the
    integrand needs it, until its pieces together miss less than ``tolerance`` of that difference (see ``adaptive``).
    """

    baseline: str | None = None
    """What stands for an absent position; None: the mean, or for a text the mask, padding or end-of-text token."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """A fixed number of points; None: as many as ``tolerance`` needs."""
    quadrature: Quadrature = "gauss-legendre"
    """Where fixed steps lie and what they weigh."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The largest completeness gap, as a fraction of f(x) - f(b)."""
    max_steps: Annotated[int, Field(ge=POINTS_PER_PIECE * FIRST_PIECES)] = 256
    """The most points that are spent on the tolerance."""
    facts: ClassVar[Facts] = Facts(
        name="integrated_gradients",
        title="Integrated gradients",
        family="gradient",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient", "baseline"),
        complete=True,
        cost="steps (forward + 1 backward a target) + steps / 4 forward passes",
        source="Sundararajan et al. 2017, eq. 1",
    )

    def rows(self, players: int) -> int:
        if self.steps is not None:
            return self.steps + 2
        return self.max_steps + self.max_steps // POINTS_PER_PIECE + 1

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, self.baseline)
        if self.steps is not None:
            return self._fixed(path, self.steps)
        return self._adaptive(path)

    def _fixed(self, path: Path, steps: int) -> Attribution:
        points, weights = quadrature(self.quadrature, steps)
        with progress("Integrating gradients", steps) as advance:
            scores = _integral(path, points, weights, advance)
        base, full = path.value(path.at(torch.tensor([0.0, 1.0])))
        settings = {"steps_used": steps}
        values, places = _told(path, scores)
        return Attribution(
            values, base.cpu().numpy(), full.cpu().numpy(), baseline=path.described, settings=settings, places=places
        )

    def _adaptive(self, path: Path) -> Attribution:
        points, weights = quadrature("gauss-legendre", POINTS_PER_PIECE)
        with progress("Integrating gradients", None) as advance:
            integral = adaptive_integral(
                lambda share: path.value(path.at(torch.tensor([share])))[0],
                lambda a, b: _integral(path, a + (b - a) * points, (b - a) * weights, advance),
                tolerance=self.tolerance,
                most=self.max_steps // POINTS_PER_PIECE,
            )
        settings = {"steps_used": integral.pieces * POINTS_PER_PIECE}
        base, full = integral.base.cpu().numpy(), integral.full.cpu().numpy()
        values, places = _told(path, integral.scores)
        return Attribution(
            values, base, full, baseline=path.described, checks=(integral.check,), settings=settings, places=places
        )


def quadrature(name: Quadrature, steps: int) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    """Points in [0, 1] and weights that sum to 1. A trapezoid of one step is the midpoint."""
    if name == "gauss-legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (points + 1) / 2, weights / 2
    if name == "trapezoid" and steps > 1:
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    shift = {"left": 0.0, "right": 1.0}.get(name, 0.5)
    return (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)


def _integral(
    path: Path, points: Float[np.ndarray, " step"], weights: Float[np.ndarray, " step"], advance: Advance
) -> Float[Tensor, "target part"]:
    """Weighted sum of gradients at the points, times the distance from baseline to input.

    A part is a position, or a position at one place where the embeddings tell places apart.
    """
    total: Tensor | float = 0.0
    for part in path.chunks(len(points)):
        _, gradients = path.gradients(path.at(torch.from_numpy(points[part])))
        weight = torch.from_numpy(weights[part]).to(gradients)
        total = total + torch.einsum("tbsd,b->tsd", gradients, weight)
        advance(part.stop - part.start)
    gradients, distance = torch.as_tensor(total).double(), (path.input - path.baseline).double()
    if path.function.by_place:
        return (gradients * distance).flatten(1)
    return torch.einsum("tsd,sd->ts", gradients, distance)


def _told(
    path: Path, scores: Float[Tensor, "target part"]
) -> tuple[Float[np.ndarray, "target player"], Float[np.ndarray, "target player place"] | None]:
    """The scores of features, and those at each place where they are told apart."""
    if not path.function.by_place:
        return path.to_features(scores), None
    products = scores.view(len(scores), *path.input.shape)
    return path.to_features(products.sum(-1)), path.by_place(products)
