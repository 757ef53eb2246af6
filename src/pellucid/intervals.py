"""How far a share that was counted can be trusted."""

import math
from statistics import NormalDist


def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of Wilson's score interval of a share [wilson1927]: honest for few trials and near 0 and 1.

    >>> low, high = wilson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.2775)
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, over = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / over
    half = z / over * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not put an end on the wrong side of the share itself.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
