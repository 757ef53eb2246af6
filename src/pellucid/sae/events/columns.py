"""Columns of numbers on disk: written once from the front to the back, read without being loaded."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import RecordError

Append = Callable[[np.ndarray], None]


@contextmanager
def column(path: Path, dtype: Any, count: int) -> Iterator[Append]:
    """Yield ``append(numbers)``; ``path`` is there as one ``.npy`` when all ``count`` numbers came, and not before.

    Written and not mapped, because a mapped file on a full disk kills the process and a written one raises OSError,
    which is told as a RecordError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    written = 0
    try:
        with _told(path):
            # Unbuffered, so that nothing is left to be written when it is closed.
            file = temporary.open("wb", buffering=0)
        with file:
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
            )
            _write(file, path, header.getbuffer())

            def append(numbers: np.ndarray) -> None:
                nonlocal written
                written += len(numbers)
                _write(file, path, np.ascontiguousarray(numbers, dtype=dtype).view(np.uint8).data)

            yield append
            if written != count:
                raise RecordError(f"{path.name} would hold {written} numbers and not {count}; delete its folder.")
            with _told(path):
                os.fsync(file.fileno())
        with _told(path):
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write(file: io.RawIOBase, path: Path, content: memoryview) -> None:
    """All of it, which one call need not take."""
    with _told(path):
        while len(content):
            content = content[file.write(content) :]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{str(path)!r} cannot be written ({error.strerror}); free the space and write the events again: what was "
            "encoded before is kept."
        ) from None


def mapped(path: Path, count: int) -> np.ndarray:
    """A column as an array that reads from the disk what is asked of it. Raises RecordError where it is damaged."""
    try:
        # There is nothing to map in a column without numbers.
        found = np.load(path, mmap_mode="r" if count else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordError(f"{str(path)!r} cannot be read ({error}); write the events again.") from None
    if found.shape != (count,):
        raise RecordError(f"{str(path)!r} holds {found.shape} numbers and not {count}; write the events again.")
    return np.asarray(found)
