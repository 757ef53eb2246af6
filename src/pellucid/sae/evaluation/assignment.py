"""The best one-to-one matching of rows and columns."""

import numpy as np
from jaxtyping import Float, Int


def best_matching(gains: Float[np.ndarray, "row column"]) -> Int[np.ndarray, " row"]:
    """For each row its column in the matching with the greatest total gain, exactly; -1 for a row without a partner.

    Kuhn's Hungarian method by shortest augmenting paths with potentials [jonker1987], O(rows^2 columns). Where there
    are more rows than columns, the rows that are left over have no partner.
    """
    rows, columns = gains.shape
    if rows > columns:
        partners = best_matching(gains.T)
        found = np.full(rows, -1)
        found[partners] = np.arange(columns)
        return found
    costs = -np.asarray(gains, np.float64)
    row_of = np.full(columns + 1, -1)
    row_potentials, column_potentials = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        _augment(costs, row, row_of, row_potentials, column_potentials)
    found = np.full(rows, -1)
    taken = row_of[:columns] >= 0
    found[row_of[:columns][taken]] = np.flatnonzero(taken)
    return found


def _augment(
    costs: Float[np.ndarray, "row column"],
    row: int,
    row_of: Int[np.ndarray, " column_and_one"],
    row_potentials: Float[np.ndarray, " row"],
    column_potentials: Float[np.ndarray, " column_and_one"],
) -> None:
    """Match one more row along the shortest path of alternating edges; all arrays are changed in place.

    The last column is no real one: it stands for the row that is being matched.
    """
    columns = costs.shape[1]
    shortest, before = np.full(columns, np.inf), np.full(columns, columns)
    visited = np.zeros(columns + 1, bool)
    at, row_of[columns] = columns, row
    while row_of[at] >= 0:
        visited[at] = True
        current = row_of[at]
        free = ~visited[:columns]
        reduced = costs[current] - row_potentials[current] - column_potentials[:columns]
        closer = free & (reduced < shortest)
        shortest[closer], before[closer] = reduced[closer], at
        candidates = np.where(free, shortest, np.inf)
        nearest = int(candidates.argmin())
        step = candidates[nearest]
        row_potentials[row_of[visited]] += step
        column_potentials[visited] -= step
        shortest[free] -= step
        at = nearest
    while at != columns:
        row_of[at] = row_of[before[at]]
        at = int(before[at])
    row_of[columns] = -1
