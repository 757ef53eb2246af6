"""A sample of the tokens of a corpus, some of each word of the vocabulary, in one pass and in bounded memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.sae.interpretation.sources import Store

ANYWHERE = 1 << 16
"""Tokens that are drawn from the whole corpus."""
OF_EACH = 64
"""Tokens that are drawn of each word of the vocabulary."""
CHUNK = 1 << 18


class Drawn(NamedTuple):
    """Some tokens of the corpus."""

    samples: Int[np.ndarray, " place"]
    """Sample of each."""
    positions: Int[np.ndarray, " place"]
    """Position in it."""
    pictured: Bool[np.ndarray, " place"]
    """Whether it is a patch of a picture."""
    tokens: Int[np.ndarray, " place"]
    """Its id."""
    priorities: Float[np.ndarray, " place"]
    """The random numbers by which it was drawn."""

    def take(self, which: Any) -> "Drawn":
        """Some of them."""
        return Drawn(*(each[which] for each in self))


class Places(NamedTuple):
    """Tokens drawn from the whole corpus, and tokens drawn of each word."""

    anywhere: Drawn
    """In random order."""
    of_each: Drawn
    """Sorted by word, and in random order within each."""

    def of(self, token: int) -> Drawn:
        """Those of one word."""
        part = slice(*(int(np.searchsorted(self.of_each.tokens, token, side)) for side in ("left", "right")))
        return self.of_each.take(part)


def draw(store: Store, seed: int, anywhere: int = ANYWHERE, of_each: int = OF_EACH) -> Places:
    """Read the index of a store once, and keep what has the lowest random numbers.

    The memory holds ``anywhere`` tokens, ``of_each`` of each word, and one chunk of the index.
    """
    generator = np.random.default_rng(seed)
    whole, words = _none(), _none()
    for samples, positions, pictured, tokens in _chunks(store):
        new = Drawn(samples, positions, pictured, tokens, generator.random(len(samples)))
        both = _joined(whole, new)
        whole = both.take(np.argsort(both.priorities, kind="stable")[:anywhere])
        words = _fewest(_joined(words, new), of_each)
    return Places(whole, words)


def _fewest(drawn: Drawn, count: int) -> Drawn:
    """Of each word those with the lowest priorities."""
    drawn = drawn.take(np.lexsort((drawn.priorities, drawn.tokens)))
    rank = np.arange(len(drawn.tokens)) - np.searchsorted(drawn.tokens, drawn.tokens, "left")
    return drawn.take(rank < count)


def _joined(one: Drawn, other: Drawn) -> Drawn:
    return Drawn(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def _none() -> Drawn:
    whole = np.zeros(0, dtype=np.int64)
    return Drawn(whole, whole, np.zeros(0, dtype=bool), whole, np.zeros(0))


def _chunks(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Sample, position, whether it is a patch, and token id of the tokens, a part of the index at a time."""
    for start in range(0, len(store), CHUNK):
        table = store.places(start, start + CHUNK)
        samples, positions, tokens = (
            table[name].to_numpy().astype(np.int64) for name in ("sample", "position", "token")
        )
        pictured = np.array([each == "image" for each in table["modality"].to_pylist()], dtype=bool)
        yield samples, positions, pictured, tokens
