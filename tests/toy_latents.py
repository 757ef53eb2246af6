"""A corpus of a few words with latents whose truth is known: a store and an event store in memory."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

WORDS = [
    " apple", " pear", " plum", " dog", " cat", " cow", " red", " blue", " green", " one", " two", " three", " the",
    " a", " of", " and", " was", " seen", " there", " again", ".", ",", " old", " new", " house", " road", " tree",
    " river",
]  # fmt: skip
FRUITS = (0, 1, 2)
ANIMALS = (3, 4, 5)


class Sample(NamedTuple):
    ids: tuple
    pieces: tuple
    text: str
    roles: tuple
    image: object
    grid: object
    document: str
    rows: tuple


class Store:
    """``documents`` of ``each`` samples with ``length`` random words."""

    def __init__(self, documents=40, each=2, length=60, seed=0, pictures=None):
        generator = np.random.default_rng(seed)
        self._samples = []
        for number in range(documents * each):
            ids = generator.integers(len(WORDS), size=length)
            image = grid = None
            pieces = [WORDS[word] for word in ids]
            if pictures is not None:
                ids[4:20], pieces[4:20] = 99, ["<image>"] * 16
                image, grid = pictures, (4, 4)
            rows = (number * length, (number + 1) * length)
            ids = tuple(int(word) for word in ids)
            text, roles = "".join(pieces), ("document",) * length
            self._samples.append(
                Sample(ids, tuple(pieces), text, roles, image, grid, f"document {number // each}", rows)
            )
        self.samples = len(self._samples)
        self.asked = set()

    def __len__(self):
        return self._samples[-1].rows[1]

    def sample(self, number):
        self.asked.add(number)
        return self._samples[number]

    def places(self, start=0, stop=None):
        rows = [
            (number, position, token, "image" if token == 99 else "text")
            for number, sample in enumerate(self._samples)
            for position, token in enumerate(sample.ids)
        ][start:stop]
        names = ("sample", "position", "token", "modality")
        return pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))

    def batches(self, site, size, *, shuffle=True):
        assert not shuffle
        rows = torch.arange(len(self))
        x = torch.nn.functional.one_hot(torch.tensor([t for s in self._samples for t in s.ids]) % 32, 32).float()
        for start in range(0, len(self), size):
            yield Batch(x[start : start + size], rows[start : start + size])


class Batch(NamedTuple):
    x: torch.Tensor
    rows: torch.Tensor


class LatentEvents(NamedTuple):
    samples: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class Events:
    """Each latent is a function from (sample number, position, token id) to an activation."""

    def __init__(self, store, latents):
        self.width, self.tokens, self._of = len(latents), len(store), []
        for latent in latents:
            found = [
                (number, position, latent(number, position, token))
                for number, sample in enumerate(store._samples)
                for position, token in enumerate(sample.ids)
            ]
            found = [each for each in found if each[2] > 0]
            samples, positions, values = zip(*found, strict=True) if found else ((), (), ())
            columns = np.array(samples, int), np.array(positions, int), np.array(values, np.float32)
            self._of.append(LatentEvents(*columns))
        self.counts = np.array([len(each.values) for each in self._of])
        self.maxima = np.array([each.values.max(initial=0) for each in self._of])

    def of(self, latent):
        return self._of[latent]


def on(*words):
    """A latent that is active on some words, by an amount that varies from place to place."""
    return lambda number, position, token: 1 + (7 * number + position) % 11 if token in words else 0


def toys(**store):
    """A store with latents of fruits, animals, nothing, one document, pears and dogs."""
    corpus = Store(**store)
    once = lambda number, position, token: 1.0 * (number < 2 and token in (6, 7))  # noqa: E731
    latents = [on(*FRUITS), on(*ANIMALS), on(), once, on(1), on(3)]
    return corpus, Events(corpus, latents)
