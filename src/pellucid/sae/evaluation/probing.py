"""k-sparse probing: how much of some labels a few latents hold [gurnee2023]."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.progress import progress
from pellucid.sae.autoencoder import SAE
from pellucid.sae.evaluation.probes import Pooled, probe, strongest_latents
from pellucid.sae.evaluation.records import Probe, Probing
from pellucid.sae.site import Site
from pellucid.sae.store.asking import kept_rows
from pellucid.sae.store.corpora import Document
from pellucid.sae.store.encoding import Encoder, Readable
from pellucid.sae.store.manifest import Making
from pellucid.sae.store.planning import Plan
from pellucid.sae.store.tables import Chosen

KS = (1, 2, 5)
TEST = 0.25
"""Share of each label's texts that the probes are tried on."""
FEWEST = 4
"""Texts of a label below which nothing can be learned and tried."""
AT_A_TIME = 16
"""Texts that are read at a time."""


class Labelled(NamedTuple):
    """A text and what it is."""

    text: str
    """The text."""
    label: str
    """What it is."""


def read_labelled(path: Path) -> list[Labelled]:
    """The lines of a JSONL file with "text" and "label". Raises InputError, which names the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the labelled texts {str(path)!r} cannot be read: {error}.") from None
    return [_labelled(line, f"{path.name}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _labelled(line: str, place: str) -> Labelled:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place} is not JSON: {error}.") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise InputError(f'{place} has no "text"; each line is an object with "text" and "label".')
    if not isinstance(row.get("label"), str | int | bool):
        raise InputError(f'{place} has no "label" that is a word or a whole number.')
    return Labelled(row["text"], str(row["label"]))


def probing(
    model: Readable, sae: SAE, site: Site, making: Making, examples: Sequence[Labelled], *, seed: int
) -> Probing:
    """Probe every label against the rest with 1, 2 and 5 latents, and with the activations themselves.

    A text is the mean over those of its tokens that the store's selector takes. A quarter of each label's texts, drawn
    by the seed, is kept for the test. With two labels one probe tells both.

    Raises:
        InputError: fewer than two labels, a label with fewer than 4 texts, a text of which nothing is taken.
    """
    counts = Counter(each.label for each in examples)
    if len(counts) < 2:
        raise InputError(f"probing needs texts of at least 2 labels, and {len(counts)} came.")
    label, fewest = min(counts.items(), key=lambda item: item[1])
    if fewest < FEWEST:
        raise InputError(f"the label {label!r} has {fewest} texts; probing needs at least {FEWEST} of each.")
    pooled = pool(model, sae, site, making, [each.text for each in examples])
    labels = np.array([each.label for each in examples])
    train = _split(labels, seed)
    found = [each for name in _told(counts) for each in _probes(pooled, labels == name, train, name, seed)]
    return Probing(
        train=int(train.sum()),
        test=int((~train).sum()),
        labels=dict(sorted(counts.items())),
        mean={_name(k): _mean([each for each in found if each.k == k]) for k in (*KS, 0)},
        probes=tuple(found),
    )


def pool(model: Readable, sae: SAE, site: Site, making: Making, texts: Sequence[str]) -> Pooled:
    """Texts as means over their tokens, of the active latents and of the activations. Raises InputError."""
    encoder = Encoder(model, making.context)
    dense, keys, values = np.zeros((len(texts), sae.config.d_in)), [], []
    with progress("Reading labelled texts", len(texts)) as advance:
        for start in range(0, len(texts), AT_A_TIME):
            group = range(start, min(start + AT_A_TIME, len(texts)))
            chosen = [each for number in group for each in _chosen(encoder, making, number, texts[number])]
            read = [_read(model, sae, site, batch) for batch in Plan(chosen, 0, 0, 0).batches(making.batch_tokens)]
            owners = np.concatenate([each.texts for each in read])
            tokens = np.maximum(np.bincount(owners, minlength=len(texts)), 1)
            np.add.at(dense, owners, np.concatenate([each.x for each in read]))
            dense[group.start : group.stop] /= tokens[group.start : group.stop, None]
            found, place = np.unique(np.concatenate([each.keys for each in read]), return_inverse=True)
            keys.append(found)
            sums = np.bincount(place, np.concatenate([each.values for each in read]), minlength=len(found))
            values.append(sums / tokens[found // sae.width])
            advance(len(group))
    owners, latents = np.divmod(np.concatenate(keys), sae.width)
    return Pooled(owners, latents, np.concatenate(values), dense, sae.width)


class _Read(NamedTuple):
    """What one call of the network gave."""

    texts: Int[np.ndarray, " token"]
    """The text that each token is of."""
    x: Float[np.ndarray, "token dim"]
    """Its activations."""
    keys: Int[np.ndarray, " event"]
    """Of each active latent its index, plus the width times the text."""
    values: Float[np.ndarray, " event"]
    """How active it is."""


def _read(model: Readable, sae: SAE, site: Site, batch: Sequence[Chosen]) -> _Read:
    x = kept_rows(model, [site], batch, "float32")[site].floats()
    texts = np.concatenate([np.full(len(each.positions), each.number) for each in batch])
    with torch.no_grad():
        codes = sae.codes(x.to(sae.W_enc))
    tokens, latents = codes.tokens.cpu().numpy(), codes.latents.cpu().numpy()
    values = codes.values.double().cpu().numpy()
    return _Read(texts, x.double().cpu().numpy(), texts[tokens] * sae.width + latents, values)


def _chosen(encoder: Encoder, making: Making, number: int, text: str) -> list[Chosen]:
    """The windows of a text, all under its number."""
    found = []
    for sample in encoder.samples(Document(f"text {number + 1}", text)):
        positions = making.selector.positions(sample, (making.seed, number))
        if len(positions):
            found.append(Chosen(number, sample, positions))
    if not found:
        raise InputError(f"of labelled text {number + 1} the selector of the store takes no token; leave it out.")
    return found


def _split(labels: np.ndarray, seed: int) -> Bool[np.ndarray, " text"]:
    """Which texts are learned from: the same share of every label."""
    generator, train = np.random.default_rng(seed), np.ones(len(labels), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        train[generator.permutation(places)[: max(1, round(len(places) * TEST))]] = False
    return train


def _told(counts: Counter[str]) -> list[str]:
    """The labels that get probes: of two the rarer one, whose probe tells the other as well."""
    names = sorted(counts, key=lambda name: (counts[name], name))
    return names[:1] if len(names) == 2 else sorted(names)


def _probes(
    pooled: Pooled, positive: Bool[np.ndarray, " text"], train: Bool[np.ndarray, " text"], label: str, seed: int
) -> list[Probe]:
    ranked = strongest_latents(pooled, positive, train, max(KS))
    found = [
        probe(pooled.columns(ranked[:k]), positive, train, label=label, latents=tuple(ranked[:k].tolist()), seed=seed)
        for k in KS
        if k <= len(ranked)
    ]
    return [*found, probe(pooled.dense, positive, train, label=label, latents=(), seed=seed)]


def _mean(probes: Sequence[Probe]) -> float | None:
    values = [each.balanced_accuracy.value for each in probes if each.balanced_accuracy.value is not None]
    return float(np.mean(values)) if values else None


def _name(k: int) -> str:
    return str(k) if k else "dense"
