"""Ctrl-C between two steps, so that what is saved is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interruption:
    """Whether Ctrl-C was pressed."""

    asked: bool = False


@contextmanager
def deferred() -> Iterator[Interruption]:
    """Note the first Ctrl-C instead of raising it; the second one raises, for whoever cannot wait.

    Outside the main thread, which signals never reach, nothing is changed.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def noted(number: int, frame: FrameType | None) -> Any:
        if found.asked:
            raise KeyboardInterrupt
        found.asked = True

    before = signal.signal(signal.SIGINT, noted)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
