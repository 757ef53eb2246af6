"""A tree of the features of an input by where they are, as SHAP's partitions take it."""

import numpy as np
from jaxtyping import Float

from pellucid.games import Question


def halves(question: Question) -> Float[np.ndarray, "branch 4"]:
    """Halve the features again and again, along the side on which they reach farthest; a linkage matrix as of scipy.

    A feature lies at the mean of its positions: rows and columns of a picture, the order of anything else. Each line
    holds the two branches that are joined, the height of the join and the number of features below it.
    """
    places = _places(question)
    lines: list[list[float]] = []

    def join(members: np.ndarray) -> tuple[int, int]:
        """The number of the branch, and its height."""
        if len(members) == 1:
            return int(members[0]), 0
        reach = np.ptp(places[members], axis=0)
        ordered = members[np.argsort(places[members, int(reach.argmax())], kind="stable")]
        first, low = join(ordered[: len(members) // 2])
        second, high = join(ordered[len(members) // 2 :])
        height = max(low, high) + 1
        lines.append([first, second, height, len(members)])
        return len(places) + len(lines) - 1, height

    join(np.arange(len(places)))
    return np.array(lines, dtype=np.float64)


def _places(question: Question) -> Float[np.ndarray, "player side"]:
    count = len(question.features)
    row = getattr(question.inputs, "row", None)
    if question.model.modality != "image" or row is None:
        return np.arange(float(count))[:, None]
    owners = question.owners.numpy()
    down, right = np.divmod(np.arange(len(owners)), row.shape[-1])
    sizes = np.bincount(owners, minlength=count)
    return np.stack([np.bincount(owners, weights=side, minlength=count) / sizes for side in (down, right)], axis=1)
