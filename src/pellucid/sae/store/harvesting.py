"""From a model and a corpus to a store: one pass, several sites, shard after shard."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import get_args

from pellucid.errors import InputError, UnknownNameError
from pellucid.models import Model, VisionLanguage, load
from pellucid.models.text import AbstractTextModel
from pellucid.sae.site import Site
from pellucid.sae.store.corpora import Source, read_corpus
from pellucid.sae.store.encoding import Encoder, Readable
from pellucid.sae.store.job import Job, OnEstimate, OnProgress
from pellucid.sae.store.lock import alone
from pellucid.sae.store.manifest import MANIFEST, Dtype, Making, Manifest
from pellucid.sae.store.reading import Store
from pellucid.sae.store.selector import TokenSelector

SHARD_TOKENS = 32_768
BATCH_TOKENS = 4_096


def harvest(
    model: Model | str,
    sites: Sequence[Site | str],
    corpus: Source,
    out: str | PathLike[str],
    *,
    selector: TokenSelector | str = "text",
    context: int | None = None,
    tokens: int | None = None,
    dtype: Dtype = "bfloat16",
    across: bool = False,
    shard_tokens: int = SHARD_TOKENS,
    batch_tokens: int = BATCH_TOKENS,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    on_estimate: OnEstimate | None = None,
) -> Store:
    """Let a model read a corpus once and keep its activations at some sites. A stopped harvest goes on where it was.

    Args:
        model: a model of text, or of pictures with texts; or the name that loads it.
        sites: modules of its network, such as ``model.layers.15``, or ``model.layers.15:input``.
        corpus: what ``read_corpus`` takes.
        out: the store's folder.
        selector: which tokens are kept.
        context: tokens of a window, into which texts are cut; None: 256, or what the model reads where that is less.
        tokens: tokens after which it ends; None: the whole corpus.
        dtype: how numbers are stored: bfloat16, float16, float32, or int8 with a scale for each token.
        across: whether texts are joined, with the end of text between them, before they are cut.
        shard_tokens: tokens of a shard, which is what a run that is killed has to do again.
        batch_tokens: positions in one call of the network, padding included.
        seed: of whatever the selector leaves to chance.
        on_progress: told after every batch.
        on_estimate: told once, when the first batches have shown how long it will take.

    Raises:
        InputError: a setting or a document that cannot be used, a folder with a store that was made otherwise or
            into which another harvest writes, too little room on the disk, or a selector that keeps nothing.
        UnknownNameError: a site, model, selector or dtype that does not exist.
        NumericalError: an activation is NaN or infinite.
        RecordError: the folder cannot be written to, or the disk is full; what was written before is kept.
    """
    reader = _readable(model)
    chosen = tuple(dict.fromkeys(each if isinstance(each, Site) else Site.of(each) for each in sites))
    _check(chosen, reader, dtype, {"tokens": tokens, "shard_tokens": shard_tokens, "batch_tokens": batch_tokens})
    encoder, read, which = Encoder(reader, context), read_corpus(corpus), TokenSelector.of(selector)
    making = Making(
        model=reader.name, fingerprint=reader.fingerprint(), sites=tuple(map(str, chosen)), corpus=read.survey(),
        selector=which, context=encoder.context, across=across, limit=tokens, dtype=dtype, shard_tokens=shard_tokens,
        batch_tokens=batch_tokens, seed=seed,
    )  # fmt: skip
    folder = Path(out)
    manifest = _begun(folder, making)
    if not manifest.complete:
        with alone(folder):
            # Another harvest may have come to its end since.
            manifest = _begun(folder, making)
            if not manifest.complete:
                Job(reader, chosen, encoder, folder, manifest, on_progress, on_estimate).run(read)
    return Store.open(folder)


def _readable(model: Model | str) -> Readable:
    found = load(model) if isinstance(model, str) else model
    if not isinstance(found, AbstractTextModel | VisionLanguage):
        raise InputError(f"{found.name} reads no text; activations are harvested of models of text, or of both.")
    return found


def _check(sites: Sequence[Site], model: Readable, dtype: str, sizes: dict[str, int | None]) -> None:
    if not sites:
        raise InputError("no site was given; name a module of the network, such as model.layers.15.")
    for site in sites:
        site.find(model.module)
    if dtype not in get_args(Dtype):
        raise UnknownNameError("dtype of a store", dtype, get_args(Dtype))
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InputError(f"{name} must be at least 1, not {size}.")


def _begun(folder: Path, making: Making) -> Manifest:
    """The manifest of a folder, empty where there is none. Raises InputError where it was made otherwise."""
    if not (folder / MANIFEST).is_file():
        return Manifest(making=making)
    manifest = Manifest.read(folder)
    different = manifest.making.differences(making)
    if different:
        raise InputError(
            f"the store in {str(folder)!r} was made otherwise: {'; '.join(different)}; harvest into another folder."
        )
    return manifest
