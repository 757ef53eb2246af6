"""Progress of training on a terminal: one line for each autoencoder."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pellucid.progress import SECONDS_BEFORE_SHOWN, is_hidden
from pellucid.sae.trainer import Step

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN = 0.2


class Display:
    """What training says of itself on standard error; nothing where that is no terminal."""

    def __init__(self, names: list[str], steps: int, done: int) -> None:
        self._names, self._steps, self._done = names, steps, done
        self._wanted = sys.stderr.isatty() and not is_hidden()
        self._begun = self._last = time.monotonic()
        self._bar: Progress | None = None

    def show(self, found: Mapping[str, Step], widths: Mapping[str, int], speed: float) -> None:
        """Draw what the last step said; a few times a second."""
        now = time.monotonic()
        if not self._wanted or now - self._begun < SECONDS_BEFORE_SHOWN or now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        if self._bar is None:
            self._bar = self._made()
            self._bar.start()
        for task, name in zip(self._bar.task_ids, self._names, strict=True):
            said = sentence(found[name], widths[name], speed)
            self._bar.update(task, completed=found[name].step, said=said)

    def close(self) -> None:
        """Clear it."""
        if self._bar is not None:
            self._bar.stop()

    def _made(self) -> "Progress":
        # Most short trainings end before it is needed.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[said]}"))
        bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True)
        for name in self._names:
            bar.add_task(name, total=self._steps, completed=self._done, said="")
        return bar


def sentence(step: Step, width: int, speed: float) -> str:
    """Loss, L0, FVU, share of dead latents and tokens a second, in one line."""
    dead = f"dead {step.dead / width:.1%}"
    return f"loss {step.loss:.4g}  L0 {step.l0:.1f}  FVU {step.fvu:.3f}  {dead}  {speed:,.0f} tokens/s"


@contextmanager
def displayed(names: list[str], steps: int, done: int) -> Iterator[Display]:
    """A display that is cleared in the end."""
    found = Display(names, steps, done)
    try:
        yield found
    finally:
        found.close()
