"""What the model reads while its loss is measured: samples of a store, or texts that the training never saw."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.models import VisionLanguage
from pellucid.sae.evaluation.logits import Passage
from pellucid.sae.store import AbstractCorpus, Store
from pellucid.sae.store.encoded import Encoded
from pellucid.sae.store.encoding import Encoder, Readable
from pellucid.sae.store.manifest import Making
from pellucid.sae.store.tables import Sample


def passages_of_store(model: Readable, store: Store, count: int, seed: int) -> list[Passage]:
    """Samples of a store at random, as the harvest read them; the rows of the store are the positions replaced."""
    size = min(count, store.samples)
    drawn = np.sort(np.random.default_rng(seed).choice(store.samples, size, replace=False))
    found = []
    for number in drawn.tolist():
        sample = store.sample(number)
        positions = store.places(*sample.rows)["position"].to_numpy()
        found.append(_passage(model, np.array(sample.ids), positions, _beside(model, sample)))
    return found


def passages_of_texts(model: Readable, making: Making, corpus: AbstractCorpus, count: int, seed: int) -> list[Passage]:
    """Samples of a corpus at random, cut and selected as the store's were; the corpus is read once and not held.

    Raises InputError where the selector takes no position of any of them.
    """
    kept: list[tuple[int, Encoded, np.ndarray]] = []
    generator, seen = np.random.default_rng(seed), 0
    for number, (sample, positions) in enumerate(_selected(model, making, corpus)):
        seen = number + 1
        # Every sample is among those that are kept with the same probability, however many there will be.
        place = number if number < count else int(generator.integers(seen))
        if place < count:
            kept[place : place + 1] = [(number, sample, positions)]
    if not seen:
        raise InputError(f"the selector of the store takes no token of {corpus.source!r}; give other texts.")
    return [
        _passage(model, sample.ids, positions, _beside(model, sample))
        for _, sample, positions in sorted(kept, key=lambda each: each[0])
    ]


def _selected(model: Readable, making: Making, corpus: AbstractCorpus) -> Iterator[tuple[Encoded, np.ndarray]]:
    encoder = Encoder(model, making.context)
    number = 0
    documents = corpus.documents()
    for document in encoder.joined(documents) if making.across else documents:
        for sample in encoder.samples(document):
            positions = making.selector.positions(sample, (making.seed, number))
            if len(positions):
                yield sample, positions
                number += 1


def _passage(model: Readable, ids: np.ndarray, positions: np.ndarray, beside: Mapping[str, Tensor]) -> Passage:
    tokens = torch.from_numpy(np.asarray(ids, np.int64))
    replaced = torch.zeros(len(tokens), dtype=torch.bool)
    replaced[torch.from_numpy(np.asarray(positions, np.int64))] = True
    # What stands for a part of a picture is never said, so its prediction means nothing.
    shown = getattr(model.module.config, "image_token_id", None)
    predicted = torch.ones_like(replaced) if shown is None else tokens != int(shown)
    return Passage(tokens, replaced, predicted, dict(beside))


def _beside(model: Readable, sample: Sample | Encoded) -> dict[str, Float[Tensor, "one channel height width"]]:
    """The picture of a sample as the network reads it; nothing for a text."""
    if sample.image is None:
        return {}
    if not isinstance(model, VisionLanguage):
        raise InputError(f"a sample has a picture and {model.name} reads none; load the model that the store is of.")
    pixels = model.encode({"image": sample.image, "text": sample.text}).picture.row
    return {"pixel_values": pixels[None].to(model.like)}
