"""Sums over tokens from which the quality of reconstructions follows; they merge, and lose no precision on the way."""

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.records import Record
from pellucid.sae.codes import Codes
from pellucid.sae.store.statistics import Sums as Moments

SUMMED = ("error", "cosine", "cosines", "ratio", "ratios", "reconstructed", "overlap", "active")
"""What is summed over tokens, float64.

error: ||x - xhat||^2; cosine: cos(x, xhat) over the ``cosines`` tokens where both have a length; ratio:
||xhat|| / ||x|| over the ``ratios`` tokens where x has one; reconstructed: ||xhat||^2; overlap: x . xhat; active:
latents that are not 0.
"""


class Sums(Record):
    """Everything that is summed over the tokens of one group, such as one modality. Can be written as JSON."""

    moments: Moments = Moments()
    """Of the activations: their mean and the squared distances from it."""
    numbers: dict[str, float] = Field(default=dict.fromkeys(SUMMED, 0.0))
    """By the names of ``SUMMED``."""
    worst: float = 0.0
    """The greatest ||x - xhat||^2 of a token."""
    fired: tuple[int, ...]
    """Tokens on which each latent is active."""

    @property
    def tokens(self) -> int:
        """How many were seen."""
        return self.moments.count

    @classmethod
    def none(cls, width: int) -> "Sums":
        """Of no tokens."""
        return cls(fired=(0,) * width)

    @classmethod
    def over(cls, x: Float[Tensor, "token dim"], xhat: Float[Tensor, "token dim"], codes: Codes) -> "Sums":
        """Over some tokens: their activations, the reconstructions of these, and the active latents."""
        x, xhat = x.double().cpu(), xhat.double().cpu()
        energy, made, overlap = x.pow(2).sum(1), xhat.pow(2).sum(1), (x * xhat).sum(1)
        error = (x - xhat).pow(2).sum(1)
        long, both = energy > 0, (energy > 0) & (made > 0)
        found = {
            "error": error.sum(),
            "cosine": (overlap[both] / (energy[both].sqrt() * made[both].sqrt())).sum(),
            "cosines": both.sum(),
            "ratio": (made[long] / energy[long]).sqrt().sum(),
            "ratios": long.sum(),
            "reconstructed": made.sum(),
            "overlap": overlap.sum(),
            "active": (codes.values != 0).sum(),
        }
        fired = np.bincount(codes.latents.cpu().numpy(), minlength=codes.width)
        numbers = {name: float(value) for name, value in found.items()}
        moments, worst = Moments.over(x.numpy()), float(error.max()) if len(x) else 0.0
        return cls(moments=moments, numbers=numbers, worst=worst, fired=tuple(fired.tolist()))

    def plus(self, other: "Sums") -> "Sums":
        """Over the tokens of both."""
        return Sums(
            moments=self.moments.plus(other.moments),
            numbers={name: value + other.numbers[name] for name, value in self.numbers.items()},
            worst=max(self.worst, other.worst),
            fired=tuple((np.array(self.fired) + np.array(other.fired)).tolist()),
        )
