"""Which latents are meant."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from pellucid.errors import InputError

ALL = "all"
FORM = "such as 0-99,512, or all"


def selected(
    given: str | None, sample: int | None, width: int, counts: Shaped[np.ndarray, " latent"], seed: int
) -> Sequence[int]:
    """Latents by ``0-99,512`` or ``all``, or so many at random of those that are active at all; None of both: all.

    Raises InputError on another form, on latents that do not exist, or where both are given.
    """
    if given is not None and sample is not None:
        raise InputError("latents are named or drawn at random; give --latents or --sample, not both.")
    if sample is not None:
        live = np.flatnonzero(counts)
        drawn = np.random.default_rng(seed).permutation(live)[:sample]
        return [int(latent) for latent in np.sort(drawn)]
    if given is None or given.strip() == ALL:
        return range(width)
    return list(dict.fromkeys(latent for part in given.split(",") for latent in _range(part.strip(), given, width)))


def _range(part: str, given: str, width: int) -> range:
    first, dash, last = part.partition("-")
    last = last if dash else first
    if not all(each.isascii() and each.isdigit() for each in (first, last)) or int(first) > int(last):
        raise InputError(f"latents are named {FORM}; {given!r} is not of that form.")
    if int(last) >= width:
        raise InputError(f"there is no latent {int(last)}: the autoencoder has {width}, from 0 to {width - 1}.")
    return range(int(first), int(last) + 1)
