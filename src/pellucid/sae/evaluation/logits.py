"""What a model predicts with something else in place of a site's activations: cross-entropy and divergence."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.errors import NumericalError
from pellucid.models.base import evaluating
from pellucid.sae.autoencoder import SAE
from pellucid.sae.site import Site, edited

Replace = Callable[[Float[Tensor, "token dim"]], Float[Tensor, "token dim"]]
WAYS = ("spliced", "zero", "mean")
"""What stands in place of the activations: their reconstructions, zeros, or their mean."""
COLUMNS = ("tokens", "replaced", "ce_clean", *(f"{kind}_{way}" for way in WAYS for kind in ("ce", "kl")))
"""What is summed over the predictions of a sample."""
AT_A_TIME = 64
"""Predictions whose distributions over the vocabulary are compared at a time."""


class Passage(NamedTuple):
    """What the model reads of one sample."""

    ids: Int[Tensor, " seq"]
    """Token ids, those that stand for patches of a picture among them."""
    replaced: Bool[Tensor, " seq"]
    """Positions whose activations are replaced: those that the selector takes."""
    predicted: Bool[Tensor, " seq"]
    """Tokens whose prediction counts: those of text."""
    beside: dict[str, Tensor]
    """What the network takes beside them, such as ``pixel_values`` [1, channel, height, width]."""


class Compared(NamedTuple):
    """Changed predictions beside clean ones."""

    entropy: Float[Tensor, " prediction"]
    """Cross-entropy of the changed ones, in nats."""
    divergence: Float[Tensor, " prediction"]
    """KL(clean || changed), in nats."""


def replacements(sae: SAE, mean: Float[Tensor, " dim"]) -> dict[str, Replace]:
    """What each of ``WAYS`` makes of activations."""
    return {
        "spliced": lambda h: sae(h.to(sae.W_enc)).to(h),
        "zero": torch.zeros_like,
        "mean": lambda h: mean.to(h).expand_as(h),
    }


@torch.no_grad()
def losses(
    module: torch.nn.Module, site: Site, passages: Sequence[Passage], ways: dict[str, Replace]
) -> Float[np.ndarray, "sample column"]:
    """For each passage the sums of ``COLUMNS``, float64; cross-entropy and divergence in nats.

    The passages are padded on the right, where the causal mask keeps the padding from everything before it.
    """
    batch = _Batch.of(passages, next(module.parameters()).device)
    sums = np.zeros((len(passages), len(COLUMNS)))
    sums[:, 1] = [int(each.replaced.sum()) for each in passages]
    clean = batch.logits(module)
    _require_finite(clean)
    targets = batch.targets
    sums[:, 0] = np.bincount(batch.owners, minlength=len(passages))
    sums[:, 2] = batch.summed(_compared(clean, clean, targets).entropy)
    for way in WAYS:
        with edited(module, site, partial(batch.with_replaced, replace=ways[way])):
            changed = batch.logits(module)
        _require_finite(changed)
        compared = _compared(clean, changed, targets)
        sums[:, COLUMNS.index(f"ce_{way}")] = batch.summed(compared.entropy)
        sums[:, COLUMNS.index(f"kl_{way}")] = batch.summed(compared.divergence)
    return sums


class _Batch(NamedTuple):
    """Passages as tensors, and which predictions of them count."""

    ids: Int[Tensor, "batch seq"]
    visible: Bool[Tensor, "batch seq"]
    replaced: Bool[Tensor, "batch seq"]
    counted: Bool[Tensor, "batch seq"]
    """Positions whose prediction of the next token counts."""
    beside: dict[str, Tensor]

    @classmethod
    def of(cls, passages: Sequence[Passage], device: torch.device) -> "_Batch":
        longest = max(len(each.ids) for each in passages)
        ids = torch.zeros(len(passages), longest, dtype=torch.long)
        visible, replaced, counted = (torch.zeros(ids.shape, dtype=torch.bool) for _ in range(3))
        for index, each in enumerate(passages):
            size = len(each.ids)
            ids[index, :size], visible[index, :size], replaced[index, :size] = each.ids, True, each.replaced
            # A prediction before the first replaced position reads none of them.
            counted[index, : size - 1] = each.predicted[1:] & (each.replaced.cumsum(0)[:-1] > 0)
        beside = {name: torch.cat([each.beside[name] for each in passages]).to(device) for name in passages[0].beside}
        return cls(ids.to(device), visible.to(device), replaced.to(device), counted.to(device), beside)

    @property
    def owners(self) -> Int[np.ndarray, " prediction"]:
        """Which passage each counted prediction is of."""
        return self.counted.nonzero()[:, 0].cpu().numpy()

    @property
    def targets(self) -> Int[Tensor, " prediction"]:
        """The token that each of them predicts."""
        return self.ids[:, 1:][self.counted[:, :-1]]

    def logits(self, module: torch.nn.Module) -> Float[Tensor, "prediction vocab"]:
        """The network's, at the positions that count."""
        with evaluating(module):
            out: Any = module(input_ids=self.ids, attention_mask=self.visible.long(), use_cache=False, **self.beside)
        found: Tensor = out.logits[self.counted]
        return found

    def with_replaced(self, h: Float[Tensor, "batch seq dim"], replace: Replace) -> Float[Tensor, "batch seq dim"]:
        """Activations with others at the positions that are replaced, and no others."""
        changed = h.clone()
        changed[self.replaced] = replace(h[self.replaced])
        return changed

    def summed(self, values: Float[Tensor, " prediction"]) -> Float[np.ndarray, " batch"]:
        """Sums over the predictions of each passage."""
        found = np.zeros(len(self.ids))
        np.add.at(found, self.owners, values.cpu().numpy())
        return found


def _compared(
    clean: Float[Tensor, "prediction vocab"],
    changed: Float[Tensor, "prediction vocab"],
    targets: Int[Tensor, " prediction"],
) -> Compared:
    """Cross-entropy of changed predictions, and their divergence from the clean ones; a few at a time."""
    entropy, divergence = [clean.new_zeros(0, dtype=torch.float64)], [clean.new_zeros(0, dtype=torch.float64)]
    for start in range(0, len(targets), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        known, guessed = clean[part].float().log_softmax(1), changed[part].float().log_softmax(1)
        entropy.append(-guessed.gather(1, targets[part, None])[:, 0].double())
        divergence.append((known.exp() * (known - guessed)).sum(1, dtype=torch.float64))
    return Compared(torch.cat(entropy), torch.cat(divergence))


def _require_finite(logits: Tensor) -> None:
    if not torch.isfinite(logits).all():
        raise NumericalError("the model returned NaN or infinite logits; no loss follows from them.")
