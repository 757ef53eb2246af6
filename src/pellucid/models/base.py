"""What every model gives: encoding, features, scores, a fingerprint, and a meter of what was spent."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import NumericalError
from pellucid.facts import Modality
from pellucid.records import Feature, Fingerprint
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


class AbstractInputs(ABC):
    """An encoded input: a sequence of positions, each of which holds one vector."""

    row: Any
    """What the network reads of it: a sequence of tokens, or a tensor."""

    @property
    @abstractmethod
    def positions(self) -> int:
        """How many positions there are: tokens, pixels, encoded columns."""


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


class Baseline(NamedTuple):
    """What stands in for absent positions."""

    embedding: Float[Tensor, "*draw dim"] | Float[Tensor, "*draw seq dim"]
    """One vector for all positions, or one for each; several draws where it is random."""
    described: str
    """What is written into the result."""


class AbstractEmbedded(ABC):
    """An input as a differentiable function of its embeddings, for the methods that take gradients.

    Only the positions from ``offset`` on are arguments; those before it hold no feature and are computed once.
    """

    embeddings: Float[Tensor, "seq dim"]
    """Embedding of every position from ``offset`` on."""
    offset: int
    """Position of the first embedding in the encoded input."""
    by_place: bool = False
    """Whether the numbers of a position stand for places, and the score of each place is wanted too."""
    where: str = "the input"
    """What the embeddings are, in a sentence."""
    joined: Sequence[Tensor] = ()
    """What the last call put into the network in their stead, where they are parts of what passes there."""

    @abstractmethod
    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        """The target, differentiable in the embeddings."""


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Inside, dropout is off; afterwards every part of the module is in the mode that it was in."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


InputsT = TypeVar("InputsT", bound=AbstractInputs)
RowT = TypeVar("RowT")


class AbstractModel(ABC, Generic[InputsT, RowT]):
    """A network together with what it takes to ask it.

    ``InputsT`` is an encoded input, ``RowT`` one row of a batch: a sequence of tokens, a picture, a row of a table.
    """

    modality: Modality
    name: str
    module: torch.nn.Module
    meter: Meter
    load_seconds: float = 0.0
    """How long loading took; 0 for a module from memory."""
    disk_bytes: int = 0
    """Size of the weights' files; 0 where there is none."""
    differentiable: bool = True
    """Whether gradients reach the input; False for trees, which no method that needs a gradient can explain."""

    @property
    def device(self) -> torch.device:
        """Where the network's parameters live; the CPU for a network without any."""
        return self.like.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; float32 for a network without any numbers of its own."""
        return self.like.dtype

    @property
    def like(self) -> Tensor:
        """Some tensor of the network, to move an input to its device and dtype; empty for a network without any."""
        held = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((each for each in held if each.is_floating_point()), torch.empty(0))

    def evaluating(self) -> AbstractContextManager[None]:
        """Inside, dropout is off; afterwards every part of the module is in the mode that it was in."""
        return evaluating(self.module)

    # The input and its features

    @abstractmethod
    def encode(self, raw: Any) -> InputsT:
        """Encode an input. Raises InputError where it is empty, ContextLengthError where it is too long."""

    @abstractmethod
    def features(self, inputs: InputsT, kind: str) -> tuple[Feature, ...]:
        """The features of one kind. Raises UnknownNameError on another kind, InputError where there are none."""

    @abstractmethod
    def default_kind(self, inputs: InputsT) -> str:
        """The kind of feature that is explained where none is named."""

    def divided(self, inputs: InputsT, kind: str) -> InputsT:
        """The input with the places of its features, where finding them is worth doing only once."""
        return inputs

    @abstractmethod
    def owners(self, inputs: InputsT, features: Sequence[Feature]) -> Int[Tensor, " seq"]:
        """For each position the index of the feature that it belongs to, or -1."""

    def ladder(self, inputs: InputsT, kind: str) -> dict[str, tuple[Feature, ...]]:
        """The coarser features that those of ``kind`` can be summed up to, finest first."""
        return {}

    def drawing(self, inputs: InputsT) -> dict[str, np.ndarray]:
        """What it takes to draw the input beside its scores, as arrays of an ``Explanation``."""
        return {}

    # The target

    @abstractmethod
    def bind(self, target: AbstractTarget | None, inputs: InputsT) -> BoundTarget:
        """Make a target concrete on this input; None stands for the model's default target."""

    @abstractmethod
    def predicted(self, inputs: InputsT) -> str:
        """What the model itself says: the label of a classifier, the next token of a language model."""

    @abstractmethod
    def alternatives(self, rows: Sequence[RowT], target: BoundTarget) -> list[Alternative]:
        """Score the target's alternatives on each row, plainly: one padded batch, no reuse of anything."""

    @abstractmethod
    def embedded(self, inputs: InputsT, target: BoundTarget, offset: int) -> AbstractEmbedded:
        """The input as a function of the embeddings from position ``offset`` on."""

    # What stands for an absent position

    @abstractmethod
    def preferred_baseline(self) -> str:
        """The name of the baseline embedding that is used where none is named."""

    @abstractmethod
    def baseline(self, name: str, inputs: InputsT) -> Baseline:
        """The embedding that stands for an absent position. Raises UnknownNameError, InputError where it has none."""

    @abstractmethod
    def background_draws(
        self, inputs: InputsT, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """``count`` whole baselines drawn from ``background``, or from the model's own. Raises InputError without."""

    @abstractmethod
    def nudged(self, inputs: InputsT, radius: float, seed: int) -> AbstractContextManager[InputsT]:
        """Inside, the model reads the input moved by noise; afterwards it is as it was.

        The noise is uniform in [-1, 1], times ``radius``, times the deviation of what the network reads: that of the
        text's embeddings, or 1 for the standardised numbers of a picture or a table row.
        """

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
