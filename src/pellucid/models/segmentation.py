"""Networks that give every place of a picture a label."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError, ModelError
from pellucid.models.base import BoundTarget
from pellucid.models.pictures import AbstractImageModel, ImageInputs
from pellucid.models.places import at_places
from pellucid.targets import AbstractPlace, AbstractTarget, Alternative, Pixel, Region, predicted_classes

BACKGROUND = "background"
"""The name of a first label that counts as no prediction."""


class Segmentation(AbstractImageModel):
    """A network that gives every place of a picture one of several labels, or, with one label, that label or none.

    Targets are a ``Region`` and a ``Pixel`` of its output, which may be smaller than the picture; the default is the
    region of the label that it gives to most places, other than a first label ``background``.

    Args:
        module: takes [batch, channel, height, width] and returns logits [batch, class, height, width], as a tensor, as
            an attribute ``logits`` or under the key ``out``.
        labels: the class labels, in the order of the logits.
        preprocessing: how a picture becomes what the network reads.
        name: what to call the model in results.
        background: pictures that stand for the data, to draw absent parts and baselines from.
    """

    def checked(self, out: Any, count: int) -> Float[Tensor, "batch class height width"]:
        logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
        if logits is None and isinstance(out, Mapping):
            logits = out.get("out", out.get("logits"))
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[:2] != (count, len(self.labels)):
            given = list(logits.shape) if isinstance(logits, Tensor) else type(out).__name__
            raise ModelError(
                f"{self.name} gave {given} for {count} inputs; with {len(self.labels)} labels its logits are "
                f"[{count}, {len(self.labels)}, height, width]."
            )
        return logits

    def bind(self, target: AbstractTarget | None, inputs: ImageInputs) -> BoundTarget:
        """Make a target concrete on this picture: the label and the region that the network predicts, where not given.

        Costs a forward pass where something of the target is left to the network.
        """
        target = Region() if target is None else target
        if not isinstance(target, Region | Pixel):
            raise InputError(
                f"{self.name} gives a label to every place of a picture: explain Region(class, mask) or "
                f"Pixel(class, y, x), not a {type(target).__name__}."
            )
        index = self._index(target)
        found: AbstractPlace = target.model_copy(update={"class_": index})
        if index is None or (target.runs if isinstance(target, Region) else target.size) is None:
            found = found.resolved(self._of(inputs), self._background_class, self.labels)
        assert isinstance(found.class_, int)
        index = found.class_
        found = found.model_copy(update={"class_": self._named(index)})
        return BoundTarget(found, ((index,),), tuple(found.output_names([[self.labels[index]]])))

    def predicted(self, inputs: ImageInputs) -> str:
        """The label that the network gives to most places of a picture, other than background."""
        shares = {label: share for label, share in self.shares(inputs).items() if label != self._nothing}
        best = max(shares, key=shares.__getitem__)
        return best if shares[best] else self._nothing or f"no {best}"

    def shares(self, inputs: ImageInputs) -> dict[str, float]:
        """The share of the picture that the network gives to each label."""
        said = predicted_classes(self._of(inputs))[0]
        return {label: float((said == index).float().mean()) for index, label in enumerate(self.labels)}

    def scored(self, logits: Float[Tensor, "batch class height width"], target: BoundTarget) -> list[Alternative]:
        """Each alternative with its logit at every place of the target."""
        return [at_places(target.target, logits, index) for (index,) in target.alternatives]

    def _of(self, inputs: ImageInputs) -> Float[Tensor, "1 class height width"]:
        return self.logits([inputs.row])

    def _index(self, target: Region | Pixel) -> int | None:
        if isinstance(target.class_, str):
            return self._class(target.class_)
        return None if target.class_ is None else self._existing(target.class_)

    @property
    def _nothing(self) -> str:
        return BACKGROUND if len(self.labels) > 1 and self.labels[0].lower() == BACKGROUND else ""

    @property
    def _background_class(self) -> int | None:
        return 0 if self._nothing else None
