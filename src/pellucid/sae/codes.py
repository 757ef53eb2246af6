"""The active latents of some tokens, as the list of them: a matrix of all latents is never needed."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Codes(NamedTuple):
    """Active latents, sorted by token and then by latent."""

    tokens: Int[Tensor, " event"]
    """Index of the token, from 0."""
    latents: Int[Tensor, " event"]
    """Index of the latent."""
    values: Float[Tensor, " event"]
    """Its activation, above 0."""
    token_count: int
    """How many tokens there are, those without an active latent included."""
    width: int
    """How many latents there are."""

    @property
    def offsets(self) -> Int[Tensor, " token"]:
        """Where the latents of each token begin."""
        return starts(self.tokens, self.token_count)

    def part(self, start: int, stop: int) -> "Codes":
        """The active latents of the tokens from ``start`` to before ``stop``, which are numbered from 0."""
        edges = torch.tensor([start, stop], device=self.tokens.device)
        first, last = torch.searchsorted(self.tokens, edges).tolist()
        chosen = slice(first, last)
        stop = min(stop, self.token_count)
        return Codes(self.tokens[chosen] - start, self.latents[chosen], self.values[chosen], stop - start, self.width)

    def dense(self) -> Float[Tensor, "token latent"]:
        """The same as a matrix; only for a few tokens."""
        found = self.values.new_zeros(self.token_count, self.width)
        found[self.tokens, self.latents] = self.values
        return found


def starts(keys: Int[Tensor, " event"], count: int) -> Int[Tensor, " key"]:
    """Where each key from 0 to ``count`` - 1 begins in a sorted list of keys."""
    return torch.searchsorted(keys, torch.arange(count, device=keys.device, dtype=keys.dtype))
