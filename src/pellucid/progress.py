"""A progress bar on standard error for work that turns out to take more than two seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(file=sys.stderr), transient=True)
    task = bar.add_task(label, total=total)
    begun, shown = time.monotonic(), False
    wanted = sys.stderr.isatty() and not is_hidden()

    def advance(steps: int) -> None:
        nonlocal shown
        bar.update(task, advance=steps)
        if wanted and not shown and time.monotonic() - begun > SECONDS_BEFORE_SHOWN:
            bar.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            bar.stop()


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner on a terminal, for one long step that cannot say how far it is."""
    from rich.console import Console

    if is_hidden() or not sys.stderr.isatty():
        yield
        return
    with Console(file=sys.stderr).status(label):
        yield
