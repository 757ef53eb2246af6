"""Which latents of a batch are active, exactly, from one block of pre-activations at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.sae.codes import Codes, starts
from pellucid.sae.step.sparse import products

CHUNK_TOKENS = 512
"""Tokens whose pre-activations are held at a time; half as many where they are held in two precisions."""
BLOCK = 32
"""Latents whose maximum is looked at before they are."""
MARGIN = 1.2
"""Candidates that are gathered, over how many are to be kept."""
SPARE = 8
"""Candidates of a token beyond k that are scored again where a coarse product found them."""
_SAMPLE = 1 << 18


class Encoder(NamedTuple):
    """What gives the pre-activations, x W^T + b, by which latents are chosen.

    With a free decoder they count times the length of the decoder's row, as if that had length 1.
    """

    x: Float[Tensor, "token dim"]
    """Tokens, less the decoder's bias where that is taken off."""
    weight: Float[Tensor, "latent dim"]
    """Rows of the encoder."""
    bias: Float[Tensor, " latent"]
    """Its bias."""
    coarse: bool
    """Whether the products that find candidates are made in bfloat16."""
    lengths: Float[Tensor, " latent"] | None = None
    """Lengths of the decoder's rows, where they count."""

    def chunks(self) -> Iterator[tuple[int, Float[Tensor, "chunk latent"]]]:
        """The first token of each chunk, and its pre-activations in a buffer that the next chunk writes over."""
        x, weight = (self.x.bfloat16(), self.weight.bfloat16()) if self.coarse else (self.x, self.weight)
        size = min(CHUNK_TOKENS // 2 if self.coarse else CHUNK_TOKENS, len(x))
        made = weight.new_empty(size, len(weight))
        held = self.bias.new_empty(size, len(weight)) if self.coarse else made
        for start in range(0, len(x), size):
            part, rows = x[start : start + size], slice(min(size, len(x) - start))
            torch.mm(part, weight.t(), out=made[rows])
            a = torch.add(made[rows], self.bias, out=held[rows])
            yield start, a if self.lengths is None else a.mul_(self.lengths)

    def scored(self, tokens: Int[Tensor, " event"], latents: Int[Tensor, " event"]) -> Float[Tensor, " event"]:
        """Pre-activations of some events in full precision."""
        a = products(self.x, self.weight, starts(tokens, len(self.x)), latents) + self.bias[latents]
        return a if self.lengths is None else a * self.lengths[latents]

    def activations(self, codes: Codes) -> Codes:
        """What was chosen, with activations that the decoder's rows are multiplied by as they are."""
        return codes if self.lengths is None else codes._replace(values=codes.values / self.lengths[codes.latents])


def largest_of_each(encoder: Encoder, k: int) -> Codes:
    """The k largest positive pre-activations of every token [gao2024]."""
    width, size = len(encoder.weight), len(encoder.x)
    wanted = min(k + SPARE, width) if encoder.coarse else k
    parts = []
    for start, a in encoder.chunks():
        tokens, latents, values = _candidates(a, wanted)
        parts.append((tokens + start, latents, values))
    tokens, latents, values = (torch.cat(each) for each in zip(*parts, strict=True))
    if encoder.coarse:
        values = encoder.scored(tokens, latents)
    # By token, and within a token from the largest down.
    falling = values.argsort(descending=True, stable=True)
    falling = falling[tokens[falling].argsort(stable=True)]
    rank = torch.arange(len(tokens), device=tokens.device) - starts(tokens, size)[tokens]
    kept = falling[(rank < k) & (values[falling] > 0)].sort().values
    return Codes(tokens[kept], latents[kept], values[kept], size, width)


def _candidates(a: Float[Tensor, "chunk latent"], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values among which are the ``count`` largest of each row, by row and column.

    The count-th largest of the blocks' maxima is a lower bound of the count-th largest value.
    """
    blocks = a.shape[1] // BLOCK
    if a.shape[1] % BLOCK or blocks < 2 * count:
        latents = a.topk(count, sorted=False).indices.sort(1).values
        tokens = torch.arange(len(a), device=a.device).repeat_interleave(count)
        return tokens, latents.flatten(), a.gather(1, latents).flatten()
    maxima = a.view(-1, BLOCK).amax(1)
    bound = maxima.view(len(a), blocks).topk(count, sorted=False).values.amin(1)
    return _inside(a, maxima >= bound.repeat_interleave(blocks), bound, at_least=True)


def largest_of_all(encoder: Encoder, count: int) -> Codes:
    """The ``count`` largest positive pre-activations of a whole batch [bussmann2024].

    What exceeds a cutoff is gathered. If that is enough, the largest are among it, whatever the cutoff is; else it was
    too high and everything positive is gathered.
    """
    width, size = len(encoder.weight), len(encoder.x)
    found = _gathered(encoder, count)
    if len(found.values) < count:
        found = _gathered(encoder, None)
    if encoder.coarse:
        found = found._replace(values=encoder.scored(found.tokens, found.latents))
    if len(found.values) > count:
        kept = found.values.topk(count, sorted=False).indices.sort().values
        found = Codes(found.tokens[kept], found.latents[kept], found.values[kept], size, width)
    positive = found.values > 0
    if bool(positive.all()):
        return found
    return Codes(found.tokens[positive], found.latents[positive], found.values[positive], size, width)


def _gathered(encoder: Encoder, count: int | None) -> Codes:
    """What exceeds a cutoff that somewhat more than ``count`` are likely to exceed; None: all that is positive."""
    found, cutoff = [], None if count is not None else 0.0
    for start, a in encoder.chunks():
        if cutoff is None:
            assert count is not None
            cutoff = _cutoff(a, MARGIN * count / (len(encoder.x) * a.shape[1]))
        tokens, latents, values = _above(a, cutoff)
        found.append((tokens + start, latents, values))
    tokens, latents, values = (torch.cat(each) for each in zip(*found, strict=True))
    return Codes(tokens, latents, values, len(encoder.x), len(encoder.weight))


def _cutoff(a: Float[Tensor, "chunk latent"], share: float) -> float:
    """What about that share of a chunk's pre-activations exceeds; at least 0."""
    sample = a.flatten()[:: max(1, a.numel() // _SAMPLE)]
    rank = len(sample) - round(share * len(sample))
    return max(0.0, float(sample.kthvalue(rank).values)) if 0 < rank < len(sample) else 0.0


def _above(a: Float[Tensor, "chunk latent"], cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values of what exceeds the cutoff, by row and column."""
    if a.shape[1] % BLOCK:
        tokens, latents = (a > cutoff).nonzero(as_tuple=True)
        return tokens, latents, a[tokens, latents]
    bound = a.new_full((len(a),), cutoff)
    return _inside(a, a.view(-1, BLOCK).amax(1) > cutoff, bound, at_least=False)


def _inside(
    a: Float[Tensor, "chunk latent"], hit: Bool[Tensor, " block"], bound: Float[Tensor, " chunk"], *, at_least: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What exceeds its row's bound, or reaches it: few blocks have any of that, and only those are looked into."""
    width = a.shape[1]
    places = hit.nonzero().squeeze(1)
    inside, limits = a.view(-1, BLOCK)[places], bound[places * BLOCK // width, None]
    row, column = ((inside >= limits) if at_least else (inside > limits)).nonzero(as_tuple=True)
    flat = places[row] * BLOCK + column
    return flat // width, flat % width, inside[row, column]
