"""Stores with activations that a test chooses, written as the harvest writes them, and autoencoders for them."""

import hashlib

import numpy as np
import torch
from safetensors.torch import save

from pellucid import sae
from pellucid.records import Fingerprint
from pellucid.sae.store.corpora import Survey
from pellucid.sae.store.encoded import Encoded
from pellucid.sae.store.manifest import ALL, File, Making, Manifest, Shard
from pellucid.sae.store.reading import Store
from pellucid.sae.store.selector import TokenSelector
from pellucid.sae.store.statistics import Sums
from pellucid.sae.store.tables import Chosen, parquet, places_table, texts_table
from pellucid.sae.store.values import Rows

SITE = "layer"
D_IN, WIDTH, TOKENS = 8, 24, 400


def autoencoder(seed=0, **changes):
    """A random autoencoder with one latent that never fires and one that nearly always does."""
    generator = torch.Generator().manual_seed(seed)
    config = sae.Config(**dict(d_in=D_IN, width=WIDTH, k=4, architecture="batchtopk", normalisation="none") | changes)
    weights = {
        "W_enc": torch.randn(WIDTH, config.d_in, generator=generator),
        "b_enc": torch.randn(WIDTH, generator=generator) * 0.1,
        "W_dec": torch.randn(WIDTH, config.d_in, generator=generator),
        "b_dec": torch.randn(config.d_in, generator=generator),
        "threshold": torch.tensor(2.0),
    }
    weights["b_enc"][5], weights["b_enc"][6] = -1e3, 1e2
    return sae.SAE(config, weights)


def activations(tokens=TOKENS, seed=1):
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed)) * 2


def perfect(d_in=D_IN):
    """Reconstructs anything: a latent for each direction of each axis."""
    eye = torch.eye(d_in)
    both = torch.cat([eye, -eye])
    config = sae.Config(d_in=d_in, width=2 * d_in, k=d_in, architecture="batchtopk", normalisation="none")
    weights = {
        "W_enc": both.clone(), "b_enc": torch.zeros(2 * d_in), "W_dec": both, "b_dec": torch.zeros(d_in),
        "threshold": torch.tensor(0.0),
    }  # fmt: skip
    return sae.SAE(config, weights)


def constant(value):
    """Reconstructs everything as one vector."""
    found = perfect(len(value))
    found.threshold.fill_(1e30)
    found.b_dec.copy_(value)
    return found


def store_of(folder, x, *, lengths=(5, 7), shards=3, picture=None, dtype="float32", site=SITE):
    """A store of the rows of ``x`` in samples of the given lengths in turn.

    ``picture``: for each row whether it is a part of a picture; a sample of which any row is one has a picture.
    """
    picture = np.zeros(len(x), bool) if picture is None else np.asarray(picture)
    samples, row = [], 0
    while row < len(x):
        size = min(lengths[len(samples) % len(lengths)], len(x) - row)
        samples.append(_chosen(len(samples), row, size, picture[row : row + size]))
        row += size
    manifest = Manifest(making=_making(dtype, site))
    first = 0
    for part in np.array_split(np.arange(len(samples)), shards):
        chosen = [samples[each] for each in part]
        count = sum(len(each.positions) for each in chosen)
        manifest = _with_shard(folder, manifest, chosen, x[first : first + count], site)
        first += count
    manifest = manifest.model_copy(update={"complete": True})
    manifest.write(folder)
    return Store.open(folder)


def _chosen(number, row, size, picture):
    # One position more than is kept, so that positions are not rows.
    ids = np.arange(row, row + size + 1, dtype=np.int32) % 97
    spans = np.concatenate([[-1], np.where(picture, 0, -1)]).astype(np.int16)
    patches = np.where(spans[:, None] >= 0, np.stack([np.arange(size + 1)] * 2, 1), -1).astype(np.int16)
    encoded = Encoded(
        f"document {number // 2}", ids, np.ones(size + 1, np.int8), np.zeros(size + 1, bool), spans, patches,
        np.full((size + 1, 2), -1, np.int32), f"text {number}",
    )  # fmt: skip
    return Chosen(number, encoded, np.arange(1, size + 1))


def _making(dtype, site):
    fingerprint = Fingerprint(
        model="tiny", weights="0" * 64, tokenizer="0" * 64, template="", dtype="float32", device="cpu", attention="",
        versions={},
    )  # fmt: skip
    return Making(
        model="tiny", fingerprint=fingerprint, sites=(site,),
        corpus=Survey(source="a test", documents=1, characters=1, digest="0" * 64), selector=TokenSelector(),
        context=64, across=False, limit=None, dtype=dtype, shard_tokens=64, batch_tokens=256, seed=0,
    )  # fmt: skip


def _with_shard(folder, manifest, chosen, x, site):
    rows = Rows.of(x, manifest.making.dtype)
    files = {
        "values": (save(rows.tensors(site)), "safetensors"),
        "places": (parquet(places_table(chosen)), "parquet"),
        "texts": (parquet(texts_table(chosen, str)), "parquet"),
    }
    kept = {kind: _file(folder, kind, *content) for kind, content in files.items()}
    size = len(x)
    shard = Shard(tokens=size, samples=len(chosen), positions=size, document=0, window=0, **kept)
    numbers = rows.floats().numpy()
    kinds = np.concatenate([each.sample.spans[each.positions] >= 0 for each in chosen])
    before = manifest.sums.get(site, {})
    parts = {ALL: numbers, "text": numbers[~kinds], "image": numbers[kinds]}
    sums = {name: before.get(name, Sums()).plus(Sums.over(part)) for name, part in parts.items()}
    return manifest.model_copy(
        update={
            "d_in": {site: x.shape[1]},
            "shards": (*manifest.shards, shard),
            "sums": {site: {name: each for name, each in sums.items() if each.count}},
        }
    )


def _file(folder, kind, content, ending):
    digest = hashlib.sha256(content).hexdigest()
    name = f"{kind}/{digest[:24]}.{ending}"
    (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return File(name=name, sha256=digest, bytes=len(content))
