"""The event store: where each latent was active, read without being loaded."""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pellucid.errors import InputError, RecordError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events.coactivity import Measure, Partner, joint_counts, partners
from pellucid.sae.events.columns import mapped
from pellucid.sae.events.merging import LATENTS, ROW_OFFSETS, ROWS, TOTALS, VALUES
from pellucid.sae.events.picking import Histogram, LatentEvents, log_histogram, quantile_bins, strongest
from pellucid.sae.events.writing import POSITIONS, RUN_EVENTS, SAMPLES, read_manifest, write_events
from pellucid.sae.site import Site
from pellucid.sae.store import Store


class Events:
    """Every activation of every latent on the tokens of a store, sorted by latent, in a folder.

    Of the disk only what is asked for is read; in memory are a few numbers for each latent.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open a folder that ``Events.write`` has finished. Raises InputError, RecordError."""
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        try:
            self._totals = load_file(self.folder / TOTALS)
        except (OSError, SafetensorError) as error:
            raise RecordError(
                f"the totals of the events in {str(self.folder)!r} cannot be read ({error}); write them again."
            ) from None
        self._offsets = np.concatenate([[0], np.cumsum(self.counts)])
        tokens, total = self.tokens, self.manifest.events
        self._rows, self._values = self._column(ROWS, total), self._column(VALUES, total)
        self._latents, self._row_offsets = self._column(LATENTS, total), self._column(ROW_OFFSETS, tokens + 1)
        self._samples, self._positions = self._column(SAMPLES, tokens), self._column(POSITIONS, tokens)

    @classmethod
    def open(cls, folder: Path | str) -> "Events":
        """The events of a folder. Raises InputError where there are none, RecordError where they are damaged."""
        return cls(folder)

    @classmethod
    def write(
        cls,
        sae: SAE,
        store: Store,
        site: Site | str,
        folder: Path | str,
        *,
        batch: int = 4096,
        run_events: int = RUN_EVENTS,
    ) -> "Events":
        """Encode every row of a store, and sort what is active by latent; a stopped pass goes on, a finished one stays.

        Args:
            sae: the autoencoder.
            store: the activations.
            site: where in the model; one of the store's.
            folder: a folder of its own; it takes about 16 bytes for each activation, and as much again meanwhile.
            batch: tokens that are encoded at a time.
            run_events: activations that are held at a time.

        Raises:
            InputError: the folder holds other events, or the autoencoder does not fit the site.
            NumericalError: an activation in the store is NaN or infinite.
            OSError: the disk is full; what was written stays, and the next call goes on from it.
        """
        site = Site.of(site) if isinstance(site, str) else site
        write_events(sae, store, site, Path(folder), batch=batch, run_events=run_events)
        return cls(folder)

    def _column(self, name: str, count: int) -> np.ndarray:
        return mapped(self.folder / name, count)

    @property
    def width(self) -> int:
        """Latents of the autoencoder, dead ones included."""
        return self.manifest.source.width

    @property
    def tokens(self) -> int:
        """Rows of the store."""
        return self.manifest.source.tokens

    def __len__(self) -> int:
        """Events over all latents."""
        return self.manifest.events

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of ``modality_counts``."""
        return self.manifest.modalities

    # Of every latent

    @property
    def counts(self) -> Int[np.ndarray, " latent"]:
        """On how many tokens each latent is active."""
        return self._totals["counts"]

    @property
    def sums(self) -> Float[np.ndarray, " latent"]:
        """Sum of each latent's activations."""
        return self._totals["sums"]

    @property
    def maxima(self) -> Float[np.ndarray, " latent"]:
        """Highest activation of each latent; 0 for one that is dead here."""
        return self._totals["maxima"]

    @property
    def means(self) -> Float[np.ndarray, " latent"]:
        """Mean of each latent's activations where it is active; 0 for one that is dead here."""
        return np.asarray(self.sums / np.maximum(self.counts, 1))

    @property
    def densities(self) -> Float[np.ndarray, " latent"]:
        """Share of the tokens on which each latent is active."""
        return np.asarray(self.counts / self.tokens)

    @property
    def modality_counts(self) -> Int[np.ndarray, "modality latent"]:
        """``counts`` of each modality."""
        return self._totals["modality_counts"]

    @property
    def modality_tokens(self) -> Int[np.ndarray, " modality"]:
        """Rows of each modality."""
        return self._totals["modality_tokens"]

    @cached_property
    def dead(self) -> Int[np.ndarray, " dead"]:
        """Latents that are active on none of these tokens; with more tokens some of them may be."""
        return np.flatnonzero(self.counts == 0)

    # Of one latent

    def of(self, latent: int) -> LatentEvents:
        """All its events in the order of the rows. Raises InputError where there is no such latent."""
        part = self._part(latent)
        rows = self._rows[part]
        return LatentEvents(latent, rows, self._samples[rows], self._positions[rows], self._values[part])

    def top(self, latent: int, n: int, *, distinct: bool = False) -> LatentEvents:
        """Its n events of the highest activation, highest first; ``distinct``: at most one of each sample."""
        return strongest(self.of(latent), n, distinct=distinct)

    def quantiles(
        self, latent: int, n: int, bins: int = 10, *, seed: int = 0, distinct: bool = False
    ) -> tuple[LatentEvents, ...]:
        """N of its events at random from each of ``bins`` equal parts by activation, the lowest part first.

        The same seed gives the same events. ``distinct``: at most one of each sample, over all parts.
        """
        return quantile_bins(self.of(latent), n, bins, seed=seed, distinct=distinct)

    def histogram(self, latent: int, bins: int = 40) -> Histogram:
        """Its activations counted in bins of even width in the logarithm."""
        return log_histogram(self.of(latent), bins)

    def coactive(self, latent: int, n: int, by: Measure = "jaccard") -> tuple[Partner, ...]:
        """The n latents that are most often active with it, counted over all tokens."""
        rows = self._rows[self._part(latent)]
        both = joint_counts(rows, self._row_offsets, self._latents, self.width)
        return partners(latent, both, self.counts, self.tokens, n, by)

    def is_active(self, latent: int, rows: Int[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Whether it is active on each of some rows of the store."""
        known = self._rows[self._part(latent)]
        if not len(known):
            return np.zeros(len(rows), bool)
        place = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        return np.asarray(known[place] == rows)

    # Of one row

    def at(self, row: int) -> Int[np.ndarray, " active"]:
        """The latents that are active on a row of the store, in their order."""
        if not 0 <= row < self.tokens:
            raise InputError(f"there is no row {row}: the store has {self.tokens}, from 0 on.")
        return np.asarray(self._latents[self._row_offsets[row] : self._row_offsets[row + 1]])

    def _part(self, latent: int) -> slice:
        if not 0 <= latent < self.width:
            raise InputError(
                f"there is no latent {latent}: the autoencoder has {self.width}, from 0 to {self.width - 1}."
            )
        return slice(int(self._offsets[latent]), int(self._offsets[latent + 1]))
