"""Captum's methods for pictures: sliding windows, and class activation maps of the last convolution."""

from typing import Annotated, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pellucid.benchmark.peers.base import AbstractPeer, ForeignCode
from pellucid.benchmark.peers.captum_games import SOURCE, VERSION
from pellucid.benchmark.peers.scoring import ScoredPicture, picture_of
from pellucid.errors import InputError
from pellucid.facts import Facts
from pellucid.games import Path, Question
from pellucid.games.tensor_imputers import AbstractTensorImputer
from pellucid.methods import Attribution


@final
class Occlusion(AbstractPeer):
    """``captum.attr.Occlusion``: what is lost behind a window that slides by half its side [kokhlikyan2020].

    A pixel has the mean of the windows over it, a feature the sum of its pixels, by the area of a window.
    """

    windows: Annotated[int, Field(ge=1)] = 8
    """Windows that stand beside one another, at the most."""
    library: ClassVar[str] = "captum"
    facts: ClassVar[Facts] = Facts(
        name="captum:occlusion",
        title=f"Occlusion ({VERSION})",
        family="perturbation",
        modalities=("image",),
        needs=("baseline",),
        cost="windows^2 + 3, by default 67",
        source=f"{SOURCE}; Zeiler & Fergus 2014, section 2.1",
    )

    def rows(self, players: int) -> int:
        return self.windows**2 + 3

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        from captum.attr import Occlusion as Captums

        picture, filler = picture_of(question), _filler(question)
        path = Path(question, "zero")
        network = ScoredPicture(question, path)
        strides = [-(-side // self.windows) for side in picture.shape[2:]]
        window = [min(2 * stride, side) for stride, side in zip(strides, picture.shape[2:], strict=True)]
        with code.outside():
            full, empty = question.game.full, question.game.empty
        found = []
        for target in range(len(full)):
            with torch.no_grad():
                scores = Captums(network).attribute(
                    picture,
                    (picture.shape[1], *window),
                    strides=(picture.shape[1], *strides),
                    baselines=filler,
                    target=target,
                    perturbations_per_eval=path.chunks(self.windows**2)[0].stop,
                )
            found.append(scores[0].double().mean(0).flatten() / (window[0] * window[1]))
        return Attribution(
            path.to_features(torch.stack(found)), empty, full, settings={"rows_asked": network.rows_asked}
        )


class AbstractCaptumMap(AbstractPeer):
    """A class activation map of the convolution that runs last; a feature has the sum of its pixels."""

    library: ClassVar[str] = "captum"

    def run(self, question: Question, code: ForeignCode) -> Attribution:
        picture = picture_of(question).clone().requires_grad_()
        path = Path(question, "mean")
        network = ScoredPicture(question, path, question.model.module)
        base, full = path.value(torch.stack([path.baseline, path.input])).cpu().numpy()
        name, layer = last_convolution(question, network, picture)
        found = [self.ask(network, layer, picture, target) for target in range(len(full))]
        pixels = torch.stack([each[0].detach().double().sum(0).flatten() for each in found])
        settings = {"rows_asked": network.rows_asked, "layer": name}
        return Attribution(path.to_features(pixels), base, full, settings=settings)

    def rows(self, players: int) -> int:
        return 6

    def ask(
        self, network: nn.Module, layer: nn.Module, picture: Float[Tensor, "1 channel height width"], target: int
    ) -> Float[Tensor, "1 channel height width"]:
        """What Captum says of one target, pixel by pixel."""
        from captum.attr import LayerAttribution, LayerGradCam

        cam = LayerGradCam(network, layer).attribute(picture, target=target)
        return torch.as_tensor(LayerAttribution.interpolate(cam, picture.shape[2:], "bilinear"))


@final
class GradCam(AbstractCaptumMap):
    """``captum.attr.LayerGradCam`` of the last convolution, enlarged bilinearly [kokhlikyan2020; selvaraju2017]."""

    facts: ClassVar[Facts] = Facts(
        name="captum:grad_cam",
        title=f"Grad-CAM ({VERSION})",
        unit="weighted activation",
        family="gradient",
        modalities=("image",),
        needs=("gradient",),
        cost="4 forward passes and 1 backward pass a target",
        source=f"{SOURCE}; Selvaraju et al. 2017, eq. 2 (before the ReLU)",
    )


@final
class GuidedGradCam(AbstractCaptumMap):
    """``captum.attr.GuidedGradCam`` of the last convolution [kokhlikyan2020; selvaraju2017, section 3.2].

    Raises InputError for a network without a ReLU module: nothing would be guided, and Captum would not say so.
    """

    facts: ClassVar[Facts] = Facts(
        name="captum:guided_grad_cam",
        title=f"Guided Grad-CAM ({VERSION})",
        unit="guided gradient times activation",
        family="gradient",
        modalities=("image",),
        needs=("gradient",),
        cost="5 forward passes and 2 backward passes a target",
        source=f"{SOURCE}; Selvaraju et al. 2017, section 3.2",
        notice="Guides ReLU modules alone: any other activation is taken as its gradient.",
    )

    def ask(
        self, network: nn.Module, layer: nn.Module, picture: Float[Tensor, "1 channel height width"], target: int
    ) -> Float[Tensor, "1 channel height width"]:
        from captum.attr import GuidedGradCam as Captums

        if not any(isinstance(part, nn.ReLU) for part in network.modules()):
            raise InputError(f"{self.facts.name} guides ReLU modules, and the network has none; use captum:grad_cam.")
        return torch.as_tensor(Captums(network, layer).attribute(picture, target=target, interpolate_mode="bilinear"))


def last_convolution(
    question: Question, network: nn.Module, picture: Float[Tensor, "1 channel height width"]
) -> tuple[str, nn.Module]:
    """Name and module of the two-dimensional convolution that runs last. Raises InputError where none does."""
    seen: list[tuple[str, nn.Module]] = []
    parts = [(name, part) for name, part in question.model.module.named_modules() if isinstance(part, nn.Conv2d)]
    hooks = [
        part.register_forward_hook(lambda *_, name=name, part=part: seen.append((name, part))) for name, part in parts
    ]
    try:
        with torch.no_grad():
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise InputError(f"{question.model.name} has no convolution that a class activation map could be made of.")
    return seen[-1]


def _filler(question: Question) -> Float[Tensor, "1 channel height width"]:
    """The picture with every feature absent. Raises InputError where the imputer draws, or fills by what is left."""
    imputer = question.game.imputer
    if not isinstance(imputer, AbstractTensorImputer) or imputer.draws > 1 or imputer.name == "noisy-linear":
        raise InputError(
            f"captum:occlusion covers with one fixed picture, and {imputer.name!r} is none; use mean, blur or black."
        )
    filler: Tensor = imputer.rows(np.zeros((1, question.game.players), dtype=bool))
    return filler
