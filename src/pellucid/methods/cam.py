"""Class activation maps: where a layer's activations and the target's gradients meet."""

from abc import abstractmethod
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.attention import single
from pellucid.errors import InputError, ModelError, NumericalError, UnknownNameError
from pellucid.facts import Facts
from pellucid.games import Question, summed
from pellucid.methods.attention import Watched
from pellucid.methods.attention_pixels import cutting
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.methods.cam_layers import (
    Layer,
    Places,
    Recording,
    is_block_or_grid,
    of_picture,
    of_text,
    recording,
)
from pellucid.methods.cam_maps import grad_cam, grad_cam_plus_plus, layer_cam
from pellucid.methods.latents import LatentQuestion
from pellucid.models.pictures import ImageInputs
from pellucid.records import Check

_NOTHING = Check(
    name="nothing",
    value=0.0,
    threshold=0.0,
    passed=False,
    decisive=False,
    detail="the map is 0 everywhere: nothing at this layer speaks for the target, and the rest is cut off.",
)


def _facts(name: str, title: str, source: str) -> Facts:
    return Facts(
        name=name,
        title=title,
        unit="activation x gradient",
        family="gradient",
        modalities=("text", "image"),
        needs=("gradient",),
        signed=False,
        cost="1 forward pass and 1 backward pass a target, 2 where the last layer is read at one place",
        source=source,
    )


class AbstractCam(AbstractMethod):
    """A map over the places of one layer, from its activations and the target's gradients there.

    The layer is the last one whose gradient reaches more than one place: of a convolutional network the last with a
    grid, of a transformer the last block but one where the head reads one token. Grids are enlarged bilinearly to the
    picture, a patch's token stands for its pixels in equal parts; a feature has the sum over its pixels or tokens.
    Nothing is taken away: no baseline stands for anything absent, and ``base_values`` are the ``full_values``.
    Raises ModelError for a network without such a layer, for a layer that is written into later, and for a target
    that takes several calls.
    """

    layer: str | None = None
    """The module whose output is looked at, in the last of its calls; None: see above. The result names it."""

    def rows(self, players: int) -> int:
        return 1

    @abstractmethod
    def of_places(
        self, activations: Float[Tensor, "channel place"], gradients: Float[Tensor, "channel place"]
    ) -> Float[Tensor, " place"]:
        """The map of one target."""

    @final
    def attribute(self, question: Question) -> Attribution:
        if isinstance(question, LatentQuestion):
            raise InputError(f"{self.facts.name} has places of a picture or a text, and no latents; use occlusion.")
        # What is saved for a backward pass must not have been made in inference mode.
        with torch.inference_mode(mode=False), torch.enable_grad():
            call = _Call(question)
            name, places, activations, gradients = call.chosen(self.layer)
            maps = torch.stack([self.of_places(activations, each) for each in gradients])
        positions = places.spread(maps)
        owner = question.owners.to(positions.device)
        scores = call.scores.detach().double()[0].cpu().numpy()
        return Attribution(
            summed(positions, owner, len(question.features)),
            scores,
            scores,
            baseline="none: activations are not held against one",
            checks=() if bool(maps.any()) else (_NOTHING,),
            settings={"layer": name},
        )


