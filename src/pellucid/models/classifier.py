"""What all classifiers share: labels, the binding of a target to them, and their scores."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError
from pellucid.models.base import AbstractModel, BoundTarget, InputsT, RowT, alternative
from pellucid.targets import AbstractPlace, AbstractTarget, Alternative, Choice, Generated, Logit, Margin, Token


class AbstractClassifier(AbstractModel[InputsT, RowT]):
    """A network that gives an input one of several labels."""

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """The class labels, in the order of the logits."""

    @abstractmethod
    def logits(self, rows: Sequence[RowT]) -> Float[Tensor, "batch class"]:
        """One call of the network on several rows, without gradients."""

    def bind(self, target: AbstractTarget | None, inputs: InputsT) -> BoundTarget:
        """Make a target concrete: names become class indices. The default is the margin of the predicted class."""
        target = Margin() if target is None else target
        if isinstance(target, Generated):
            raise InputError("a classifier generates no text; explain a Margin, a Logit or a Choice of labels.")
        if isinstance(target, AbstractPlace):
            raise InputError(
                f"{self.name} labels its whole input, which has no places for a {type(target).__name__}; explain a "
                "Margin, a Logit or a Choice of labels."
            )
        if isinstance(target, Logit | Margin | Token) and not isinstance(target.label, str):
            index = self._preferred(inputs) if target.label is None else self._existing(target.label)
            target = target.model_copy(update={"label": self._named(index)})
            classes: tuple[tuple[int, ...], ...] = ((index,),)
        else:
            classes = tuple((self._class(label),) for label in target.alternatives)
        if isinstance(target, Choice) and target.chosen is None:
            scores = target.all.score(self.alternatives([inputs.row], BoundTarget(target, classes, ())))
            target = target.model_copy(update={"chosen": target.options[int(scores[0].argmax())]})
        names = target.output_names([[self.labels[index]] for (index,) in classes])
        return BoundTarget(target, classes, tuple(names))

    def predicted(self, inputs: InputsT) -> str:
        """The label that the network gives to an input."""
        return self.labels[self._preferred(inputs)]

    def alternatives(self, rows: Sequence[RowT], target: BoundTarget) -> list[Alternative]:
        return scored(self.logits(rows), target)

    def _preferred(self, inputs: InputsT) -> int:
        return int(self.logits([inputs.row])[0].argmax())

    def _existing(self, index: int) -> int:
        if not 0 <= index < len(self.labels):
            raise InputError(
                f"{self.name} has no class {index}: its {len(self.labels)} classes are 0 to {len(self.labels) - 1}."
            )
        return index

    def _named(self, index: int) -> str | int:
        """A class by its label, or by its index where another one has the same."""
        label = self.labels[index]
        return label if self.labels.count(label) == 1 else index

    def _class(self, label: str) -> int:
        if label not in self.labels:
            raise UnknownNameError("label of this classifier", label, self.labels)
        if self.labels.count(label) > 1:
            places = [index for index, each in enumerate(self.labels) if each == label]
            raise InputError(f"{self.name} calls several classes {label!r}: give one of the indices {places}.")
        return self.labels.index(label)


def scored(logits: Float[Tensor, "batch class"], target: BoundTarget) -> list[Alternative]:
    """Each alternative of a target over classes."""
    classes = [torch.tensor(index, device=logits.device) for index in target.alternatives]
    return [alternative(logits[:, None], index) for index in classes]
