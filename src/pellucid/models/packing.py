"""A picture and a text as one sequence of vectors, so that gradients and relevance reach both at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Packing:
    """The layout of one sequence: a vector for each region of a picture, then one for each token.

    A region's vector holds its pixels in reading order, all channels of one before the next. All vectors have the
    length of the longest; what is left of a shorter one is zeros, which stand for nothing and have no gradient.

    Args:
        regions: index of the region of each pixel, from 0 on without a gap.
        channels: numbers of a pixel.
        hidden: length of a token's embedding.
    """

    def __init__(self, regions: Int[Tensor, "height width"], channels: int, hidden: int) -> None:
        owner = regions.flatten()
        sizes = owner.bincount()
        self.regions = len(sizes)
        self.hidden = hidden
        self.width = max(int(sizes.max()) * channels, hidden)
        ordered = owner.argsort(stable=True)
        rank = torch.empty_like(owner)
        rank[ordered] = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner[ordered]]
        first = owner * self.width + rank * channels
        self._places = first + torch.arange(channels)[:, None]
        self._shape = (channels, *regions.shape)

    def packed(
        self, pictures: Float[Tensor, "*batch channel height width"], tokens: Float[Tensor, "*batch seq hidden"]
    ) -> Float[Tensor, "*batch position dim"]:
        """The sequence of a picture and of its text's embeddings."""
        batch = pictures.shape[:-3]
        flat = pictures.new_zeros(*batch, self.regions * self.width)
        flat[..., self._places.flatten().to(flat.device)] = pictures.flatten(-3)
        rest = tokens.new_zeros(*batch, tokens.shape[-2], self.width - self.hidden)
        return torch.cat([flat.unflatten(-1, (self.regions, self.width)), torch.cat([tokens, rest], -1)], -2)

    def pictures(self, sequence: Float[Tensor, "batch position dim"]) -> Float[Tensor, "batch channel height width"]:
        """The pictures of packed sequences."""
        places = self._places.flatten().to(sequence.device)
        return sequence[:, : self.regions].flatten(1).index_select(1, places).reshape(len(sequence), *self._shape)

    def tokens(self, sequence: Float[Tensor, "batch position dim"]) -> Float[Tensor, "batch seq hidden"]:
        """The embeddings of packed sequences."""
        return sequence[:, self.regions :, : self.hidden]
