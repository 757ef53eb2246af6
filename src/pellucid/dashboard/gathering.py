"""From stores and interpretations to the records that pages about latents are drawn from."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pellucid.errors import InputError, ModelError
from pellucid.models.vision_language import VisionLanguage
from pellucid.report.latents_view import (
    BandView,
    ExampleView,
    HistogramView,
    LatentView,
    LogitView,
    NeighbourView,
    PatchesView,
    RowView,
    ScoreView,
    TokenView,
)
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events, LatentEvents, logits
from pellucid.sae.events.digest import digest
from pellucid.sae.interpretation.examples import patches
from pellucid.sae.interpretation.windows import Activity, Windows
from pellucid.sae.store import Sample, Store

LARGEST_PICTURE = 4096
"""Pixels of a side beyond which a picture is not opened."""


class Meaning(NamedTuple):
    """What is said of a latent, and how well it holds."""

    explanation: str = ""
    """A phrase; empty where nobody said."""
    explainer: str = ""
    """Who said so."""
    scores: tuple[ScoreView, ...] = ()
    """How well it holds."""


class Amounts(NamedTuple):
    """How much of everything a page shows."""

    top: int = 12
    """Examples with the highest activation."""
    bands: int = 4
    """Equal parts of the events, from high to low."""
    each: int = 3
    """Examples of each part."""
    neighbours: int = 8
    """Latents that are active together with it, and latents that are alike."""
    logits: int = 10
    """Tokens at each end."""
    radius: int = 24
    """Tokens on each side of the one that an example was chosen for."""


class Sources(NamedTuple):
    """Where a dashboard's numbers come from."""

    sae: SAE
    """The autoencoder."""
    events: Events
    """Where its latents are active."""
    store: Store
    """The corpus."""
    meanings: Mapping[int, Meaning]
    """What is known of latents, by index."""
    model: Any
    """The model, for logits; None: none are shown."""
    pages: Sequence[int]
    """Latents that have a page, rising."""
    amounts: Amounts = Amounts()
    """How much is shown."""

    @property
    def site(self) -> str:
        """Where in the model the latents are."""
        return self.events.manifest.source.site


TOKENS_ASKED = 12
"""Of so many of its highest activations a latent's commonest tokens are taken."""


