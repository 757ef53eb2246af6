"""Perturbation-based integrated gradients: the path integral by finite differences, without a gradient."""

from typing import Annotated, ClassVar, final

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


@final
class PathIntegral(AbstractMethod):
    """phi_i = integral over a of df/dp_i at presence (a, ..., a), by central differences [geukesfoppen2026, in words].

    The presence p_i of a feature moves all its tokens between baseline and input together. On a piece of the path,
    feature i is moved from one end of the piece to the other while all others stay in its middle: what f gains is the
    score. A model without interactions along the path is integrated exactly by any number of pieces. Needs no
    gradient. Over binary presence the same integral would be the Shapley value.
    """

    baseline: str | None = None
    """What stands for an absent position; None: the mean, or for a text the mask, padding or end-of-text token."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """The largest completeness gap, as a fraction of f(x) - f(b)."""
    max_pieces: Annotated[int, Field(ge=FIRST_PIECES)] = 32
    """The most pieces that are spent on the tolerance."""
    facts: ClassVar[Facts] = Facts(
        name="path_integral",
        title="Perturbation-based integrated gradients",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        complete=True,
        cost="2 n pieces + pieces + 1",
        source="named, not defined, in Geukes Foppen et al. 2026; path integral: Sundararajan et al. 2017, eq. 1",
    )

    def rows(self, players: int) -> int:
        return (2 * players + 1) * self.max_pieces + 1

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, self.baseline)
        with progress("Integrating differences", None) as advance:
            integral = adaptive_integral(
                lambda share: path.value(path.at(torch.tensor([share])))[0],
                lambda start, stop: _differences(path, start, stop, advance),
                tolerance=self.tolerance,
                most=self.max_pieces,
            )
        settings = {"pieces_used": integral.pieces}
        base, full = integral.base.cpu().numpy(), integral.full.cpu().numpy()
        return Attribution(
            integral.scores.numpy(), base, full, baseline=path.described, checks=(integral.check,), settings=settings
        )


def _differences(path: Path, start: float, stop: float, advance: Advance) -> Float[Tensor, "target player"]:
    """What the target gains as each player by itself goes from ``start`` to ``stop``, the others in the middle."""
    middle = (start + stop) / 2
    ends = torch.cat([torch.eye(path.players) * (end - middle) + middle for end in (start, stop)])
    # Positions of no feature do not move: both ends of the path are equal there, whatever their presence.
    place = path.owner.cpu().clamp(min=0)
    found = []
    for part in path.chunks(len(ends)):
        presence = ends[part][:, place].to(path.input)
        found.append(path.value(path.baseline + presence[:, :, None] * (path.input - path.baseline)).cpu())
        advance(part.stop - part.start)
    before, after = torch.cat(found).chunk(2)
    return (after - before).T
