"""Fused attention taken apart, for rules that need to see its two products and its softmax."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Attention(NamedTuple):
    """What a call of ``F.scaled_dot_product_attention`` was given beside query, key and value."""

    mask: Tensor | None
    causal: bool
    scale: float | None
    grouped: bool
    """Whether several heads of the query share one of key and value."""

    @classmethod
    def read(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Attention":
        """The options of a call; ``args`` are those after query, key and value."""
        names = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
        given = dict(zip(names, args, strict=False)) | kwargs
        mask = given.get("attn_mask")
        return cls(
            None if mask is None else mask.detach(),
            bool(given.get("is_causal", False)),
            given.get("scale"),
            bool(given.get("enable_gqa", False)),
        )

    def scale_of(self, query: Tensor) -> float:
        """What scores are multiplied by."""
        return 1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale

    def repeated(self, query: Tensor, shared: Tensor) -> Tensor:
        """Keys or values with one head for each of the query."""
        if not self.grouped or shared.shape[-3] == query.shape[-3]:
            return shared
        return shared.repeat_interleave(query.shape[-3] // shared.shape[-3], -3)

    def gathered(self, relevance: Tensor, shape: torch.Size) -> Tensor:
        """The adjoint of ``repeated``, and of broadcasting over the batch."""
        if self.grouped and relevance.shape[-3] != shape[-3]:
            relevance = relevance.unflatten(-3, (shape[-3], -1)).sum(-3)
        return relevance.sum_to_size(shape)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Query times key, before scale and mask."""
        return query @ key.mT

    def weights(self, query: Tensor, scores: Tensor) -> Tensor:
        """The softmax of the scaled and masked scores; 0 where everything is masked."""
        scaled = scores * self.scale_of(query)
        if self.causal:
            below = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            scaled = scaled.masked_fill(~below, -torch.inf)
        if self.mask is not None:
            scaled = scaled.masked_fill(~self.mask, -torch.inf) if self.mask.dtype is torch.bool else scaled + self.mask
        return scaled.softmax(-1).nan_to_num(0.0)