class Gatherer:
    """Makes the record of one latent after the other; in memory are the autoencoder and a few hundred samples."""

    def __init__(self, sources: Sources) -> None:
        """Raises InputError where the events are of another autoencoder."""
        sae, events = sources.sae, sources.events
        if sae.width != events.width:
            raise InputError(
                f"the events are of an autoencoder with {events.width} latents and this one has {sae.width}; give the "
                "events that were written for it."
            )
        if digest(sae) != events.manifest.source.sae:
            raise InputError(
                "the events are of another autoencoder of that width; give those that were written for this one, or an "
                "empty folder, where they are written."
            )
        self.sources = sources
        self._windows = Windows(sources.store, sources.amounts.radius)
        self._picture = lru_cache(64)(lambda path: picture_of(path, sources.model))
        self._unit = torch.nn.functional.normalize(sae.W_dec.float(), dim=1)

    def view(self, latent: int) -> LatentView:
        """Everything that a latent's page shows. Raises RecordError where a store is damaged."""
        sae, events, amounts = self.sources.sae, self.sources.events, self.sources.amounts
        meaning = self.sources.meanings.get(latent, Meaning())
        promoted, suppressed, note = self._logits(latent)
        counted = events.histogram(latent) if events.counts[latent] else None
        before, behind = self._beside(latent)
        return LatentView(
            latent=latent,
            width=sae.width,
            model=sae.origin.model or self.sources.store.manifest.model,
            site=self.sources.site,
            architecture=sae.config.architecture,
            group=group_names(sae)[group_of(sae, latent)],
            count=int(events.counts[latent]),
            tokens=events.tokens,
            maximum=float(events.maxima[latent]),
            mean=float(events.means[latent]),
            scale=self._scale(latent),
            by_modality=self._modalities(latent),
            explanation=meaning.explanation,
            mostly=self._mostly(latent),
            explainer=meaning.explainer,
            scores=meaning.scores,
            histogram=_histogram_view(counted),
            bands=self._bands(latent) if events.counts[latent] else (),
            coactive=tuple(
                self._neighbour(each.latent, each.jaccard, f"{each.jaccard:.0%} of the tokens")
                for each in (events.coactive(latent, amounts.neighbours) if events.counts[latent] else ())
            ),
            similar=self._similar(latent),
            promoted=promoted,
            suppressed=suppressed,
            logits_note=note,
            before=before,
            behind=behind,
        )

    def row(self, latent: int, score: str) -> RowView:
        """A latent in the index, with the score of that name."""
        events, meaning = self.sources.events, self.sources.meanings.get(latent, Meaning())
        return RowView(
            latent=latent,
            density=float(events.counts[latent] / max(1, events.tokens)),
            maximum=float(events.maxima[latent]),
            group=group_of(self.sources.sae, latent),
            score=next((each.found.value for each in meaning.scores if each.name == score), None),
            explanation=meaning.explanation or self._mostly(latent),
        )

    def _mostly(self, latent: int) -> str:
        """The commonest tokens among its highest activations, for a latent that nobody explained."""
        highest = self.sources.events.top(latent, TOKENS_ASKED, distinct=True)
        found: Counter[str] = Counter()
        for number, position in zip(highest.samples, highest.positions, strict=True):
            sample = self._windows.sample(int(number))
            assert isinstance(sample, Sample)
            in_picture = int(position) in patches(sample)
            found["a picture" if in_picture else f"“{sample.pieces[int(position)].strip()}”"] += 1
        return f"mostly {', '.join(name for name, _ in found.most_common(3))}" if found else ""

    def _scale(self, latent: int) -> float:
        """Not the highest activation, since a single one, far above the others, would leave these without colour."""
        values = self.sources.events.of(latent).values
        return float(np.quantile(values, 0.95)) if len(values) else 0.0

    def _beside(self, latent: int) -> tuple[str, str]:
        pages = self.sources.pages
        at = bisect_left(pages, latent)
        before = pages[at - 1] if at else None
        behind = pages[at + 1] if at + 1 < len(pages) else None
        return ("" if before is None else page_name(before)), ("" if behind is None else page_name(behind))

    def _modalities(self, latent: int) -> tuple[tuple[str, float], ...]:
        events = self.sources.events
        counts, totals = events.modality_counts[:, latent], events.modality_tokens
        present = [at for at in range(len(totals)) if totals[at]]
        if len(present) < 2:
            return ()
        return tuple((events.modalities[at], float(counts[at] / totals[at])) for at in present)

    # Examples

    def _bands(self, latent: int) -> tuple[BandView, ...]:
        """The highest, then equal parts of all events from high to low; at most one example of each sample."""
        events, amounts = self.sources.events, self.sources.amounts
        activity = Activity(events, latent)
        highest = events.top(latent, amounts.top, distinct=True)
        found = [self._band("Highest activations", highest, activity, len(highest) / len(activity))]
        if len(activity) < 2 * amounts.bands:
            return tuple(found)
        parts = events.quantiles(latent, amounts.each, amounts.bands, distinct=True)
        for number, part in enumerate(reversed(parts)):
            if len(part):
                name = _part_name(number, amounts.bands)
                found.append(self._band(name, part, activity, 1 / amounts.bands))
        return tuple(found)

    def _band(self, name: str, chosen: LatentEvents, activity: Activity, share: float) -> BandView:
        examples = [
            self._example(activity, int(sample), int(position))
            for sample, position in zip(chosen.samples, chosen.positions, strict=True)
        ]
        return BandView(name, float(chosen.values.min()), float(chosen.values.max()), share, tuple(examples))

    def _example(self, activity: Activity, number: int, position: int) -> ExampleView:
        sample = self._windows.sample(number)
        assert isinstance(sample, Sample)
        cut, seen = self._windows.cut(sample, position), patches(sample)
        values, pieces = activity.within(number, len(sample.ids)), sample.pieces
        tokens = []
        for place in cut.positions:
            if place in seen:
                part = values[seen.start : seen.stop]
                tokens.append(TokenView("[picture]", float(part.max()), position in seen, is_picture=True))
            else:
                tokens.append(TokenView(pieces[place], float(values[place]), place == position))
        return ExampleView(
            tokens=tuple(tokens),
            value=float(values[position]),
            sample=number,
            position=position,
            document=str(sample.document or ""),
            cut=(cut.first > 0, cut.end < len(sample.ids)),
            picture=self._patches(sample, values) if len(seen) else None,
        )

    def _patches(self, sample: Sample, values: Float[np.ndarray, " position"]) -> PatchesView | None:
        if sample.image is None or sample.grid is None:
            return None
        seen = patches(sample)
        grid = values[seen.start : seen.stop].reshape(sample.grid)
        colours = self._picture(Path(sample.image))
        return PatchesView(colours, grid, Path(sample.image).name, _picture_note(colours, self.sources.model))

    # Latents beside it, and tokens

    @torch.no_grad()
    def _similar(self, latent: int) -> tuple[NeighbourView, ...]:
        """The latents whose decoder direction has the greatest cosine with this one's."""
        cosines: Tensor = self._unit @ self._unit[latent]
        cosines[latent] = -2
        nearest = cosines.topk(min(self.sources.amounts.neighbours, self.sources.sae.width - 1))
        return tuple(
            self._neighbour(int(index), float(value), f"cosine {float(value):.2f}")
            for value, index in zip(nearest.values, nearest.indices, strict=True)
        )

    def _neighbour(self, latent: int, value: float, detail: str) -> NeighbourView:
        meaning, pages = self.sources.meanings.get(latent, Meaning()), self.sources.pages
        at = bisect_left(pages, latent)
        has_page = at < len(pages) and pages[at] == latent
        return NeighbourView(latent, value, detail, meaning.explanation, page_name(latent) if has_page else "")

    def _logits(self, latent: int) -> tuple[tuple[LogitView, ...], tuple[LogitView, ...], str]:
        model = self.sources.model
        if model is None:
            return (), (), "The model was not loaded, so no logits are shown."
        try:
            found = logits(model, self.sources.sae, latent, self.sources.amounts.logits)
        except (ModelError, InputError) as error:
            return (), (), f"No logits are shown: {error}"
        top = tuple(LogitView(each.text, each.logit) for each in found.top)
        bottom = tuple(LogitView(each.text, each.logit) for each in found.bottom)
        return top, bottom, ""


