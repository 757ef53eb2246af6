"""A progress bar on standard error for work that turns out to take more than two seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BEFORE_SHOWN = 2.0
Advance = Callable[[int], None]
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


def is_hidden() -> bool:
    """Whether bars are hidden here."""
    return _hidden.get()


@contextmanager
def hidden() -> Iterator[None]:
    """Show no bar inside: for a caller that draws its own progress."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """Yield ``advance(steps)``. A bar appears only on a terminal, after two seconds, and clears itself."""
    wanted = sys.stderr.isatty() and not is_hidden()
    begun, done = time.monotonic(), 0
    bar: Progress | None = None

    def advance(steps: int) -> None:
        nonlocal bar, done
        done += steps
        if wanted and bar is None and time.monotonic() - begun > SECONDS_BEFORE_SHOWN:
            bar = _bar(label, total)
            bar.start()
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _bar(label: str, total: int | None) -> "Progress":
    # Most work is over before a bar is shown, and should not wait for one to be built.
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(file=sys.stderr), transient=True)
    bar.add_task(label, total=total)
    return bar


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner on a terminal, for one long step that cannot say how far it is."""
    from rich.console import Console

    if is_hidden() or not sys.stderr.isatty():
        yield
        return
    with Console(file=sys.stderr).status(label):
        yield
