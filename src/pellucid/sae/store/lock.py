"""One harvest at a time in a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import ValidationError

from pellucid.errors import InputError, RecordError
from pellucid.records import Record

LOCK = ".harvest.lock"
SECONDS = 5.0
"""By which two readings of when a process began may differ, because clocks are set."""


class Holder(Record):
    """The process that writes into a folder."""

    host: str
    """The machine it runs on."""
    process: int
    """Its number there."""
    started: float
    """When it began, in seconds since 1970: numbers of processes are given again."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where there is none. What a process that ended has left behind is taken over.

    Raises:
        InputError: another harvest writes into it. RecordError: it cannot be written to.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_left_behind(path):
            path.unlink(missing_ok=True)
        _take(path, folder)
    except OSError as error:
        raise RecordError(
            f"no store can be written to {str(folder)!r} ({error.strerror}); harvest into another folder."
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take(path: Path, folder: Path) -> None:
    """Make the file, which only one of several processes can. Raises InputError where there is one, OSError."""
    mine = Holder(host=socket.gethostname(), process=os.getpid(), started=psutil.Process().create_time())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise InputError(_held(path, folder)) from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(mine.model_dump_json())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _is_left_behind(path: Path) -> bool:
    """Whether the process that made it has ended, as far as this machine can tell."""
    holder = _holder(path)
    if holder is None or holder.host != socket.gethostname():
        return False
    try:
        found = psutil.Process(holder.process)
        is_another = abs(found.create_time() - holder.started) > SECONDS
        return is_another or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _holder(path: Path) -> Holder | None:
    """Who made it; None where that cannot be read."""
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _held(path: Path, folder: Path) -> str:
    holder = _holder(path)
    who = f"process {holder.process} on {holder.host}" if holder else "another process"
    return (
        f"{who} is harvesting into {str(folder)!r}; wait until it ends, harvest into another folder, or delete "
        f"{str(path)!r} if there is no such process."
    )
