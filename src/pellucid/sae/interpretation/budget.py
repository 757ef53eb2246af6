"""How many calls and tokens may be spent, and what was."""

import threading

from pellucid.errors import ModelError
from pellucid.sae.interpretation.asking import Ledger


class Budget:
    """Counts calls and tokens, from several threads, and ends the work where they are used up.

    A call that has begun is let finish, so the tokens may be exceeded by those of the calls that run side by side.

    Args:
        calls: the most calls; None: any number.
        tokens: the most tokens, read and written; None: any number.
        spent: what earlier runs of the same work have spent.
    """

    def __init__(self, calls: int | None = None, tokens: int | None = None, spent: Ledger | None = None) -> None:
        self.ledger, self.spent = Ledger(), spent or Ledger()
        self._calls, self._tokens, self._begun, self._lock = calls, tokens, 0, threading.Lock()

    def begin(self) -> None:
        """Take one call from the budget. Raises ModelError where none is left."""
        with self._lock:
            calls, tokens = self.spent.calls + self._begun, self.spent.tokens + self.ledger.tokens
            if self._calls is not None and calls >= self._calls:
                raise ModelError(_used_up("calls", calls, self._calls))
            if self._tokens is not None and tokens >= self._tokens:
                raise ModelError(_used_up("tokens", tokens, self._tokens))
            self._begun += 1

    def add(self, spent: Ledger) -> None:
        """Note what was spent."""
        with self._lock:
            self.ledger += spent

    def fail(self) -> None:
        """Give back a call that was not answered."""
        with self._lock:
            self._begun -= 1


def _used_up(what: str, spent: int, limit: int) -> str:
    return (
        f"the budget of {limit} {what} is used up ({spent} spent); what was done is kept: run the same command with a "
        f"larger --budget-{what} to go on."
    )
