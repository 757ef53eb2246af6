"""One pass of a store through an autoencoder and back."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.progress import progress
from pellucid.sae.autoencoder import SAE
from pellucid.sae.codes import Codes
from pellucid.sae.evaluation.partial import Kept
from pellucid.sae.evaluation.sums import Sums
from pellucid.sae.events.rows import check_finite, modalities
from pellucid.sae.site import Site
from pellucid.sae.store import Store


def add_reconstructions(
    sae: SAE, store: Store, site: Site, kept: Kept, *, batch: int, tokens: int | None, seed: int
) -> None:
    """Sum up each modality of a store, or of so many of its rows at random, from where ``kept`` ends.

    Raises NumericalError, which names row and shard, on an activation that is NaN or infinite.
    """
    most = len(store) if tokens is None else min(tokens, len(store))
    done = sum(each.tokens for each in kept.now.sums.values())
    names, kinds = modalities(store)
    with progress("Reconstructing", most) as advance, torch.no_grad():
        advance(done)
        for x, rows, cursor in store.batches(site, batch, seed=seed, cursor=kept.now.cursor, shuffle=most < len(store)):
            if done >= most:
                break
            x, rows = x[: most - done], rows[: most - done]
            check_finite(x, rows, store)
            which = torch.from_numpy(kinds[rows.numpy()])
            sums = _added(sae, x.to(sae.W_enc), which.to(sae.W_enc.device), names, kept.now.sums)
            kept.update(sums=sums, cursor=cursor)
            done += len(x)
            advance(len(x))


def _added(
    sae: SAE, x: Float[Tensor, "token dim"], which: Int[Tensor, " token"], names: Sequence[str], sums: dict[str, Sums]
) -> dict[str, Sums]:
    """The sums of each modality with a batch more."""
    codes = sae.codes(x)
    xhat = sae.decode_codes(codes, x)
    result = dict(sums)
    for number, name in enumerate(names):
        part = which == number
        if part.any():
            found = Sums.over(x[part], xhat[part], _part(codes, part))
            result[name] = result[name].plus(found) if name in result else found
    return result


def _part(codes: Codes, chosen: Tensor) -> Codes:
    """The active latents of some of the tokens."""
    if chosen.all():
        return codes
    kept = chosen[codes.tokens]
    places = chosen.cumsum(0) - 1
    return Codes(places[codes.tokens[kept]], codes.latents[kept], codes.values[kept], int(chosen.sum()), codes.width)
