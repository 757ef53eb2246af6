"""Steering itself: activations at a site of a model, changed along the directions of some latents."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pellucid.errors import InputError, NumericalError
from pellucid.sae.autoencoder import CHUNK_NUMBERS, SAE
from pellucid.sae.site import Site, edited
from pellucid.sae.steering.modes import AbstractMode, mode_of, reach
from pellucid.sae.steering.positions import Positions, Sequences


@final
@dataclass(frozen=True, eq=False)
class Steer:
    """Some latents of an autoencoder, and what is done with them.

    Raises InputError for latents that the autoencoder does not have, and for scales that are not one a latent.
    """

    sae: SAE
    """The autoencoder whose latents they are."""
    latents: tuple[int, ...]
    """Which latents; all of them at once."""
    scales: tuple[float, ...]
    """What a strength of 1 means for each: an activation of the latent."""
    strength: float = 1.0
    """Multiplies the scales. Below 0 it steers the other way."""
    mode: AbstractMode = field(default_factory=lambda: mode_of("add"))
    """The way to steer."""
    positions: Positions = field(default_factory=Positions)
    """Where."""
    along: Float[Tensor, "steered dim"] | None = None
    """Other directions to steer along, one for each latent: a control. The change keeps its length at every token, that
    of several latents together too. None: the decoder's rows themselves."""

    def __post_init__(self) -> None:
        check_latents(self.sae, self.latents)
        if len(self.scales) != len(self.latents):
            raise InputError(f"{len(self.latents)} latents are steered and {len(self.scales)} scales given; one each.")

    @property
    def rows(self) -> Float[Tensor, "steered dim"]:
        """The decoder's rows of the latents."""
        return self.sae.W_dec.index_select(0, torch.tensor(self.latents, device=self.sae.W_dec.device))

    @property
    def directions(self) -> Float[Tensor, "steered dim"]:
        """What is added to h; of a control, each as long as the decoder's row that it stands for."""
        if self.along is None:
            return self.rows
        along = self.along.to(self.rows)
        lengths: Tensor = self.rows.norm(dim=1) / along.norm(dim=1)
        return along * lengths[:, None]

    def change(self, h: Float[Tensor, "token dim"]) -> Float[Tensor, "token dim"]:
        """What is added to some activations."""
        given = h.to(self.sae.W_dec.dtype)
        _, normaliser = self.sae.normalised(given)
        # An autoencoder that normalises each token counts its latents in units of that token.
        unit = given.new_ones(()) if normaliser is None else normaliser.scale
        goal = self.strength * given.new_tensor(self.scales)
        amounts = self.mode.amounts(self._read(given, unit), goal)
        found = amounts @ self.directions
        if self.along is not None and len(self.latents) > 1:
            # Rows that overlap add up to another length than directions that do not.
            lengths: Tensor = (amounts @ self.rows).norm(dim=1, keepdim=True)
            found = found * (lengths / found.norm(dim=1, keepdim=True).clamp_min(torch.finfo(found.dtype).tiny))
        return unit * found

    @property
    def described(self) -> str:
        """What is done, in a few words."""
        numbers = "+".join(map(str, self.latents))
        along = "" if self.along is None else " along a control"
        return f"latent {numbers} at strength {self.strength:g} by {self.mode.name}{along}"

    def _read(self, h: Float[Tensor, "token dim"], unit: Tensor) -> Float[Tensor, "token steered"]:
        if self.mode.reads == "nothing":
            return h.new_zeros(len(h), len(self.latents))
        if self.mode.reads == "latents":
            return activations(self.sae, h, self.latents)
        return reach(h, self.rows) / unit

    def edit(
        self, h: Float[Tensor, "batch seq dim"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq dim"]:
        """Activations, changed where it is asked for; nothing else of them is touched.

        Raises NumericalError where they become NaN or infinite.
        """
        if not where.any():
            return h
        chosen = h[where]
        made = chosen + self.change(chosen).to(h.dtype)
        if not bool(made.isfinite().all()):
            raise NumericalError(
                f"activations become NaN or infinite under {self.described}; take a smaller strength, or a wider dtype."
            )
        return h.masked_scatter(where[..., None], made)


def check_latents(sae: SAE, latents: Sequence[int]) -> None:
    """Raises InputError where there is no latent, one that does not exist, or one twice."""
    if not latents:
        raise InputError(f"no latent is named to be steered; name some of 0 to {sae.width - 1}.")
    for latent in latents:
        if not 0 <= latent < sae.width:
            raise InputError(f"there is no latent {latent}: this autoencoder has latents 0 to {sae.width - 1}.")
    if len(set(latents)) < len(latents):
        raise InputError(f"a latent is named twice in {', '.join(map(str, latents))}; name each once.")


def activations(sae: SAE, h: Float[Tensor, "token dim"], latents: Sequence[int]) -> Float[Tensor, "token steered"]:
    """How active some latents are in any number of tokens."""
    size = max(1, CHUNK_NUMBERS // sae.width)
    parts = [sae.encode(h[start : start + size])[:, list(latents)] for start in range(0, len(h), size)]
    return torch.cat(parts) if parts else h.new_zeros(0, len(latents))


@contextmanager
def steered(module: nn.Module, site: Site, steer: Steer, sequences: Sequences) -> Iterator[None]:
    """Inside, a network of transformers is steered while it reads prompts and goes on with them, cached or not.

    Args:
        module: the whole network. Which columns a call computes follows from its attention mask, or its cache.
        site: where; its activations are [batch, seq, d_in], a row for each prompt.
        steer: what is done.
        sequences: how the prompts lie in the batch.

    Raises:
        UnknownNameError: the network has no such module.
        InputError: the activations have another width, or do not belong to the positions of the text.
    """
    first, new = 0, 0

    def look(network: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal first, new
        read = kwargs.get("input_ids")
        given = read if read is not None else kwargs["inputs_embeds"] if "inputs_embeds" in kwargs else args[0]
        first, new = columns_before(kwargs), given.shape[1]

    def edit(h: Tensor) -> Tensor:
        check_text(h, (len(sequences.prompts), new), site)
        where = steer.positions.mask(sequences.to(h.device), first, h.shape[1])
        return steer.edit(h, where)

    watch = module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with torch.no_grad(), edited(module, site, edit):
            yield
    finally:
        watch.remove()


def columns_before(kwargs: dict[str, Any]) -> int:
    """How many columns of the batch were computed by earlier calls and are in the cache."""
    past = kwargs.get("past_key_values")
    return 0 if past is None else int(past.get_seq_length())


def check_text(h: Tensor, places: tuple[int, int], site: Site) -> None:
    """Raises InputError where activations are not one for each place (batch, seq) of the text."""
    if h.ndim != 3 or h.shape[:2] != places:
        raise InputError(
            f"at {str(site)!r} the activations are {list(h.shape)}, and steering takes "
            f"[{places[0]}, {places[1]}, d_in], one for each token; take one of the language model's layers."
        )


def keeping(kept: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """An edit that changes nothing and puts what it sees into a list."""

    def keep(h: Tensor) -> Tensor:
        kept.append(h)
        return h

    return keep
