"""A store that is read: batches of activations, where they are from, and what is known of them."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import accumulate, count, pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.sae.site import Site
from pellucid.sae.store.manifest import ALL, File, Manifest, digest_of
from pellucid.sae.store.order import Cursor, batched, order
from pellucid.sae.store.statistics import Statistics, Sums
from pellucid.sae.store.tables import Sample, read_table, sample_of
from pellucid.sae.store.values import Mapped

TABLES = 4
"""Shards whose samples are held at a time."""


class Batch(NamedTuple):
    """Some rows of a store."""

    x: Float[Tensor, "token d_in"]
    """Activations as float32, whatever they are stored as."""
    rows: Int[Tensor, " token"]
    """Their numbers in the store."""
    cursor: Cursor
    """Where reading goes on after them."""


class Store:
    """The activations of a model at some sites, on disk; ``len`` is the number of tokens."""

    def __init__(self, folder: Path, manifest: Manifest, *, hashed: bool) -> None:
        self.folder, self.manifest, self._hashed = folder, manifest, hashed
        self._first_rows = [0, *accumulate(shard.tokens for shard in manifest.shards)]
        self._first_samples = [0, *accumulate(shard.samples for shard in manifest.shards)]
        self._open: dict[int, Mapped] = {}
        self._known: set[str] = set()
        self._texts = lru_cache(TABLES)(self._read_texts)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, partial: bool = False, hashed: bool = True) -> "Store":
        """The store in a folder.

        Args:
            folder: what ``harvest`` wrote.
            partial: whether a harvest that did not come to its end will do.
            hashed: whether the digest of each file is checked when it is first read; its size always is.

        Raises:
            InputError: there is no store, or not all of it. RecordError: its manifest is broken.
        """
        manifest = Manifest.read(Path(folder))
        if not manifest.complete and not partial:
            raise InputError(
                f"the harvest in {str(folder)!r} has {manifest.tokens:,} tokens and did not come to its end; run it "
                "again, which goes on, or take what is there: partial=True."
            )
        return cls(Path(folder), manifest, hashed=hashed)

    def __len__(self) -> int:
        return self._first_rows[-1]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self._first_samples[-1]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which names every byte."""
        return digest_of(self.folder)

    def statistics(self, site: Site | str, modality: str = ALL) -> Statistics:
        """Statistics over all tokens of a site, or over those of ``text`` or ``image``."""
        found = self.manifest.sums[self._site(site)]
        if modality not in (ALL, "text", "image"):
            raise UnknownNameError("modality", modality, (ALL, "text", "image"))
        return found.get(modality, Sums()).statistics()

    # Activations

    def batches(
        self,
        site: Site | str,
        size: int,
        *,
        seed: int = 0,
        epochs: int | None = 1,
        cursor: Cursor | Mapping[str, int] | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> Iterator[Batch]:
        """Rows in batches. Each epoch has every row once, in an order of its own.

        Reading that goes on from a batch's cursor gives what would have followed, to the bit.

        Args:
            site: which activations.
            size: rows of a batch; the last of an epoch may be smaller.
            seed: of the order.
            epochs: how often all rows are read, what was read before the cursor included; None: without end.
            cursor: where to begin, or its fields.
            shuffle: whether in random order; else in that of the corpus.
            drop_last: leave out a last batch that is smaller than ``size``.

        Raises:
            InputError: a size below 1, or a cursor of another seed or another store.
            RecordError: a shard is missing, broken, or was changed; it names it.
        """
        name, place = self._site(site), self._cursor(cursor, seed)
        if size < 1 or (drop_last and size > len(self)):
            raise InputError(f"a batch has at least 1 row and at most the store's {len(self):,}, not {size}.")
        sizes = [shard.tokens for shard in self.manifest.shards]
        for epoch in count(place.epoch) if epochs is None else range(place.epoch, epochs):
            place = place if epoch == place.epoch else Cursor(epoch=epoch, seed=seed)
            for rows in batched(order(sizes, place, shuffle=shuffle), size):
                place = self._after(place, len(rows))
                if len(rows) == size or not drop_last:
                    yield Batch(self.read(name, rows), torch.from_numpy(rows), place)

    def read(self, site: Site | str, rows: Int[np.ndarray, " token"]) -> Float[Tensor, "token d_in"]:
        """Some rows by their numbers, in that order, as float32. Raises InputError on a number that there is not."""
        name, rows = self._site(site), np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise InputError(
                f"rows are 0 to {len(self) - 1} in {str(self.folder)!r}; {rows.min()} or {rows.max()} is not."
            )
        found = torch.empty(len(rows), self.manifest.d_in[name])
        # Each shard is read from the front to the back.
        by_row = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows[by_row], self._first_rows)
        for shard, (start, stop) in enumerate(pairwise(bounds.tolist())):
            if start < stop:
                places = by_row[start:stop]
                numbers = self._mapped(shard).read(name, rows[places] - self._first_rows[shard])
                found[torch.from_numpy(places)] = numbers
        return found

    # Where they are from

    def places(self, start: int = 0, stop: int | None = None) -> Any:
        """A pyarrow table of the rows from ``start`` on that come before ``stop``, which None puts at the end.

        Its columns are row, sample, position, token, role, modality, and patch_y and patch_x, which are -1 for text.
        """
        import pyarrow as pa

        stop = len(self) if stop is None else min(stop, len(self))
        parts = []
        for number, shard in enumerate(self.manifest.shards):
            first, after = self._first_rows[number], self._first_rows[number + 1]
            if first < stop and after > start:
                table = read_table(self._first_checked(shard.places))
                rows = pa.array(np.arange(first, after), pa.int64())
                parts.append(table.add_column(0, "row", rows).slice(max(0, start - first), stop - max(start, first)))
        return pa.concat_tables(parts) if parts else self.places(0, 1).slice(0, 0)

    def sample(self, number: int) -> Sample:
        """A sample, by its number from 0. Raises InputError where there is none such."""
        if not 0 <= number < self.samples:
            raise InputError(f"there is no sample {number} in {str(self.folder)!r}: they are 0 to {self.samples - 1}.")
        shard = bisect_right(self._first_samples, number) - 1
        table, firsts = self._texts(shard)
        place = number - self._first_samples[shard]
        return sample_of(table.slice(place, 1).to_pylist()[0], firsts[place])

    def documents(self) -> Iterator[tuple[str, int]]:
        """The document of each sample, and how many of its tokens were kept; in the order of the rows."""
        for shard in self.manifest.shards:
            table = read_table(self._first_checked(shard.texts), ["document", "tokens"])
            yield from zip(table["document"].to_pylist(), table["tokens"].to_pylist(), strict=True)

    def _read_texts(self, shard: int) -> tuple[Any, list[int]]:
        table = read_table(self._first_checked(self.manifest.shards[shard].texts))
        return table, [*accumulate(table["tokens"].to_pylist(), initial=self._first_rows[shard])]

    # Whether it is what it was

    def verify(self) -> None:
        """Compare every file with its digest. Raises RecordError, which names the first that is not what it was."""
        for shard in self.manifest.shards:
            for file in shard.files:
                self._checked(file, hashed=True)

    def _mapped(self, shard: int) -> Mapped:
        if shard not in self._open:
            self._open[shard] = Mapped(self._first_checked(self.manifest.shards[shard].values))
        return self._open[shard]

    def _first_checked(self, file: File) -> Path:
        """As ``_checked``, with the digest the first time."""
        path = self._checked(file, hashed=self._hashed and file.name not in self._known)
        self._known.add(file.name)
        return path

    def _checked(self, file: File, *, hashed: bool = False) -> Path:
        path = self.folder / file.name
        if not path.is_file():
            raise RecordError(f"the shard {str(path)!r} is missing; restore it, or harvest into a new folder.")
        size = path.stat().st_size
        if size != file.bytes:
            raise RecordError(f"the shard {str(path)!r} has {size} bytes and not {file.bytes}: {_AGAIN}")
        if hashed:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            if digest != file.sha256:
                raise RecordError(f"the shard {str(path)!r} has the SHA-256 {digest[:12]}... and not its own: {_AGAIN}")
        return path

    def _site(self, site: Site | str) -> str:
        if str(site) not in self.manifest.d_in:
            raise UnknownNameError("site of the store", site, self.manifest.d_in)
        return str(site)

    def _cursor(self, given: Cursor | Mapping[str, int] | None, seed: int) -> Cursor:
        if given is None:
            return Cursor(seed=seed)
        cursor = given if isinstance(given, Cursor) else Cursor.model_validate(dict(given))
        if cursor.seed != seed or cursor.position > len(self):
            raise InputError(
                f"the cursor is at row {cursor.position:,} of seed {cursor.seed}, and this store of {len(self):,} rows "
                f"is read with seed {seed}; go on with the same store and seed."
            )
        return cursor

    def _after(self, place: Cursor, rows: int) -> Cursor:
        if place.position + rows >= len(self):
            return Cursor(epoch=place.epoch + 1, seed=place.seed)
        return place.model_copy(update={"position": place.position + rows})


_AGAIN = "it was changed after it was written; restore it, or harvest into a new folder."
