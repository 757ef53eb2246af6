"""The ways to steer: by how much each latent's share of an activation is changed. One small class a way."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import UnknownNameError

Reads = Literal["nothing", "latents", "projection"]
Pushes = Literal["by sign", "up", "down"]


class AbstractMode(ABC):
    """A way to steer: amounts c, so that h becomes h + sum_j c_j w_j with the decoder's rows w_j.

    What the autoencoder does not reconstruct is left alone in every mode: h itself is changed, never replaced by its
    reconstruction. ``goal`` is strength times scale, in the unit of the latents' activations.
    """

    name: ClassVar[str]
    """What it is called."""
    reads: ClassVar[Reads] = "nothing"
    """What of h it must know: nothing, how active the latents are, or how far h reaches along their directions."""
    has_strength: ClassVar[bool] = True
    """Whether the strength matters."""
    pushes: ClassVar[Pushes] = "by sign"
    """Whether it makes more of a latent: where the strength is above 0, always (up), or never (down)."""

    @abstractmethod
    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        """Multiples of the decoder's rows to add."""


@final
class Add(AbstractMode):
    """h + goal_j w_j, whatever h is."""

    name = "add"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return goal.expand_as(read)


@final
class Clamp(AbstractMode):
    """h + (goal_j - z_j) w_j: the latent is set to a value, and the rest of h stays, the error included."""

    name = "clamp"
    reads = "latents"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return goal - read


@final
class Ablate(AbstractMode):
    """h - z_j w_j: the latent's own contribution is taken away."""

    name = "ablate"
    reads = "latents"
    has_strength = False
    pushes = "down"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return -read


@final
class Project(AbstractMode):
    """(I - P) h + goal_j w_j: h is split into its part along the directions and the part orthogonal to them.

    P projects on the span of the w_j. The orthogonal part stays, the other one is set, whatever the encoder says.
    """

    name = "project"
    reads = "projection"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return goal - read


@final
class Cap(AbstractMode):
    """The part of h along a direction may be goal_j at most; where it is less, h stays."""

    name = "cap"
    reads = "projection"
    pushes = "down"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return (goal - read).clamp(max=0)


@final
class Floor(AbstractMode):
    """The part of h along a direction is at least goal_j; where it is more, h stays."""

    name = "floor"
    reads = "projection"
    pushes = "up"

    def amounts(
        self, read: Float[Tensor, "token steered"], goal: Float[Tensor, " steered"]
    ) -> Float[Tensor, "token steered"]:
        return (goal - read).clamp(min=0)


MODES: dict[str, AbstractMode] = {mode.name: mode for mode in (Add(), Clamp(), Ablate(), Project(), Cap(), Floor())}
"""Every way to steer, by name."""


def mode_of(name: str) -> AbstractMode:
    """A way to steer by its name. Raises UnknownNameError."""
    if name not in MODES:
        raise UnknownNameError("way to steer", name, MODES)
    return MODES[name]


def reach(h: Float[Tensor, "token dim"], directions: Float[Tensor, "steered dim"]) -> Float[Tensor, "token steered"]:
    """How far activations reach along directions: the y of least |h - y W|, in multiples of the directions.

    For one direction that is h . w / |w|^2.
    """
    found: Tensor = torch.linalg.lstsq(directions.T, h.T).solution
    return found.T
