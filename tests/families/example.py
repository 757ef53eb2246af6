"""One network of a family, with an input and what is explained of it."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from pellucid.targets import AbstractTarget


@dataclass(frozen=True, kw_only=True)
class Example:
    """A network to trace."""

    family: str
    """Recurrent, segmentation, mixture of experts, ..."""
    model: str
    """What the network is called."""
    weights: Literal["real", "trained here", "random"]
    module: nn.Module
    inputs: Any
    """What ``pellucid.trace`` is given: a tensor, a tuple or a dict."""
    target: AbstractTarget | None
    note: str = ""
    """What a reader of the table should know."""
