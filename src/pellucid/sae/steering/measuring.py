"""What the unsteered model makes of an answer: how likely it finds it, and which latents the answer makes active."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.models.tokens import Row
from pellucid.sae.autoencoder import SAE
from pellucid.sae.site import Site, edited
from pellucid.sae.steering.generating import Asked
from pellucid.sae.steering.steer import check_text, keeping


class Read(NamedTuple):
    """One answer, read by the unsteered model after the prompt."""

    nll: float | None
    """Mean negative log-probability of its tokens, in nats; None for an answer without any."""
    active: dict[int, float]
    """Mean activation over its tokens of every latent that is active in one of them."""


def read_back(prompts: Asked, found: Sequence[Sequence[int]], sae: SAE, site: Site) -> list[Read]:
    """Answers, teacher-forced through the unsteered model in one call: perplexity and latents of each.

    Raises InputError where the site's activations do not belong to the text, or have another width than the SAE's.
    """
    longest = max(len(ids) for ids in found)
    if not longest:
        return [Read(None, {}) for _ in found]
    reader, seen = prompts.reader, list[Tensor]()
    whole = [Row.of(row.ids + tuple(ids)) for row, ids in zip(prompts.rows, found, strict=True)]
    with torch.no_grad(), edited(reader.module, site, keeping(seen)):
        batch = reader.batch(whole, "left")
        logits = reader.run(*batch, keep=longest + 1).logits
    check_text(seen[0], (len(whole), batch.ids.shape[1]), site)
    return [_read(logits[n], seen[0][n], ids, sae) for n, ids in enumerate(found)]


def _read(logits: Float[Tensor, "kept vocab"], h: Float[Tensor, "seq dim"], ids: Sequence[int], sae: SAE) -> Read:
    count = len(ids)
    if not count:
        return Read(None, {})
    # Rows are padded on the left, so the answer's tokens are the last ones of all.
    said = logits[-count - 1 : -1].float().log_softmax(-1)
    chosen = said.gather(1, torch.tensor(ids, device=said.device)[:, None])
    codes = sae.codes(h[-count:])
    latents, places = codes.latents.unique(return_inverse=True)
    sums = codes.values.new_zeros(len(latents)).index_add(0, places, codes.values)
    means = (sums / count).tolist()
    return Read(-float(chosen.mean()), dict(zip(latents.tolist(), means, strict=True)))


def shift(before: dict[int, float], after: dict[int, float], without: Sequence[int]) -> float:
    """How much the other latents changed: sum |a - b| / sum (a + b) over all latents but the steered ones, in [0, 1].

    0: they are as active as before; 1: no latent is active in both [bray1957].

    >>> shift({1: 1.0, 2: 3.0, 9: 5.0}, {2: 1.0, 9: 7.0}, without=[9])
    0.6
    """
    names = (before.keys() | after.keys()) - set(without)
    moved = sum(abs(before.get(name, 0.0) - after.get(name, 0.0)) for name in names)
    total = sum(before.get(name, 0.0) + after.get(name, 0.0) for name in names)
    return moved / total if total else 0.0