def page_name(latent: int) -> str:
    """File name of a latent's page."""
    return f"{latent}.html"


def group_of(sae: SAE, latent: int) -> int:
    """Index of the first prefix that holds a latent."""
    return next(at for at, size in enumerate(sae.config.prefixes) if latent < size)


def group_names(sae: SAE) -> tuple[str, ...]:
    """Which latents each prefix adds; empty names where there is only one."""
    sizes = sae.config.prefixes
    if len(sizes) < 2:
        return ("",) * len(sizes)
    starts = (0, *sizes[:-1])
    return tuple(
        f"prefix {at} of {len(sizes)} (latents {start} to {size - 1})"
        for at, (start, size) in enumerate(zip(starts, sizes, strict=True), 1)
    )


def picture_of(path: Path, model: Any = None) -> UInt8[np.ndarray, "height width 3"] | None:
    """A picture in colour, cut and scaled as the network sees it where the model is there.

    None where its file is gone, broken or huge, which the page says.
    """
    try:
        with Image.open(path) as image:
            if max(image.size) > LARGEST_PICTURE:
                return None
            if not isinstance(model, VisionLanguage):
                return np.asarray(image.convert("RGB"))
            seen = model.pictures.encode(image.convert("RGB")).picture
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None
    return np.ascontiguousarray(np.broadcast_to(seen, (*seen.shape[:2], 3)))


def _picture_note(colours: UInt8[np.ndarray, "height width 3"] | None, model: Any) -> str:
    if colours is None:
        return "its file is gone"
    if not isinstance(model, VisionLanguage) and colours.shape[0] != colours.shape[1]:
        return "the model was not loaded, so the patches are laid over the whole picture, which it may have cut"
    return ""


def _part_name(number: int, parts: int) -> str:
    if number == 0:
        return f"Upper {100 // parts} % of its activations"
    if number == parts - 1:
        return f"Lower {100 // parts} % of its activations"
    high = 100 - 100 * number // parts
    return f"From {high - 100 // parts} % to {high} % of its activations, by rank"


def _histogram_view(counted: Any) -> HistogramView:
    if counted is None:
        return HistogramView((0.5, 1.0), (0,))
    return HistogramView(tuple(float(each) for each in counted.edges), tuple(int(each) for each in counted.counts))
