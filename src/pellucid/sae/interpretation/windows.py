"""Cutting windows out of samples, with what one latent does in them."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pellucid.sae.interpretation.examples import IMAGE, Example, Kind, Picture, levels, patches
from pellucid.sae.interpretation.sources import Events, Sample, Store

SAMPLES_HELD = 256
"""Samples that are kept in memory: latents of a group often meet in the same ones."""


class Activity:
    """Where one latent is active, looked up by sample."""

    def __init__(self, events: Events, latent: int) -> None:
        found = events.of(latent)
        self.latent, self.largest = latent, float(events.maxima[latent])
        # A search for a number of another type would copy all of them each time.
        self.samples = np.asarray(found.samples, dtype=np.int64)
        self.positions, self.values = np.asarray(found.positions), np.asarray(found.values)

    def __len__(self) -> int:
        return len(self.samples)

    def within(self, sample: int, length: int) -> Float[np.ndarray, " position"]:
        """Its activation on each position of a sample; 0 where it is not active or nothing was harvested."""
        start, end = np.searchsorted(self.samples, np.array([sample, sample + 1]))
        values = np.zeros(length)
        values[self.positions[start:end]] = self.values[start:end]
        return values


class Cut(NamedTuple):
    """Which positions of a sample a window holds."""

    positions: tuple[int, ...]
    """Those whose tokens are told; of a picture's patches only the first."""
    first: int
    """First position that it covers."""
    end: int
    """One past the last; the patches of a picture are covered all or none."""


class Windows:
    """Windows of a store.

    Args:
        store: the corpus.
        radius: tokens on each side of the one in the middle.
    """

    def __init__(self, store: Store, radius: int) -> None:
        self._radius = radius
        self.sample = lru_cache(SAMPLES_HELD)(store.sample)
        self.documents = lru_cache(1 << 16)(self._document)

    def _document(self, sample: int) -> str:
        found = self.sample(sample).document
        # Samples that are known to be of no document stand alone.
        return f"sample {sample}" if found is None or found == "" else str(found)

    def cut(self, sample: Sample, position: int) -> Cut:
        """The window around a position; a picture counts as one token."""
        seen = patches(sample)
        places = [place for place in range(len(sample.ids)) if place not in seen or place == seen.start]
        middle = places.index(seen.start if position in seen else position)
        told = tuple(places[max(0, middle - self._radius) : middle + self._radius + 1])
        end = seen.stop if len(seen) and told[-1] == seen.start else told[-1] + 1
        return Cut(told, told[0], end)

    def example(
        self, activity: Activity, number: int, position: int, kind: Kind, quantile: int | None = None
    ) -> Example:
        """A window with the levels of a latent."""
        sample = self.sample(number)
        cut, seen = self.cut(sample, position), patches(sample)
        values = activity.within(number, len(sample.ids))
        inside = [place for place in cut.positions if place not in seen]
        told = dict(zip(inside, levels(values[inside], activity.largest), strict=True))
        with_picture = sample.image is not None and len(inside) < len(cut.positions)
        return Example(
            kind=kind,
            sample=number,
            document=self.documents(number),
            position=position,
            start=cut.first,
            end=cut.end,
            pieces=tuple(IMAGE if place in seen else sample.pieces[place] for place in cut.positions),
            levels=tuple(told.get(place, 0) for place in cut.positions),
            value=float(values[position]),
            quantile=quantile,
            picture=_picture(sample, values[seen.start : seen.stop], activity.largest) if with_picture else None,
        )

    def is_clear(self, activity: Activity, number: int, position: int) -> bool:
        """Whether the latent is active nowhere in the window around a position, nor on a patch of its picture."""
        sample = self.sample(number)
        cut = self.cut(sample, position)
        return not activity.within(number, len(sample.ids))[cut.first : cut.end].any()


def _picture(sample: Sample, values: Float[np.ndarray, " patch"], largest: float) -> Picture:
    assert sample.grid is not None
    rows, columns = sample.grid
    return Picture(path=str(sample.image), rows=rows, columns=columns, levels=levels(values, largest))


def quantile_of(values: Float[np.ndarray, " event"], parts: int) -> Int[np.ndarray, " event"]:
    """Which of so many equal parts by activation each event is in, 0 the weakest; equal ones by their order."""
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values), dtype=np.int64)
    found[order] = np.arange(len(values)) * parts // max(1, len(values))
    return found
