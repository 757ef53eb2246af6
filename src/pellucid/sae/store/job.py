"""A harvest under way: a shard is planned, computed, written, and then entered in the manifest."""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.progress import Advance, progress
from pellucid.sae.site import Site
from pellucid.sae.store.asking import kept_rows
from pellucid.sae.store.corpora import AbstractCorpus
from pellucid.sae.store.encoded import MODALITIES
from pellucid.sae.store.encoding import Encoder, Readable
from pellucid.sae.store.estimate import Estimate, estimated
from pellucid.sae.store.manifest import ALL, File, Manifest, Shard
from pellucid.sae.store.planning import Plan, Start, plans
from pellucid.sae.store.statistics import ROWS, Sums
from pellucid.sae.store.tables import modality, parquet, places_table, texts_table
from pellucid.sae.store.values import Rows

TIMED = 2
"""Batches of which the fastest says how long the rest will take: the first of all is slow."""
DIGITS = 24
"""Hexadecimal digits of a file's digest that it is named by."""


class Harvested(NamedTuple):
    """How far a harvest is."""

    tokens: int
    """Rows that were computed, those of earlier runs included."""
    total: int
    """Rows in all; an estimate where no number of tokens was asked for, or more than the corpus seems to have."""


OnProgress = Callable[[Harvested], None]
OnEstimate = Callable[[Estimate], None]


