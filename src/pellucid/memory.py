"""The memory that a piece of work takes."""

import sys
import threading
from types import TracebackType
from typing import final

import psutil

_SECONDS_BETWEEN_SAMPLES = 0.01


@final
class PeakMemory:
    """Resident memory of this process while something runs, sampled every ten milliseconds by a thread of its own.

    What is freed meanwhile counts against what is taken, so here everything that can be freed is freed before.

    >>> import gc
    >>> _ = gc.collect()
    >>> with PeakMemory() as memory:
    ...     block = bytearray(5 * 10**8)
    >>> memory.above_bytes > 45 * 10**7
    True
    """

    before_bytes: int = 0
    """Resident memory at the start."""
    peak_bytes: int = 0
    """The highest that was seen."""
    gpu_bytes: int | None = None
    """Highest GPU memory above that at the start; None without a GPU."""

    def __enter__(self) -> "PeakMemory":
        self._process = psutil.Process()
        self.before_bytes = self.peak_bytes = self._process.memory_info().rss
        self._gpu_before = _gpu_start()
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="pellucid-memory", daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._look()
        self._ended.set()
        self._sampler.join()
        if self._gpu_before is not None:
            import torch

            self.gpu_bytes = max(0, torch.cuda.max_memory_allocated() - self._gpu_before)

    @property
    def above_bytes(self) -> int:
        """The highest above the start."""
        return self.peak_bytes - self.before_bytes

    def _sample(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_SAMPLES):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)


def _gpu_start() -> int | None:
    """GPU memory in use, with the peak counter started anew; None without a GPU. Torch is not loaded for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())
