"""Integrals along a path, with steps where the integrand needs them.

On every piece of the path by itself the scores must sum to the difference of the target between its ends. So each piece
carries its own error, and the worst is halved until the pieces together miss less than a tolerance.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.records import Check

FIRST_PIECES = 4
LEAST_SCALE = 0.01
"""The part of the largest score that a gap is held against where f(input) is nearly f(baseline)."""
Ends = tuple[Float[Tensor, " target"], Float[Tensor, " target"]]
ValueAt = Callable[[float], Float[Tensor, " target"]]
ScoresOn = Callable[[float, float], Float[Tensor, "target part"]]


class Integral(NamedTuple):
    """The scores of a whole path."""

    scores: Float[Tensor, "target part"]
    """Sum over the pieces."""
    base: Float[Tensor, " target"]
    """The target at the baseline."""
    full: Float[Tensor, " target"]
    """The target at the input."""
    pieces: int
    """How many pieces the path was cut into, those that were halved later included."""
    check: Check
    """Whether it converged."""


class _Piece(NamedTuple):
    start: float
    stop: float
    ends: Ends
    scores: Float[Tensor, "target part"]

    @property
    def gap(self) -> Float[Tensor, " target"]:
        return (self.scores.sum(1) - (self.ends[1] - self.ends[0])).abs()


def adaptive_integral(value_at: ValueAt, scores_on: ScoresOn, *, tolerance: float, most: int) -> Integral:
    """Integrate from 0 to 1.

    Args:
        value_at: the target at a point of the path.
        scores_on: the scores of one piece of it, by a rule with a fixed number of points.
        tolerance: the largest sum of gaps, as a fraction of the difference of the target between 1 and 0, or of a
            hundredth of the largest score where that is more: scores that cancel are no less right.
        most: the most pieces that are scored.
    """
    cuts = [number / FIRST_PIECES for number in range(FIRST_PIECES + 1)]
    ends = [value_at(cut) for cut in cuts]
    pieces = [_Piece(a, b, (f, g), scores_on(a, b)) for a, b, f, g in zip(cuts, cuts[1:], ends, ends[1:], strict=False)]
    spent = len(pieces)
    while _gap(pieces, scale := _scale(pieces, ends)) > tolerance and spent + 2 <= most:
        worst = max(pieces, key=lambda piece: float((piece.gap / scale).max()))
        pieces.remove(worst)
        middle = (worst.start + worst.stop) / 2
        value = value_at(middle)
        pieces.append(_Piece(worst.start, middle, (worst.ends[0], value), scores_on(worst.start, middle)))
        pieces.append(_Piece(middle, worst.stop, (value, worst.ends[1]), scores_on(middle, worst.stop)))
        spent += 2
    gap = _gap(pieces, _scale(pieces, ends))
    check = Check(
        name="convergence",
        value=gap,
        threshold=tolerance,
        passed=gap <= tolerance,
        decisive=True,
        detail=f"after {spent} pieces of the path their gaps add up to {gap:.1%} of f(input) - f(baseline), or of a "
        f"hundredth of the largest score if that is more; at most {tolerance:.0%} is allowed.",
    )
    return Integral(torch.stack([piece.scores for piece in pieces]).sum(0), ends[0], ends[-1], spent, check)


def _scale(pieces: list[_Piece], ends: list[Float[Tensor, " target"]]) -> Float[Tensor, " target"]:
    """What a gap is held against, for each target."""
    least = LEAST_SCALE * torch.stack([piece.scores for piece in pieces]).sum(0).abs().amax(1)
    return torch.maximum((ends[-1] - ends[0]).abs(), least.to(ends[0])).clamp(min=torch.finfo(torch.float32).tiny)


def _gap(pieces: list[_Piece], scale: Float[Tensor, " target"]) -> float:
    # Gaps are added up by size, so that two large ones of opposite sign do not pass for convergence.
    return float((torch.stack([piece.gap for piece in pieces]).sum(0) / scale).max())
