"""Places that are likely to mislead a judge: words and directions like those of a latent that is silent there."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.sae.interpretation.examples import Example
from pellucid.sae.interpretation.places import Places
from pellucid.sae.interpretation.sources import Events
from pellucid.sae.interpretation.windows import Windows

NEIGHBOURS = 5
"""Latents with the most similar directions among whose events places are looked for."""
OF_A_NEIGHBOUR = 64


class Near:
    """Places of the corpus, as (sample, position), that may serve as examples without a latent."""

    def __init__(
        self, events: Events, windows: Windows, places: Places, directions: Float[Tensor, "latent dim"] | None
    ) -> None:
        self._events, self._windows, self._places = events, windows, places
        self._directions = None if directions is None else torch.nn.functional.normalize(directions.float(), dim=1)

    def anywhere(self, pictured: bool, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Random tokens; of pictures, where the latent is one of pictures."""
        drawn = self._places.anywhere
        fitting = np.flatnonzero(drawn.pictured == pictured)
        for number in fitting[generator.permutation(len(fitting))]:
            yield int(drawn.samples[number]), int(drawn.positions[number])

    def same_tokens(self, positives: Sequence[Example], generator: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Tokens with the same id as those on which the latent is active."""
        for number in generator.integers(len(positives), size=64 * len(positives)):
            example = positives[number]
            drawn = self._places.of(int(self._windows.sample(example.sample).ids[example.position]))
            if len(drawn.samples):
                place = generator.integers(len(drawn.samples))
                yield int(drawn.samples[place]), int(drawn.positions[place])

    def neighbours(self, latent: int, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Events of the latents with the most similar directions, by turns."""
        if self._directions is None or latent >= len(self._directions):
            return
        likeness = self._directions @ self._directions[latent]
        likeness[latent] = -torch.inf
        nearest = likeness.topk(min(NEIGHBOURS, len(likeness))).indices.tolist()
        drawn = [self._some(each, latent, generator) for each in nearest]
        for turn in range(OF_A_NEIGHBOUR):
            for places in drawn:
                if turn < len(places):
                    yield places[turn]

    def _some(self, neighbour: int, latent: int, generator: np.random.Generator) -> list[tuple[int, int]]:
        if neighbour == latent:
            return []
        found = self._events.of(neighbour)
        samples, positions = found.samples, found.positions
        numbers = generator.permutation(len(samples))[:OF_A_NEIGHBOUR]
        return [(int(samples[number]), int(positions[number])) for number in numbers]
