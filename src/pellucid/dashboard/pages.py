"""A dashboard: a page for each of some latents, and an index of them. Pages that are there are not made again."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pellucid._version import __version__
from pellucid.dashboard.gathering import Gatherer, Sources, group_names, page_name
from pellucid.dashboard.neuronpedia import write_neuronpedia
from pellucid.errors import InputError
from pellucid.files import write_atomically
from pellucid.progress import progress
from pellucid.report.latents import index_page, latent_page, share
from pellucid.report.latents_figures import density_bins
from pellucid.report.latents_view import IndexView, LatentView

INDEX, PAGES, MANIFEST = "index.html", "latents", "dashboard.json"


class Dashboard(NamedTuple):
    """What was written."""

    folder: Path
    """Where."""
    pages: int
    """Pages of latents."""
    new: int
    """Those that were made now; the others were there."""
    dead: int
    """Pages of latents that are active nowhere."""

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.folder / INDEX


def write_dashboard(sources: Sources, folder: Path | str, title: str) -> Dashboard:
    """Write or go on with a dashboard; a page is there whole or not at all.

    Args:
        sources: where the numbers come from, and of which latents.
        folder: an empty one, or that of an earlier call. Pages that were made from something else are replaced.
        title: what the autoencoder is called.

    Raises:
        InputError: the folder holds other files, or events and autoencoder do not fit.
        RecordError: a store is damaged.
        OSError: the disk is full; finished pages stay.
    """
    folder, gatherer = Path(folder), Gatherer(sources)
    _prepare(folder, _digest(sources))
    new = 0
    with progress("Writing pages", len(sources.pages)) as advance:
        for latent in sources.pages:
            path = folder / PAGES / page_name(latent)
            if not path.exists():
                write_atomically(path, latent_page(gatherer.view(latent)).encode("utf-8", "backslashreplace"))
                new += 1
            advance(1)
    index = _index(sources, gatherer, title)
    write_atomically(folder / INDEX, index_page(index).encode("utf-8", "backslashreplace"))
    return Dashboard(folder, len(sources.pages), new, index.dead)


def export_neuronpedia(sources: Sources, path: Path, sae_set: str) -> Path:
    """Write the same latents in Neuronpedia's format; gives the path of the explanations. Raises RecordError."""
    gatherer, manifest = Gatherer(sources), sources.store.manifest

    def views() -> Iterator[LatentView]:
        with progress("Writing features", len(sources.pages)) as advance:
            for latent in sources.pages:
                yield gatherer.view(latent)
                advance(1)

    return write_neuronpedia(
        path,
        views(),
        model=sources.sae.origin.model or manifest.model,
        site=sources.site,
        sae_set=sae_set,
        prompts=sources.store.samples,
        dataset=manifest.corpus,
    )


def _prepare(folder: Path, digest: str) -> None:
    """Make the folder ready: pages of an earlier call stay where they were made from the same."""
    written, record = folder / MANIFEST, {"type": "latents", "schema_version": 1, "of": digest, "pellucid": __version__}
    if folder.is_dir() and any(folder.iterdir()) and not written.is_file():
        raise InputError(f"{str(folder)!r} holds other files; give a new or empty folder for the dashboard.")
    if written.is_file() and _made_from(written) != digest:
        for path in (folder / PAGES).glob("*.html"):
            path.unlink()
    (folder / PAGES).mkdir(parents=True, exist_ok=True)
    write_atomically(written, json.dumps(record, indent=1).encode())


def _made_from(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes()).get("of", ""))
    except (ValueError, AttributeError):
        # Whatever it was, the pages are made again.
        return ""


def _digest(sources: Sources) -> str:
    """SHA-256 of everything that decides what the pages say."""
    manifest = sources.events.manifest
    parts: list[Any] = [
        __version__,
        manifest.model_dump(mode="json"),
        sources.amounts,
        list(sources.pages),
        sources.model is not None,
        sources.sae.origin.model_dump(mode="json"),
        sorted(sources.meanings.items()),
    ]
    total = hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace"))
    for place in ("templates", "assets"):
        for file in sorted(files("pellucid.report").joinpath(place).iterdir(), key=lambda each: each.name):
            total.update(file.read_bytes())
    return total.hexdigest()


def _index(sources: Sources, gatherer: Gatherer, title: str) -> IndexView:
    names = [each.scores[0].name for each in sources.meanings.values() if each.scores]
    # That of most latents: different measures do not belong into one column.
    score = max(sorted(set(names)), key=names.count, default="")
    rows = tuple(gatherer.row(latent, score) for latent in sources.pages)
    return IndexView(
        title=title,
        model=sources.sae.origin.model or sources.store.manifest.model,
        site=sources.site,
        facts=tuple(_facts(sources, score, [row.score for row in rows if row.score is not None])),
        groups=group_names(sources.sae),
        score=score,
        rows=rows,
        density_histogram=density_bins([row.density for row in rows]),
        dead=sum(row.density == 0 for row in rows),
    )


def _facts(sources: Sources, score: str, scores: Sequence[float]) -> Iterator[tuple[str, str]]:
    sae, events = sources.sae, sources.events
    config = sae.config
    alive = int((events.counts > 0).sum())
    yield "autoencoder", f"{config.architecture}, {config.width:,} latents of {config.d_in} dimensions"
    yield "alive", f"{alive:,} of {events.width:,} ({share(alive / events.width)}) on these tokens"
    yield "active on a token", f"{len(events) / max(1, events.tokens):.1f} latents on average"
    yield "corpus", f"{sources.store.manifest.corpus}: {events.tokens:,} tokens in {sources.store.samples:,} samples"
    if sources.meanings:
        yield "explained", f"{sum(bool(each.explanation) for each in sources.meanings.values()):,} latents"
    if scores:
        yield "score", f"{score}, of which 0.5 is guessing; the median of those below is {median(scores):.2f}"
