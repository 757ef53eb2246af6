"""What every number must be before a formula sees it, and how a sign is read."""

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import InputError

Sign = Literal["signed", "absolute", "positive"]
"""How a score counts: as it is, by its size, or only where it speaks for the target."""


def checked(
    values: Float[np.ndarray, "..."], players: int | None = None, what: str = "the attribution"
) -> Float[np.ndarray, "..."]:
    """The same numbers as float64.

    Raises InputError for none at all, for another length of the last axis than ``players``, for NaN and infinity.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise InputError(f"{what} is empty; at least one number is needed.")
    if players is not None and array.shape[-1] != players:
        raise InputError(f"{what} has length {array.shape[-1]} where {players} is expected; give one number for each.")
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(axis) for axis in np.argwhere(~finite)[0])
        where = place[0] if len(place) == 1 else place
        raise InputError(f"{what} holds {array[place]} at position {where}; every number must be finite.")
    return array


def checked_number(value: float, what: str) -> float:
    """The same number as float. Raises InputError for NaN and infinity."""
    if not math.isfinite(value):
        raise InputError(f"{what} is {value}; a finite number is needed.")
    return float(value)


def checked_mask(mask: Bool[np.ndarray, "..."], players: int, what: str = "the mask") -> Bool[np.ndarray, "..."]:
    """The same mask. Raises InputError for another length of the last axis than ``players``."""
    if mask.shape[-1] != players:
        raise InputError(f"{what} has length {mask.shape[-1]} where {players} is expected; give one mark for each.")
    return np.asarray(mask, dtype=bool)


def checked_count(count: int, most: int, what: str) -> int:
    """The same count. Raises InputError outside 1 .. ``most``."""
    if not 1 <= count <= most:
        raise InputError(f"{what} is {count}; it must be between 1 and {most}.")
    return int(count)


def pooled(values: Float[np.ndarray, "..."], sign: Sign) -> Float[np.ndarray, "..."]:
    """The scores as ``sign`` reads them: a, |a| or max(a, 0).

    With "absolute" an explanation and its negation become the same.
    Raises InputError for another sign, for NaN and infinity.
    """
    array = checked(values)
    if sign == "signed":
        return array
    if sign == "absolute":
        return np.asarray(np.abs(array))
    if sign == "positive":
        return np.asarray(np.maximum(array, 0))
    raise InputError(f"no sign is called {sign!r}; it is one of: {', '.join(get_args(Sign))}.")