class Job:
    """A harvest into a folder, from where its manifest ends."""

    def __init__(
        self,
        model: Readable,
        sites: Sequence[Site],
        encoder: Encoder,
        folder: Path,
        manifest: Manifest,
        on_progress: OnProgress | None,
        on_estimate: OnEstimate | None,
    ) -> None:
        self._model, self._sites, self._encoder, self._folder = model, sites, encoder, folder
        self._manifest, self._on_progress, self._on_estimate = manifest, on_progress, on_estimate
        self._done, self._total = manifest.tokens, manifest.making.limit or 0
        self._rates: list[float] = []
        self._is_estimated = False
        self._advance: Advance = lambda steps: None

    def run(self, corpus: AbstractCorpus) -> None:
        """Compute what is missing. Raises as ``harvest`` does."""
        making, last = self._manifest.making, self._manifest.shards[-1:]
        before = (last[0].document, last[0].window) if last else (0, 0)
        start = Start(*before, self._manifest.samples, self._manifest.tokens)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tidy()
        with ExitStack() as stack:
            for plan in plans(
                corpus, self._encoder, making.selector, across=making.across, limit=making.limit,
                shard_tokens=making.shard_tokens, seed=making.seed, start=start,
            ):  # fmt: skip
                if not self._rates:
                    expected = self._expected(plan)
                    self._total = min(self._total or expected, expected)
                    self._advance = stack.enter_context(progress("Harvesting", self._total))
                    self._advance(self._done)
                self._commit(plan, self._computed(plan))
        if not self._manifest.shards:
            raise InputError(
                f"the selector keeps no token of the corpus {making.corpus.source!r} with its "
                f"{making.corpus.documents:,} documents; choose another selector or corpus."
            )
        self._write(self._manifest.model_copy(update={"complete": True}))

    def _expected(self, plan: Plan) -> int:
        """How many rows the store will have, if the rest of the corpus is like the first shard of this run."""
        characters = self._manifest.making.corpus.characters
        share = plan.tokens / max(plan.characters, 1)
        # A picture is read beside its few characters, so that tokens for each character serve for it as well.
        return max(self._done + plan.tokens, round(characters * share))

    def _computed(self, plan: Plan) -> dict[Site, Rows]:
        """The activations of a shard in the order of the corpus, whatever the order of the batches."""
        making, lengths = self._manifest.making, [len(each.positions) for each in plan.chosen]
        firsts = dict(zip([each.number for each in plan.chosen], np.cumsum([0, *lengths]).tolist(), strict=False))
        room: dict[Site, Rows] = {}
        for batch in plan.batches(making.batch_tokens):
            begun = time.perf_counter()
            found = kept_rows(self._model, self._sites, batch, making.dtype)
            places = torch.cat([torch.arange(len(one.positions)) + firsts[one.number] for one in batch])
            for site, rows in found.items():
                if site not in room:
                    room[site] = Rows.empty(plan.tokens, rows.numbers.shape[1], making.dtype)
                room[site].put(places, rows)
            self._count(len(places), time.perf_counter() - begun)
            if len(self._rates) == TIMED:
                self._estimate(room)
        self._estimate(room)
        return room

    def _estimate(self, room: dict[Site, Rows]) -> None:
        """Say once, before anything is written, what the whole will take."""
        if self._is_estimated:
            return
        self._is_estimated = True
        widths = {str(site): rows.numbers.shape[1] for site, rows in room.items()}
        left, dtype = max(0, self._total - self._manifest.tokens), self._manifest.making.dtype
        found = estimated(self._folder, self._total, left, widths, dtype, max(self._rates))
        if self._on_estimate is not None:
            self._on_estimate(found)

    def _count(self, tokens: int, seconds: float) -> None:
        self._rates.append(tokens / seconds)
        self._done += tokens
        self._advance(tokens)
        if self._on_progress is not None:
            self._on_progress(Harvested(self._done, max(self._total, self._done)))

    def _commit(self, plan: Plan, room: dict[Site, Rows]) -> None:
        """Write a shard, and then the manifest that has it."""
        tensors = {name: one for site, rows in room.items() for name, one in rows.tensors(str(site)).items()}
        values = self._keep(save(tensors), "values", "safetensors")
        places = self._keep(parquet(places_table(plan.chosen)), "places", "parquet")
        texts = self._keep(parquet(texts_table(plan.chosen, self._encoder.piece)), "texts", "parquet")
        shard = Shard(
            tokens=plan.tokens, samples=len(plan.chosen), positions=plan.positions, values=values, places=places,
            texts=texts, document=plan.document, window=plan.window,
        )  # fmt: skip
        self._write(
            self._manifest.model_copy(
                update={
                    "d_in": {str(site): rows.numbers.shape[1] for site, rows in room.items()},
                    "shards": (*self._manifest.shards, shard),
                    "sums": {str(site): self._sums(str(site), rows, plan) for site, rows in room.items()},
                }
            )
        )

    def _sums(self, site: str, rows: Rows, plan: Plan) -> dict[str, Sums]:
        """The sums over all tokens so far, and over those of each modality; of what is read back, not of what came."""
        found = dict(self._manifest.sums.get(site, {}))
        kinds = np.concatenate([modality(each) for each in plan.chosen])
        for start in range(0, len(kinds), ROWS):
            numbers, within = rows.part(start, start + ROWS).floats().numpy(), kinds[start : start + ROWS]
            for which, name in enumerate(MODALITIES):
                found[name] = found.get(name, Sums()).plus(Sums.over(numbers[within == which]))
        found[ALL] = reduce(Sums.plus, (found[name] for name in MODALITIES))
        return {name: found[name] for name in (ALL, *MODALITIES) if found[name].count}

    def _keep(self, content: bytes, kind: str, ending: str) -> File:
        digest = hashlib.sha256(content).hexdigest()
        name = f"{kind}/{digest[:DIGITS]}.{ending}"
        path = self._folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise self._unwritten(error) from None
        return File(name=name, sha256=digest, bytes=len(content))

    def _write(self, manifest: Manifest) -> None:
        try:
            manifest.write(self._folder)
        except OSError as error:
            raise self._unwritten(error) from None
        self._manifest = manifest

    def _unwritten(self, error: OSError) -> RecordError:
        return RecordError(
            f"a shard cannot be written to {str(self._folder)!r} ({error.strerror}): the {self._manifest.tokens:,} "
            "tokens before it are kept; make room and run the same again."
        )

    def _tidy(self) -> None:
        """Remove what a run that was killed left half written."""
        for path in self._folder.glob("*/.*.tmp"):
            path.unlink(missing_ok=True)
        for path in self._folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
