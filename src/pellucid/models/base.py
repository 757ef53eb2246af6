"""What every model gives: encoding, features, scores, a fingerprint, and a meter of what was spent."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.errors import NumericalError
from pellucid.explanation import Feature, Fingerprint
from pellucid.models.template import Prompt
from pellucid.targets import AbstractTarget, Alternative


@dataclass
class Meter:
    """Counts what is asked of the network, exactly and at the one place where it is called."""

    forwards: int = 0
    """Calls of the network."""
    backwards: int = 0
    """Vector-Jacobian products."""
    rows: int = 0
    """Sequences in those calls."""
    tokens: int = 0
    """Positions computed in those calls, padding included."""

    def __sub__(self, before: "Meter") -> "Meter":
        return Meter(
            self.forwards - before.forwards,
            self.backwards - before.backwards,
            self.rows - before.rows,
            self.tokens - before.tokens,
        )

    def snapshot(self) -> "Meter":
        """A copy that later calls do not change."""
        return self - Meter()


class Row(NamedTuple):
    """One sequence of tokens as the network sees it."""

    ids: tuple[int, ...]
    """Token ids, special tokens and chat template included."""
    visible: tuple[bool, ...]
    """The attention mask."""

    @classmethod
    def of(cls, ids: Sequence[int]) -> "Row":
        """A row in which every token is visible."""
        return cls(tuple(ids), (True,) * len(ids))


class Batch(NamedTuple):
    """Several rows as tensors, padded on one side."""

    ids: Int[Tensor, "batch seq"]
    """Token ids."""
    visible: Bool[Tensor, "batch seq"]
    """Attention mask; False at padding, and at tokens that are hidden on purpose."""
    lengths: Int[Tensor, " batch"]
    """Length of each row without its padding."""


@dataclass(frozen=True)
class Inputs:
    """An encoded input: the prompt, its tokens, and where each token stands in the user's text."""

    prompt: Prompt
    """What the person gave."""
    row: Row
    """Its tokens."""
    spans: tuple[tuple[int, int] | None, ...]
    """Characters of the user's text that each token covers; None for a token of the template."""
    pieces: tuple[str, ...]
    """Each token as readable text."""


@dataclass(frozen=True)
class BoundTarget:
    """A target made concrete on one input: nothing is left to the model's preference any more."""

    target: Any
    """The resolved target (a member of the ``Target`` union)."""
    alternatives: tuple[tuple[int, ...], ...]
    """Class index, or token ids, of each alternative that must be scored."""
    output_names: tuple[str, ...]
    """A name for each target."""

    @property
    def unit(self) -> str:
        """The unit of the explained scalar."""
        return str(self.target.unit)


class AbstractEmbedded(ABC):
    """An input as a differentiable function of its embeddings, for the methods that take gradients.

    Only the positions from ``offset`` on are arguments; those before it hold no feature and are computed once.
    """

    embeddings: Float[Tensor, "seq dim"]
    """Embedding of every position from ``offset`` on."""
    offset: int
    """Position of the first embedding in the encoded input."""

    @abstractmethod
    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        """The target, differentiable in the embeddings."""


class AbstractModel(ABC):
    """A network together with what it takes to ask it."""

    name: str
    module: torch.nn.Module
    meter: Meter
    load_seconds: float = 0.0
    """How long loading took; 0 for a module from memory."""
    disk_bytes: int = 0
    """Size of the weights' files; 0 where there is none."""

    @property
    def device(self) -> torch.device:
        """Where the network's parameters live."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.module.parameters()).dtype

    @abstractmethod
    def encode(self, raw: Any) -> Inputs:
        """Encode an input. Raises InputError where it is empty, ContextLengthError where it is too long."""

    @abstractmethod
    def features(self, inputs: Inputs, kind: str) -> tuple[Feature, ...]:
        """The features of one kind. Raises UnknownNameError on another kind, InputError where there are none."""

    @abstractmethod
    def bind(self, target: AbstractTarget | None, inputs: Inputs) -> BoundTarget:
        """Make a target concrete on this input; None stands for the model's default target."""

    @abstractmethod
    def alternatives(self, rows: Sequence[Row], target: BoundTarget) -> list[Alternative]:
        """Score the target's alternatives on each row, plainly: one padded batch, no reuse of anything."""

    @abstractmethod
    def embedded(self, inputs: Inputs, target: BoundTarget, offset: int) -> AbstractEmbedded:
        """The input as a function of the embeddings from position ``offset`` on."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What exactly is asked."""


def alternative(logits: Float[Tensor, "batch token vocab"], ids: Int[Tensor, " token"]) -> Alternative:
    """Score the tokens ``ids`` under logits of the same places. Raises NumericalError on NaN or infinite logits."""
    # Half precision is scored in single; double stays double.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).sum())
        raise NumericalError(
            f"the model returned {bad} NaN or infinite logits of {logits.numel()}; no explanation follows."
        )
    chosen = ids.view(1, -1, 1).expand(len(logits), -1, 1)
    rest = logits.scatter(2, chosen, -torch.inf).logsumexp(2)
    return Alternative(logits.gather(2, chosen).squeeze(2), rest)
