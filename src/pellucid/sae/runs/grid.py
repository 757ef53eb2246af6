"""Which autoencoders a run trains: every combination of a few values."""

from itertools import product
from typing import Any

from pydantic import Field

from pellucid.errors import InputError
from pellucid.records import Record
from pellucid.sae.config import Config
from pellucid.sae.presets import preset


class Grid(Record):
    """All combinations of widths, ks, architectures and seeds, in one manner."""

    widths: tuple[int, ...] = Field(min_length=1)
    """Latents in the dictionary."""
    ks: tuple[int, ...] = ()
    """Active latents of a token. Empty: what the preset or the configuration says."""
    architectures: tuple[str, ...] = ()
    """Empty: what the preset or the configuration says."""
    seeds: tuple[int, ...] = (0,)
    """Of the initial weights."""
    preset: str | None = None
    """One of ``pellucid.sae.presets.PRESETS``; None: the defaults of ``Config``."""
    changes: dict[str, Any] = Field(default={})
    """Other fields of ``Config``, the same in all of them."""

    def configs(self, d_in: int) -> list[Config]:
        """One configuration for each combination. Raises InputError, UnknownNameError."""
        ks = [{"k": k} for k in self.ks] or [{}]
        architectures = [{"architecture": name} for name in self.architectures] or [{}]
        return [
            self._config(d_in, {"width": width, **k, **architecture, "seed": seed})
            for width, k, architecture, seed in product(self.widths, ks, architectures, self.seeds)
        ]

    def _config(self, d_in: int, varied: dict[str, Any]) -> Config:
        if "d_in" in self.changes:
            raise InputError("d_in is the width of the store's activations; leave it out of the settings.")
        twice = sorted(set(varied) & set(self.changes))
        if twice:
            raise InputError(f"{twice[0]} is given as a list of values and once more as a setting; give it once.")
        if self.preset is None:
            return Config(d_in=d_in, **{"normalisation": "mean-square"} | varied | self.changes)
        return preset(self.preset, d_in=d_in, **varied | self.changes)
