"""Targets over one class at some places of an output: a region or a pixel of a picture, a box, a step.

What is explained is the logit, the mean over the places: the mean, so that masks of different sizes compare.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from pellucid.errors import InputError
from pellucid.targets.base import AbstractTarget, Alternative
from pellucid.targets.masks import RunLengths, by


class AbstractPlace(AbstractTarget):
    """A target over one class at some places of the output."""

    class_: int | str | None = None
    """The class by index or label; None stands for the one that the network predicts there."""
    unit: ClassVar[str] = "logit"
    layout: ClassVar[str]
    """The output that it needs, in words."""

    def __init__(self, class_: int | str | None = None, **named: Any) -> None:
        super().__init__(class_=class_, **named)

    @abstractmethod
    def places(self, logits: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch place class"]:
        """The logits of all classes at its places. Raises InputError where the output has no such places."""

    def resolved(
        self, logits: Float[Tensor, "1 ..."], background: int | None = None, labels: Sequence[str] = ()
    ) -> "AbstractPlace":
        """The same target with what the network itself predicts in place of every None.

        ``background`` is a class that counts as no prediction; errors name classes by ``labels``. Raises
        InputError as ``places``, and where the class does not exist.
        """
        if self.class_ is None:
            return self.model_copy(update={"class_": int(self.places(logits)[0].mean(0).argmax())})
        self.check_class(self.places(logits).shape[2])
        return self

    def check_class(self, count: int) -> None:
        """Raises InputError where the class is an index beyond the ``count`` that there are."""
        if isinstance(self.class_, int) and not 0 <= self.class_ < count:
            there = f"classes 0 to {count - 1}" if count > 1 else "one class, 0"
            raise InputError(f"class {self.class_} does not exist: the network's output has {there}.")

    @property
    def alternatives(self) -> tuple[str, ...]:
        return () if self.class_ is None else (str(self.class_),)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        (alternative,) = alternatives
        return alternative.logit.mean(1, keepdim=True)

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return [tokens[0][0]]

    def _refuse(self, logits: Tensor) -> None:
        raise InputError(
            f"{type(self).__name__} needs an output {self.layout}, and this network's has the shape "
            f"{list(logits.shape)}; use Region or Pixel of [batch, class, height, width], Box or Step of a sequence, "
            "and Logit or Margin of [batch, class]."
        )


class Region(AbstractPlace):
    """The mean logit of a class over a mask.

    The mask has the size of the network's output, which may be smaller than the picture. Without one it is where the
    network itself predicts the class; without a class too, the class that it predicts in most places.
    """

    kind: Literal["region"] = "region"
    runs: RunLengths | None = None
    """The mask; None stands for where the network predicts the class."""
    layout = "[batch, class, height, width] (or [batch, class, depth, height, width])"

    def __init__(self, class_: int | str | None = None, mask: Any = None, **named: Any) -> None:
        """``mask``: bool [height, width] as an array, nested lists, a tensor or a PIL image of two values."""
        runs = {} if mask is None else {"runs": mask if isinstance(mask, RunLengths) else RunLengths.of(mask)}
        super().__init__(class_=class_, **runs, **named)

    @property
    def mask(self) -> Bool[np.ndarray, "*size"] | None:
        """The mask as an array; None where it is still the network's own."""
        return None if self.runs is None else self.runs.array

    def places(self, logits: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch place class"]:
        if logits.ndim not in (4, 5):
            self._refuse(logits)
        if self.runs is None:
            raise InputError("this region has no mask; ask a model to bind it first.")
        size = tuple(logits.shape[2:])
        if self.runs.size != size:
            raise InputError(
                f"the mask is {by(self.runs.size)} and the network's output {by(size)}: give a mask of the output's "
                "size."
            )
        mask = torch.from_numpy(self.runs.array.ravel()).to(logits.device)
        return logits.flatten(2)[:, :, mask].transpose(1, 2)

    def resolved(
        self, logits: Float[Tensor, "1 ..."], background: int | None = None, labels: Sequence[str] = ()
    ) -> "Region":
        if logits.ndim not in (4, 5):
            self._refuse(logits)
        self.check_class(logits.shape[1])
        if self.runs is not None:
            self.places(logits)
        said = predicted_classes(logits)[0]
        class_ = self.class_
        if class_ is None:
            there = said if self.runs is None else said[torch.from_numpy(self.runs.array).to(said.device)]
            class_ = _commonest(there, logits.shape[1], background if self.runs is None else None)
        runs = self.runs
        if runs is None:
            mask = said.cpu().numpy() == class_
            if not mask.any():
                name = repr(labels[int(class_)]) if labels else f"class {class_}"
                raise InputError(f"the network predicts {name} nowhere in this input; give a mask.")
            runs = RunLengths.of(mask)
        return self.model_copy(update={"class_": class_, "runs": runs})


class Pixel(AbstractPlace):
    """The logit of a class at one pixel, row ``y`` and column ``x`` of the network's output, from 0 at the top left."""

    kind: Literal["pixel"] = "pixel"
    y: int = Field(ge=0)
    """Row, from the top."""
    x: int = Field(ge=0)
    """Column, from the left."""
    size: tuple[int, int] | None = None
    """Height and width of the output, filled in when a model binds the target."""
    layout = "[batch, class, height, width]"

    def __init__(self, class_: int | str | None, y: int, x: int, **named: Any) -> None:
        super().__init__(class_=class_, y=y, x=x, **named)

    def places(self, logits: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch place class"]:
        if logits.ndim != 4:
            self._refuse(logits)
        height, width = logits.shape[2:]
        if self.y >= height or self.x >= width:
            raise InputError(
                f"pixel y={self.y}, x={self.x} lies outside the network's output, which is {height} x {width}: y goes "
                f"to {height - 1} and x to {width - 1}."
            )
        return logits[:, :, self.y, self.x][:, None]

    def resolved(
        self, logits: Float[Tensor, "1 ..."], background: int | None = None, labels: Sequence[str] = ()
    ) -> AbstractPlace:
        return super().resolved(logits).model_copy(update={"size": tuple(logits.shape[2:])})

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        return [f"{tokens[0][0]} at y={self.y}, x={self.x}"]


class _OfSequence(AbstractPlace):
    layout = "[batch, sequence, class]"
    what: ClassVar[tuple[str, str]]

    def __init__(self, class_: int | str | None, **named: Any) -> None:
        super().__init__(class_=class_, **named)

    def _at(self, place: int, logits: Tensor) -> Float[Tensor, "batch 1 class"]:
        if logits.ndim != 3:
            self._refuse(logits)
        one, several = self.what
        if place >= logits.shape[1]:
            raise InputError(
                f"{one} {place} does not exist: the network's output has {several} 0 to {logits.shape[1] - 1}."
            )
        return logits[:, [place]]

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        one, _ = self.what
        return [f"{tokens[0][0]} at {one} {getattr(self, one)}"]


class Box(_OfSequence):
    """The logit of a class of one box that a detector of the DETR type predicts.

    A class of None may be the last one there, which in most such networks means that there is no object.
    """

    kind: Literal["box"] = "box"
    query: int = Field(ge=0)
    """The box's place in the output, from 0."""
    layout = "[batch, query, class]"
    what = ("query", "queries")

    def __init__(self, class_: int | str | None, query: int, **named: Any) -> None:
        super().__init__(class_=class_, query=query, **named)

    def places(self, logits: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch place class"]:
        return self._at(self.query, logits)


class Step(_OfSequence):
    """The logit of a class at one step of a sequence of predictions, such as the text that a picture shows."""

    kind: Literal["step"] = "step"
    step: int = Field(ge=0)
    """The step, from 0."""
    layout = "[batch, step, class]"
    what = ("step", "steps")

    def __init__(self, class_: int | str | None, step: int, **named: Any) -> None:
        super().__init__(class_=class_, step=step, **named)

    def places(self, logits: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch place class"]:
        return self._at(self.step, logits)


def predicted_classes(logits: Float[Tensor, "batch class ..."]) -> Int[Tensor, "batch ..."]:
    """The class of the largest logit at each place; of one class alone 0 where its logit is above 0, else -1."""
    return logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long() - 1


def _commonest(said: Int[Tensor, "..."], count: int, background: int | None) -> int:
    """The class of the most places, the first of several; a single class also where no place has it."""
    places = torch.bincount(said[said >= 0].flatten(), minlength=count)
    if background is not None:
        places[background] = 0
        if not places.any():
            raise InputError("the network predicts nothing but background in this input; name a class and a mask.")
    return int(places.argmax())
