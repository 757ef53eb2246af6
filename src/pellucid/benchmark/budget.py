"""How much a benchmark may spend: minutes, or rows of the network."""

import re
import time
from typing import NamedTuple

from pellucid.errors import InputError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)\s*(s|m|h|rows)")


class Budget(NamedTuple):
    """A limit on time, or on rows; None is no limit."""

    seconds: float | None = None
    """Time on the wall."""
    rows: int | None = None
    """Rows of the network."""

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read ``90s``, ``10m``, ``2h`` or ``50000rows``; ``none`` is no limit. Raises InputError.

        >>> Budget.parse("10m"), Budget.parse("5000rows"), Budget.parse("none")
        (Budget(seconds=600.0, rows=None), Budget(seconds=None, rows=5000), Budget(seconds=None, rows=None))
        """
        if text.strip() == "none":
            return cls()
        found = _FORM.fullmatch(text.strip())
        amount = float(found[1].replace(",", "")) if found is not None else 0.0
        if found is None or not amount:
            raise InputError(f"{text!r} is no budget; write minutes such as 10m (or 90s, 2h), 50000rows, or none.")
        if found[2] == "rows":
            return cls(rows=int(amount))
        return cls(seconds=amount * _UNITS[found[2]])

    @property
    def sentence(self) -> str:
        """The limit as a person says it."""
        if self.seconds is not None:
            return in_words(self.seconds)
        return "none" if self.rows is None else f"{self.rows:,} rows"

    def covers(self, seconds: float, rows: int) -> float:
        """How many inputs of this price it pays for; infinite without a limit."""
        if self.seconds is not None:
            return self.seconds / max(seconds, 1e-9)
        return self.rows / max(rows, 1) if self.rows is not None else float("inf")


class Purse:
    """A budget as it is spent."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._begun = budget, time.perf_counter()
        self.rows = 0

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._begun

    @property
    def is_empty(self) -> bool:
        """Whether the limit is reached."""
        over = self._budget.seconds is not None and self.seconds >= self._budget.seconds
        return over or (self._budget.rows is not None and self.rows >= self._budget.rows)


def in_words(seconds: float) -> str:
    """A time as a person says it.

    >>> in_words(42.0), in_words(600.0), in_words(9000.0)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
