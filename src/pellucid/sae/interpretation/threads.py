"""Several calls side by side, of which none outlives an interruption."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

LAST_SECONDS = 30.0
"""The longest that calls which have begun are waited for after an error."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(work: Callable[[Item, threading.Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """``work(item, stop)`` of each item, in order, in up to ``threads`` threads.

    The first error is raised here, after ``stop`` is set and what has begun has ended or ``LAST_SECONDS`` have gone by;
    Ctrl-C at once. ``work`` ends its pauses when ``stop`` is set. The threads are daemons: one that hangs in a call
    keeps no process alive.
    """
    stop = threading.Event()
    waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Result | BaseException]] = queue.SimpleQueue()
    for number, item in enumerate(items):
        waiting.put((number, item))

    def run() -> None:
        while not stop.is_set():
            try:
                number, item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, work(item, stop)))
            except BaseException as error:
                done.put((number, error))

    running = [threading.Thread(target=run, name="pellucid-ask", daemon=True) for _ in range(min(threads, len(items)))]
    for thread in running:
        thread.start()
    results: dict[int, Result] = {}
    try:
        while len(results) < len(items):
            number, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[number] = result
    except Exception:
        # What has begun is paid for: its answers are to be kept and counted.
        stop.set()
        for thread in running:
            thread.join(LAST_SECONDS)
        raise
    finally:
        stop.set()
    return [results[number] for number in range(len(items))]
