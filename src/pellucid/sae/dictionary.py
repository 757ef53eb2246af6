"""An autoencoder as a call names it: by folder or as an object, at a site, with what its latents are said to mean."""

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events.digest import digest
from pellucid.sae.site import Site
from pellucid.targets.latents import IN_MEMORY


class Dictionary(NamedTuple):
    """An autoencoder, where it reads, and what its latents mean."""

    sae: SAE
    site: Site
    name: str
    """Its folder, or ``(in memory)``."""
    meanings: Mapping[int, str] = MappingProxyType({})
    """Interpretations by latent, as far as its folder has them."""

    @classmethod
    def of(cls, source: Any, site: str | None) -> "Dictionary":
        """The autoencoder of a folder, or the one that is given.

        ``site`` None stands for the one that it was trained at. Raises InputError where neither is known, or where
        there is no such autoencoder.
        """
        if isinstance(source, SAE):
            sae, name, meanings = source, IN_MEMORY, {}
        elif isinstance(source, str | PathLike) and fspath(source) != IN_MEMORY:
            sae, name = SAE.load(fspath(source)), fspath(source)
            meanings = _meanings(Path(source), sae)
        else:
            raise InputError(
                f"an autoencoder is a folder or what pellucid.sae.SAE.load gives, not {source!r}; name it with sae=..."
            )
        place = site or sae.origin.site
        if not place:
            raise InputError("this autoencoder does not say where it reads; name it, such as site='model.layers.15'.")
        return cls(sae, Site.of(place), name, meanings)

    @property
    def digest(self) -> str:
        """SHA-256 over its configuration and weights."""
        return digest(self.sae)


def _meanings(folder: Path, sae: SAE) -> dict[int, str]:
    """The interpretations that lie in an autoencoder's folder; empty where there are none."""
    from pellucid.sae.interpretation.results import INTERPRETATIONS, checked_interpretations

    if not (folder / INTERPRETATIONS).is_file():
        return {}
    return {latent: str(each.explanation) for latent, each in checked_interpretations(folder, sae).items()}
