"""Which samples make a shard, and which of them go through the network together."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from pellucid.sae.store.corpora import AbstractCorpus, Document
from pellucid.sae.store.encoding import Encoder
from pellucid.sae.store.selector import TokenSelector
from pellucid.sae.store.tables import Chosen


class Plan(NamedTuple):
    """A shard before it is computed."""

    chosen: list[Chosen]
    """Its samples, in the order of the corpus."""
    document: int
    """The document in which the next shard begins."""
    window: int
    """The window of that document."""
    characters: int
    """How many were read for it."""

    @property
    def tokens(self) -> int:
        """Rows."""
        return sum(len(each.positions) for each in self.chosen)

    @property
    def positions(self) -> int:
        """What the network reads."""
        return sum(len(each.sample.ids) for each in self.chosen)

    def batches(self, size: int) -> list[list[Chosen]]:
        """Calls of the network of at most ``size`` positions, padding included; the longest samples come first."""
        order = sorted(self.chosen, key=lambda each: (each.sample.image is None, -len(each.sample.ids), each.number))
        found: list[list[Chosen]] = []
        for each in order:
            last = found[-1] if found else []
            fits = last and (len(last) + 1) * len(last[0].sample.ids) <= size
            if fits and (last[0].sample.image is None) == (each.sample.image is None):
                last.append(each)
            else:
                found.append([each])
        return found


class Start(NamedTuple):
    """Where in the corpus a harvest goes on."""

    document: int = 0
    """The document, from 0."""
    window: int = 0
    """The window of it."""
    sample: int = 0
    """How many samples there are before."""
    tokens: int = 0
    """How many rows."""


def plans(
    corpus: AbstractCorpus,
    encoder: Encoder,
    selector: TokenSelector,
    *,
    across: bool,
    limit: int | None,
    shard_tokens: int,
    seed: int,
    start: Start,
) -> Iterator[Plan]:
    """The shards of a corpus from some place on. A shard ends with the sample that makes it ``shard_tokens`` rows.

    Samples of which nothing is kept are left out. The last row of all is the one that makes ``limit``.
    """
    chosen: list[Chosen] = []
    number, left = start.sample, None if limit is None else limit - start.tokens
    tokens = characters = 0
    documents: Iterator[Document] = corpus.documents()
    if across:
        documents = encoder.joined(documents)
    for which, document in enumerate(islice(documents, start.document, None), start.document):
        if left == 0:
            break
        for window, sample in enumerate(encoder.samples(document), 1):
            if (which, window) <= (start.document, start.window) or left == 0:
                continue
            characters += len(sample.text)
            positions = selector.positions(sample, (seed, number))[:left]
            if not len(positions):
                continue
            chosen.append(Chosen(number, sample, positions))
            number, tokens = number + 1, tokens + len(positions)
            left = None if left is None else left - len(positions)
            if tokens >= shard_tokens:
                yield Plan(chosen, which, window, characters)
                chosen, tokens, characters = [], 0, 0
    if chosen:
        yield Plan(chosen, which + 1, 0, characters)