class _Call:
    """One call of a question's network, whose layers are known."""

    def __init__(self, question: Question) -> None:
        model, inputs = question.model, question.inputs
        self._name, self._watched = model.name, Watched(question)
        self._default = is_block_or_grid(model.module)
        if isinstance(inputs, ImageInputs):
            with cutting(model.module, inputs.row) as cuts, recording(model.module) as record:
                self.scores = self._watched.call()
            found = [(each, of_picture(each, inputs.row, cuts)) for each in record.layers]
        else:
            with recording(model.module) as record:
                self.scores = self._watched.call()
            found = [(each, of_text(each, inputs.positions)) for each in record.layers]
        self._check(record)
        self._layers = [(each, places) for each, places in found if places is not None]

    def chosen(
        self, name: str | None
    ) -> tuple[str, Places, Float[Tensor, "channel place"], list[Float[Tensor, "channel place"]]]:
        """A layer's name and places, its activations, and the gradient of each target there.

        Raises UnknownNameError on a layer that has no places, ModelError where none can be used.
        """
        for layer, places in reversed(self._layers):
            if name not in (None, layer.name) or (name is None and not self._default(layer.name, places)):
                continue
            if name is not None and not layer.is_whole:
                raise ModelError(
                    f"what {name!r} gives is written into later in {self._name}, so that its map would be another "
                    "layer's; name the layer that writes, or leave layer out."
                )
            if not layer.is_whole:
                continue
            gradients = [places.read(each) for each in self._slopes(layer)]
            activations = places.read(single(layer.output))
            if name is not None or any(_reaches(each) for each in gradients):
                return layer.name, places, activations, gradients
        if name is not None:
            raise UnknownNameError("layer with places of the input", name, {each.name for each, _ in self._layers})
        raise ModelError(
            f"no layer of {self._name} has the input's places and reaches the output there; name one with layer=, or "
            "use a method of another family, such as integrated_gradients."
        )

    def _slopes(self, layer: Layer) -> list[Tensor]:
        """The gradient of each target at a layer, zeros where nothing depends on it."""
        found = []
        for target in range(self.scores.shape[1]):
            total = self.scores[:, target].sum()
            if not (total.requires_grad and layer.output.requires_grad):
                raise ModelError(
                    f"{self._name} gives no gradient of its output; use a method that perturbs, such as rise."
                )
            (slope,) = torch.autograd.grad(total, layer.output, retain_graph=True, materialize_grads=True)
            self._watched.spent(backwards=1)
            if not bool(torch.isfinite(slope).all()):
                raise NumericalError(
                    f"gradients of {self._name} became NaN or infinite; load it in a dtype of a wider range, such as "
                    "float32."
                )
            found.append(single(slope))
        return found

    def _check(self, record: Recording) -> None:
        if record.calls != 1:
            raise ModelError(
                f"a map is made of one call of {self._name}, and this target takes {record.calls}; explain one answer, "
                "token or class at a time."
            )


def _reaches(gradients: Float[Tensor, "channel place"]) -> bool:
    """Whether a gradient is there at two places, or at the only one."""
    return int((gradients != 0).any(0).sum()) >= min(2, gradients.shape[1])


@final
class GradCam(AbstractCam):
    """relu(sum_c w_c A_c) with w_c the mean gradient of channel c over the places [selvaraju2017, eq. 1 and 2].

    On a network that is linear in the means of its last channels, the map is the output's own summands [zhou2016].
    """

    facts: ClassVar[Facts] = _facts("grad_cam", "Grad-CAM", "Selvaraju et al. 2017, eq. 1-2")

    def of_places(
        self, activations: Float[Tensor, "channel place"], gradients: Float[Tensor, "channel place"]
    ) -> Float[Tensor, " place"]:
        return grad_cam(activations, gradients)


@final
class GradCamPlusPlus(AbstractCam):
    """Grad-CAM with weights that favour places of rising gradient [chattopadhay2018, eq. 19].

    w_c = sum_p g^2 / (2 g^2 + g^3 sum_q A_cq) relu(g); made for several things of one class in a picture. Its closed
    form holds for activations that are not negative, such as those behind a ReLU.
    """

    facts: ClassVar[Facts] = _facts("grad_cam_plus_plus", "Grad-CAM++", "Chattopadhay et al. 2018, eq. 19")

    def of_places(
        self, activations: Float[Tensor, "channel place"], gradients: Float[Tensor, "channel place"]
    ) -> Float[Tensor, " place"]:
        return grad_cam_plus_plus(activations, gradients)


@final
class LayerCam(AbstractCam):
    """relu(sum_c relu(g_cp) A_cp): each place has its own weight, so that early layers can be looked at [jiang2021]."""

    facts: ClassVar[Facts] = _facts("layer_cam", "LayerCAM", "Jiang et al. 2021, eq. 6-7")

    def of_places(
        self, activations: Float[Tensor, "channel place"], gradients: Float[Tensor, "channel place"]
    ) -> Float[Tensor, " place"]:
        return layer_cam(activations, gradients)
