"""What models of pictures and of table rows share: the input is one tensor, which gradients reach directly."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.models.base import AbstractEmbedded, AbstractInputs, BoundTarget, Meter
from pellucid.models.classifier import AbstractClassifier, scored
from pellucid.targets import Alternative


@dataclass(frozen=True)
class TensorInputs(AbstractInputs):
    """An input that is one tensor, without a batch dimension."""

    row: Float[Tensor, "*shape"]
    """What the network reads, normalised."""

    @property
    def positions(self) -> int:
        return self.row.shape[-1] if self.row.ndim == 1 else self.row[0].numel()


TensorInputsT = TypeVar("TensorInputsT", bound=TensorInputs)


class AbstractTensorClassifier(AbstractClassifier[TensorInputsT, Tensor]):
    """A classifier of tensors.

    A picture is a sequence of pixels, each a vector over channels; so is a table row of encoded columns, each a vector
    of one number.
    The network is asked in evaluation mode and otherwise left as it is. It takes a batch of tensors and returns logits,
    as a tensor or as an attribute ``logits``.
    """

    def __init__(self, module: torch.nn.Module, labels: Sequence[str], *, name: str) -> None:
        self.module, self.name = module, name or type(module).__name__
        self._labels = [str(label) for label in labels]
        self.meter = Meter()

    @property
    def labels(self) -> list[str]:
        return self._labels

    def run(self, batch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch class ..."]:
        """One call of the network, the only one there is. Raises ModelError where its output is not what it should be.

        Logits are [batch, class], or what ``checked`` lets through.
        """
        with self.evaluating():
            try:
                out = self.module(batch.to(self.like))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise ModelError(f"{self.name} cannot read a batch of shape {list(batch.shape)}: {reason}.") from error
        self.meter.forwards += 1
        self.meter.rows += len(batch)
        self.meter.tokens += len(batch) * (batch[0].numel() // (batch.shape[1] if batch.ndim > 2 else 1))
        return self.checked(out, len(batch))

    def checked(self, out: Any, count: int) -> Float[Tensor, "batch class ..."]:
        """The logits in what the network gave for ``count`` inputs. Raises ModelError where they are none."""
        logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
        if not isinstance(logits, Tensor) or logits.shape != (count, len(self.labels)):
            given = list(logits.shape) if isinstance(logits, Tensor) else type(out).__name__
            raise ModelError(
                f"{self.name} gave {given} for {count} inputs; with {len(self.labels)} labels its logits are "
                f"{[count, len(self.labels)]}."
            )
        return logits

    def scored(self, logits: Float[Tensor, "batch class ..."], target: BoundTarget) -> list[Alternative]:
        """Each alternative of a target, differentiable in the logits."""
        return scored(logits, target)

    def logits(self, rows: Sequence[Tensor] | Float[Tensor, "batch ..."]) -> Float[Tensor, "batch class ..."]:
        with torch.no_grad():
            return self.run(rows if isinstance(rows, Tensor) else torch.stack(list(rows)))

    def alternatives(
        self, rows: Sequence[Tensor] | Float[Tensor, "batch ..."], target: BoundTarget
    ) -> list[Alternative]:
        return self.scored(self.logits(rows), target)

    def embedded(self, inputs: TensorInputsT, target: BoundTarget, offset: int) -> AbstractEmbedded:
        # No position comes before another, so that nothing can be computed once for all.
        return _EmbeddedTensor(self, inputs, target)

    @abstractmethod
    def to_sequence(self, tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*batch seq dim"]:
        """The tensor as a sequence of vectors; leading dimensions stay."""

    @abstractmethod
    def to_tensor(self, sequence: Float[Tensor, "batch seq dim"], inputs: TensorInputsT) -> Float[Tensor, "batch ..."]:
        """The sequence as the network takes it: the inverse of ``to_sequence``."""

    @abstractmethod
    def background(self, given: Sequence[Any] = ()) -> Float[Tensor, "row ..."]:
        """The given background inputs, or the model's own, encoded. Raises InputError without any."""

    @contextmanager
    def nudged(self, inputs: TensorInputsT, radius: float, seed: int) -> Iterator[TensorInputsT]:
        # The network reads numbers that are standardised: over the training data their deviation is 1.
        generator = torch.Generator().manual_seed(seed)
        noise = 2 * torch.rand(inputs.row.shape, generator=generator) - 1
        yield self.moved(inputs, inputs.row + radius * noise.to(inputs.row))

    def moved(self, inputs: TensorInputsT, row: Tensor) -> TensorInputsT:
        """The same input with another tensor."""
        return replace(inputs, row=row)


class _EmbeddedTensor(AbstractEmbedded):
    """A tensor whose positions are arguments."""

    offset = 0

    def __init__(self, model: AbstractTensorClassifier[Any], inputs: TensorInputs, target: BoundTarget) -> None:
        self._model, self._inputs, self._target = model, inputs, target
        self.embeddings = model.to_sequence(inputs.row.to(model.like))

    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        logits = self._model.run(self._model.to_tensor(embeddings, self._inputs))
        return self._target.target.score(self._model.scored(logits, self._target))  # type: ignore[no-any-return]
