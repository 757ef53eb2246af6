"""How well trained autoencoders do on what they never saw."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.progress import progress
from pellucid.sae.autoencoder import SAE
from pellucid.sae.runs.holdout import HeldOut
from pellucid.sae.store import Store

SIZE = 2048


class Score(NamedTuple):
    """Of one autoencoder on held-out tokens."""

    fvu: float
    """Fraction of variance unexplained: sum ||x - xhat||^2 / sum ||x - mean x||^2, in fp64."""
    l0: float
    """Active latents of a token."""
    dead_share: float
    """Share of latents that were active in none of these tokens."""
    tokens: int
    """How many tokens it is from."""


def score(saes: Mapping[str, SAE], store: Store, site: str, held: HeldOut) -> dict[str, Score]:
    """Each autoencoder on the held-out rows, in one reading of the store; empty where nothing is held out."""
    if not held.rows:
        return {}
    count, square, active, total = 0, 0.0, dict.fromkeys(saes, 0), None
    missed = dict.fromkeys(saes, 0.0)
    fired = {name: torch.zeros(sae.width, dtype=torch.bool) for name, sae in saes.items()}
    with progress("Judging on held-out documents", len(store)) as advance, torch.no_grad():
        for read in store.batches(site, SIZE, shuffle=False):
            advance(len(read.rows))
            x = read.x.to(torch.float32)[held.of(read.rows)]
            if not len(x):
                continue
            exact = x.double()
            total = exact.sum(0) if total is None else total + exact.sum(0)
            count, square = count + len(x), square + float(exact.square().sum())
            for name, sae in saes.items():
                here = x.to(sae.W_enc.device)
                codes = sae.codes(here)
                missed[name] += float((exact - sae.decode_codes(codes, here).cpu().double()).square().sum())
                active[name] += len(codes.values)
                fired[name][codes.latents.cpu()] = True
    assert total is not None
    variance = square - float(total.square().sum()) / count
    return {name: Score(missed[name] / variance, active[name] / count, _share(~fired[name]), count) for name in saes}


def _share(chosen: Tensor) -> float:
    return float(chosen.double().mean())
