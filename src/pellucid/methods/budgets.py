"""Methods for a number of rows: who draws gets the largest sample that the rows pay for."""

from bisect import bisect_right
from collections.abc import Mapping
from functools import cache
from itertools import count
from typing import Any

from pellucid.errors import InputError
from pellucid.methods.base import AbstractMethod

SAMPLE_SIZES = ("samples", "permutations")
"""Settings that say how much a method draws."""
DIFFERENTIATED = 3
"""What a row that is differentiated costs, in rows that are not: one pass forward, and one of twice the work back."""
LEAST_ROWS, ROWS_EACH = 50, 4
"""Rows that every method that draws may spend on an input by default: 50, and 4 more for each feature, times the rows
of a coalition where the imputer draws."""
MOST_EVALUATIONS = 4096
"""Coalitions, or rows, that a method of a fixed price may ask for on an input."""


def default_rows(players: int, draws: int = 1) -> int:
    """What every method that draws may spend on an input of so many features, where nobody says.

    >>> default_rows(20), default_rows(20, draws=100)
    (130, 13000)
    """
    return (LEAST_ROWS + ROWS_EACH * players) * draws


def sample_size(kind: type[AbstractMethod]) -> str | None:
    """The setting that says how much a method draws; None for one whose price is fixed."""
    return next((name for name in SAMPLE_SIZES if name in kind.model_fields), None)


def plays(kind: type[AbstractMethod]) -> bool:
    """Whether a method asks for coalitions, each of which costs as many rows as the imputer draws."""
    return kind.facts.family == "perturbation" and "baseline" in kind.facts.needs


def row_price(kind: type[AbstractMethod], draws: int) -> int:
    """What one of a method's evaluations costs, in rows."""
    return draws if plays(kind) else DIFFERENTIATED if kind.facts.family == "gradient" else 1


def within(
    kind: type[AbstractMethod], settings: Mapping[str, Any], players: int, rows: int, draws: int = 1
) -> AbstractMethod:
    """The method with these settings, and where it draws with the largest sample that ``rows`` pay for.

    draws: rows of a coalition.  Raises InputError where the smallest sample is dearer, or where a method of a fixed
    price asks for more than ``MOST_EVALUATIONS``.
    """
    evaluations, size = rows // row_price(kind, draws), sample_size(kind)
    if size is not None and size not in settings:
        return _largest(kind, tuple(sorted(settings.items())), size, players, evaluations)
    made = kind(**settings)
    if made.rows(players) > max(evaluations, MOST_EVALUATIONS):
        raise InputError(
            f"{kind.facts.name} asks for {made.rows(players):,} evaluations on an input of {players} features, and at "
            f"most {max(evaluations, MOST_EVALUATIONS):,} are given."
        )
    return made


@cache
def _largest(
    kind: type[AbstractMethod], settings: tuple[tuple[str, Any], ...], name: str, players: int, most: int
) -> AbstractMethod:
    """The method with the largest even sample whose declared evaluations are at most ``most``."""

    def made(half: int) -> AbstractMethod | None:
        try:
            return kind(**dict(settings), **{name: 2 * half})
        except InputError:
            return None

    def price(half: int) -> int:
        # Samples that are too small for the method come first.
        found = made(half)
        return 0 if found is None else found.rows(players)

    best = made(bisect_right(range(1, most + 1), most, key=price))
    if best is None:
        least = next(found.rows(players) for half in count(1) if (found := made(half)) is not None)
        raise InputError(
            f"{kind.facts.name} explains no input of {players} features within {most} evaluations; {least} is the "
            "least; give more by --rows."
        )
    return best
