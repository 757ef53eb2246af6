"""A target within the network: how active one latent of a sparse autoencoder is."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field, PrivateAttr
from torch import Tensor

from pellucid.targets.base import AbstractTarget, Alternative

IN_MEMORY = "(in memory)"
"""What stands for the path of an autoencoder that was handed over as an object."""


class Latent(AbstractTarget):
    """The activation of one latent at one place, or the largest one over the input.

    What gradients and relevance start from is the activation before the decision whether it is active; where it is
    active both are the same number.
    """

    kind: Literal["latent"] = "latent"
    latent: int = Field(ge=0)
    """Index of the latent."""
    position: int | None = Field(default=None, ge=0)
    """Place in the sequence that the site holds, from 0; None stands for the one where the latent is most active, not
    counting what a chat template writes around the text."""
    sae: str = ""
    """Folder of the autoencoder; empty: the one that the call names."""
    site: str = ""
    """Where it reads, such as ``model.layers.15``; empty: the site that the call, or the autoencoder itself, names."""
    digest: str = ""
    """SHA-256 of the autoencoder, filled in when it is loaded; given before, the autoencoder must have it."""
    unit = "activation"
    _held: Any = PrivateAttr(default=None)

    def __init__(
        self, latent: int, position: int | None = None, *, sae: Any = "", site: str | None = "", **named: Any
    ) -> None:
        """``sae``: the autoencoder's folder, or the autoencoder itself."""
        by_name = sae is None or isinstance(sae, str | PathLike)
        place = fspath(sae or "") if by_name else IN_MEMORY
        super().__init__(latent=latent, position=position, sae=place, site=site or "", **named)
        self._held = None if by_name else sae

    @property
    def source(self) -> Any:
        """The autoencoder as it was given: itself, or its folder; None where neither was."""
        return self._held if self._held is not None else self.sae or None

    @property
    def alternatives(self) -> tuple[str, ...]:
        return (f"latent {self.latent}",)

    def score(self, alternatives: Sequence[Alternative]) -> Float[Tensor, "batch target"]:
        return alternatives[0].logit

    def output_names(self, tokens: Sequence[Sequence[str]]) -> list[str]:
        where = "" if self.position is None else f" at {self.position}"
        return [f"latent {self.latent}{where}"]
