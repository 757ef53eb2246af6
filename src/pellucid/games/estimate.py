"""What a sampling estimator knows after a round, and the rounds themselves."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Estimate(NamedTuple):
    """Scores of every player for every target, and how far they can be trusted."""

    values: Float[np.ndarray, "target player"]
    """The scores, float64, in the unit of the target."""
    standard_error: Float[np.ndarray, "target player"]
    """Standard error of each score from the sampling alone; zero where everything was enumerated."""
    samples: int
    """How many coalitions, or orders of the players, it rests on."""
    exact: bool
    """Whether everything was enumerated."""

    @property
    def largest_error(self) -> float:
        """The largest standard error of all scores."""
        return float(self.standard_error.max())


def budgets(first: int, most: int) -> Iterator[int]:
    """The totals after each round: ``first``, twice ``first``, ... and in the end ``most``."""
    yield from range(first, most, first)
    yield max(first, most)
