"""How far an evaluation has come, kept in a file so that a stopped one goes on."""

import time
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pellucid.errors import RecordError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.evaluation.sums import Sums
from pellucid.sae.store import Cursor

SECONDS_BETWEEN = 20.0
"""Between two writings of the file."""


class Partial(Record):
    """What was found so far."""

    question: str
    """Digest of everything that the numbers depend on."""
    cursor: Cursor | None = None
    """Where reading of the store goes on."""
    sums: dict[str, Sums] = Field(default={})
    """Of each modality."""
    losses: tuple[tuple[float, ...], ...] = ()
    """For each sample what was summed over its predictions; empty for one that is still to come."""
    seconds: float = 0.0
    """Spent so far."""


class Kept:
    """A ``Partial`` that grows, and its file, if it has one."""

    def __init__(self, question: str, path: Path | None) -> None:
        self._path, self._begun = path, time.monotonic()
        self.now = self._read(question) or Partial(question=question)
        self._before, self._written = self.now.seconds, time.monotonic()

    def _read(self, question: str) -> Partial | None:
        """What an earlier run left; None where there is none, or one of another question, or a broken one."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            found = Partial.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.question == question else None

    @property
    def seconds(self) -> float:
        """Spent so far, earlier runs included."""
        return self._before + time.monotonic() - self._begun

    def update(self, **changes: Any) -> None:
        """Take in what is new; it is written now and then."""
        self.now = self.now.model_copy(update=changes)
        if time.monotonic() - self._written > SECONDS_BETWEEN:
            self.write()

    def write(self) -> None:
        """Write what there is. Raises RecordError where that fails; what was written before stays."""
        if self._path is not None:
            self.now = self.now.model_copy(update={"seconds": self.seconds})
            try:
                write_atomically(self._path, self.now.model_dump_json().encode())
            except OSError as error:
                raise RecordError(
                    f"{str(self._path)!r} cannot be written ({error.strerror}); free the space and run the same again, "
                    "which goes on from what was kept."
                ) from None
            self._written = time.monotonic()

    def forget(self) -> None:
        """Delete the file: the evaluation is over."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
