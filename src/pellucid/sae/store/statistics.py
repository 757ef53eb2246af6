"""Mean, variance and norms of activations: fp64, over parts that can be put together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.records import Record

ROWS = 4096
"""Rows that are held in fp64 at a time."""


@dataclass(frozen=True)
class Statistics:
    """What is known of activations x at a site."""

    count: int
    """Tokens."""
    mean: Float[np.ndarray, " d_in"]
    """E[x], fp64."""
    mean_square_norm: float
    """E ||x||^2."""
    mean_norm: float
    """E ||x||."""
    total_variance: float
    """E ||x - E[x]||^2."""
    largest_norm: float = float("nan")
    """max ||x||: where it is far above the mean norm, a few tokens are most of the variance."""


class Sums(Record):
    """Sums over tokens, of which statistics are made. They can be written as JSON without loss."""

    count: int = Field(ge=0, default=0)
    """Tokens."""
    mean: tuple[float, ...] = ()
    """E[x]; empty without tokens."""
    deviation: float = 0.0
    """Sum of ||x - E[x]||^2."""
    square_norm: float = 0.0
    """Sum of ||x||^2."""
    norm: float = 0.0
    """Sum of ||x||."""
    largest_norm: float = 0.0
    """max ||x||."""

    @classmethod
    def over(cls, rows: Float[np.ndarray, "token d_in"]) -> "Sums":
        """The sums over some tokens."""
        found = cls()
        for start in range(0, len(rows), ROWS):
            found = found.plus(_sums(rows[start : start + ROWS].astype(np.float64)))
        return found

    def plus(self, other: "Sums") -> "Sums":
        """The sums over the tokens of both [chan1983, eq. 2.1]."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        here, there = np.array(self.mean), np.array(other.mean)
        apart = there - here
        return Sums(
            count=count,
            mean=tuple((here + apart * (other.count / count)).tolist()),
            deviation=self.deviation + other.deviation + float(apart @ apart) * self.count * other.count / count,
            square_norm=self.square_norm + other.square_norm,
            norm=self.norm + other.norm,
            largest_norm=max(self.largest_norm, other.largest_norm),
        )

    def statistics(self) -> Statistics:
        """What follows from the sums; NaN without tokens."""
        count = self.count or float("nan")
        return Statistics(
            self.count, np.array(self.mean), self.square_norm / count, self.norm / count, self.deviation / count,
            self.largest_norm or float("nan"),
        )  # fmt: skip


def _sums(rows: Float[np.ndarray, "token d_in"]) -> Sums:
    mean = rows.mean(0)
    squares = np.square(rows).sum(1)
    return Sums(
        count=len(rows),
        mean=tuple(mean.tolist()),
        deviation=float(np.square(rows - mean).sum()),
        square_norm=float(squares.sum()),
        norm=float(np.sqrt(squares).sum()),
        largest_norm=float(np.sqrt(squares.max())),
    )
