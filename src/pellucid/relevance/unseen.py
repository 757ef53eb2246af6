"""What a network computes where no function of torch can be seen: scripted functions, extensions."""

from typing import Any

import torch


class Unseen:
    """Watches autograd's count of operations, which goes on where the engine sees none."""

    def __init__(self) -> None:
        self._count = _count()
        self._spans: list[range] = []

    def notice(self) -> None:
        """Called where the engine begins to look."""
        count = _count()
        if count > self._count:
            self._spans.append(range(self._count, count))

    def settle(self) -> None:
        """Called where the engine has looked, or has worked itself."""
        self._count = _count()

    def made(self, node: Any) -> bool:
        """Whether a node of the graph was made while nobody looked."""
        return bool(self._spans) and any(node._sequence_nr() in span for span in self._spans)


def _count() -> int:
    count: int = torch._C._autograd._get_sequence_nr()
    return count
