"""What is asked of a store before and while its rows are encoded."""

from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError, NumericalError, UnknownNameError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.site import Site
from pellucid.sae.store import Store

ROWS_AT_A_TIME = 1 << 18


def check_width(sae: SAE, store: Store, site: Site) -> None:
    """Refuse an autoencoder of another width than the site's activations, or a site that the store has not."""
    d_in = store.manifest.d_in
    if str(site) not in d_in:
        raise UnknownNameError("site of the store", str(site), d_in)
    if d_in[str(site)] != sae.config.d_in:
        raise InputError(
            f"the autoencoder reads activations of {sae.config.d_in} dimensions and those at {str(site)!r} in the "
            f"store have {d_in[str(site)]}; take the site that it was trained on."
        )


def check_finite(x: Float[Tensor, "token dim"], rows: Int[Tensor, " token"], store: Store) -> None:
    """Refuse activations that are NaN or infinite, by row and shard."""
    bad = ~torch.isfinite(x).all(1)
    if bad.any():
        row = int(rows[bad][0])
        ends = accumulate(shard.tokens for shard in store.manifest.shards)
        name = next(shard.values.name for shard, end in zip(store.manifest.shards, ends, strict=True) if row < end)
        raise NumericalError(
            f"row {row} of the store, in the shard {name!r}, is NaN or infinite; harvest again with the model in "
            "float32."
        )


def modalities(store: Store) -> tuple[tuple[str, ...], Int[np.ndarray, " row"]]:
    """The names of a store's modalities, and the number of each row's among them."""
    names: list[str] = []
    found = np.zeros(len(store), np.int8)
    for start in range(0, len(store), ROWS_AT_A_TIME):
        column = store.places(start, start + ROWS_AT_A_TIME)["modality"].to_pylist()
        kinds, which = np.unique(np.array(column), return_inverse=True)
        names.extend(name for name in kinds.tolist() if name not in names)
        found[start : start + len(which)] = np.array([names.index(name) for name in kinds.tolist()])[which]
    return tuple(names), found
