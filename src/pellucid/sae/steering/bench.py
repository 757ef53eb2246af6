"""What steering is tried out on, and what follows from it: scales, control directions, batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.interpretation.asking import LLM
from pellucid.sae.site import Site
from pellucid.sae.steering.controls import difference_of_means, random_directions, random_latents
from pellucid.sae.steering.generating import asked
from pellucid.sae.steering.matchers import AbstractMatcher
from pellucid.sae.steering.plan import STEERED, Settings, text_of
from pellucid.sae.steering.positions import Positions
from pellucid.sae.steering.scales import Seen, activation_scale, norm_scale, seen
from pellucid.sae.store import Store


@final
@dataclass(frozen=True)
class Bench:
    """Everything that steering is tried out on."""

    model: Any
    """The model that answers."""
    sae: SAE
    """Whose latents are steered."""
    site: Site
    """Where they are."""
    prompts: tuple[Any, ...]
    """What is answered."""
    settings: Settings
    """How."""
    others: tuple[AbstractMatcher, ...] = ()
    """Other concepts, which steering should leave alone."""
    events: Events | None = None
    """Where each latent is active in a store, or None."""
    store: Store | None = None
    """That store of activations, or None."""
    judge: LLM | None = None
    """Who rates answers, or None."""

    @cached_property
    def passing(self) -> Seen:
        """What passes at the site while the prompts are read."""
        return seen(self.model, self.prompts, self.sae, self.site, self.settings.rows)

    def check_site(self) -> None:
        """Raises UnknownNameError for a site that is not there, InputError for one of another width."""
        _ = self.passing

    def check_positions(self) -> None:
        """Raises InputError for a listed position that some prompt and its longest answer do not have."""
        listed = Positions.of(self.settings.positions).listed
        for chunk in self.chunks if listed else ():
            raws = [self.prompts[place] for place in chunk]
            for raw, row in zip(raws, asked(self.model, raws).rows, strict=True):
                # The last token of an answer is not read by the model any more.
                last = len(row.ids) + self.settings.sampling.max_new_tokens - 2
                outside = next((each for each in listed if not -len(row.ids) <= each <= last), None)
                if outside is not None:
                    raise InputError(
                        f"the position {outside} is steered nowhere: the prompt {text_of(raw)[:40]!r} has "
                        f"{len(row.ids)} tokens, and with the longest answer the positions {-len(row.ids)} to {last}; "
                        "list others."
                    )

    def scales(self, latents: Sequence[int]) -> tuple[float, ...]:
        """What a strength of 1 is for each of some latents."""
        given = self.settings.scale
        if isinstance(given, float):
            return (given,) * len(latents)
        if given == "norm":
            return tuple(norm_scale(self.passing, self.sae, latent) for latent in latents)
        if self.events is None:
            raise InputError("a scale of activations needs the events of the latents; give them, or the scale 'norm'.")
        return tuple(activation_scale(self.events, latent) for latent in latents)

    def along(self, arm: str, latents: Sequence[int]) -> Float[Tensor, "steered dim"] | None:
        """The directions of one arm; None stands for the latents' own."""
        if arm == STEERED:
            return None
        seed = self.settings.seed + latents[0]
        if arm == "random-direction":
            return random_directions(len(latents), self.sae.config.d_in, seed)
        if arm == "random-latent":
            others = random_latents(self.alive, len(latents), latents, seed)
            return self.sae.W_dec.index_select(0, torch.tensor(others, device=self.sae.W_dec.device))
        return difference_of_means(self.store, self.site, self.events, latents, self.sae)

    @cached_property
    def alive(self) -> Tensor:
        """Latents that are active somewhere: in the events, or else in the prompts."""
        if self.events is None:
            found: Tensor = self.passing.codes.latents.unique()
            return found
        return torch.as_tensor(self.events.counts.copy()).nonzero().flatten()

    @property
    def chunks(self) -> list[range]:
        """Numbers of the prompts that are answered together."""
        size, count = self.settings.rows, len(self.prompts)
        return [range(start, min(start + size, count)) for start in range(0, count, size)]


def site_of(sae: SAE, given: Site | str | None) -> Site:
    """Where an autoencoder belongs. Raises InputError where neither it nor the caller says so."""
    if isinstance(given, Site):
        return given
    if not given and not sae.origin.site:
        raise InputError("this autoencoder does not say where in the model it belongs; name the site.")
    return Site.of(given or sae.origin.site)
