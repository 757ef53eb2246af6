"""An autoencoder judged on a store: one streaming pass, and on request the model's loss and probes."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from functools import reduce
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.models import LoadedModel, load
from pellucid.sae.autoencoder import SAE
from pellucid.sae.evaluation.loss import measure, summary
from pellucid.sae.evaluation.matter import passages_of_store, passages_of_texts
from pellucid.sae.evaluation.partial import Kept
from pellucid.sae.evaluation.probing import Labelled, probing
from pellucid.sae.evaluation.quality import densities, quality
from pellucid.sae.evaluation.reconstruction import add_reconstructions
from pellucid.sae.evaluation.records import Evaluation, Loss
from pellucid.sae.evaluation.similarity import similarity
from pellucid.sae.evaluation.sums import Sums
from pellucid.sae.events.digest import digest
from pellucid.sae.events.rows import check_width
from pellucid.sae.runs.record import CORPUS_DIGEST
from pellucid.sae.site import Site
from pellucid.sae.store import AbstractCorpus, Store, read_corpus
from pellucid.sae.store.corpora import Source
from pellucid.sae.store.encoding import Readable


def evaluate(
    sae: SAE | str | PathLike[str],
    store: Store | str | PathLike[str],
    site: Site | str | None = None,
    *,
    model: LoadedModel | str | None = None,
    texts: Source | None = None,
    loss_samples: int = 64,
    examples: Sequence[Labelled] | None = None,
    tokens: int | None = None,
    batch: int = 4096,
    seed: int = 0,
    partial: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
) -> Evaluation:
    """Judge an autoencoder on the activations of a store, and in the model that they are of.

    Every number is of one streaming pass in float64, and of the store that is given: for an honest one give a store
    of texts that the autoencoder was not trained on.

    Args:
        sae: the autoencoder, or its folder.
        store: the activations, or their folder.
        site: which of the store's; None: the one that the autoencoder names, or the store's only one.
        model: the store's model, or its name: also measure what its predictions lose when the site passes through the
            autoencoder.
        texts: what the model reads for that, as ``read_corpus`` takes it; None: samples of the store.
        loss_samples: how many samples it reads for that.
        examples: labelled texts: also probe how much of the labels one, two and five latents hold.
        tokens: rows of the store, at random; None: all.
        batch: rows at a time.
        seed: of whatever is drawn.
        partial: a file that keeps what was found while this runs, from which the same evaluation goes on.
        out: a file for the result, as JSON, which is written before ``partial`` is deleted.

    Raises:
        InputError: the autoencoder has another width than the site; no model, or another than the store's; ``out`` is
            a folder.
        UnknownNameError: a site that the store has not.
        NumericalError: an activation is NaN or infinite; it names row and shard.
        RecordError: ``partial`` or ``out`` cannot be written.
    """
    require_file(out)
    sae = sae if isinstance(sae, SAE) else SAE.load(Path(sae))
    store = store if isinstance(store, Store) else Store.open(store)
    where = _site(sae, store, site)
    check_width(sae, store, where)
    for name, value in {"tokens": tokens, "batch": batch, "loss_samples": loss_samples}.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}.")
    network = _model(model, store, needed=bool(examples) or texts is not None)
    corpus = None if texts is None else read_corpus(texts)
    job = _Job(sae, store, where, network, corpus, loss_samples, tuple(examples or ()), tokens, batch, seed)
    kept = Kept(job.digest, None if partial is None else Path(partial))
    return _carried_out(job, kept, None if out is None else Path(out))


def require_file(out: str | PathLike[str] | None) -> None:
    """Raises InputError where a folder stands in place of a file that is to be written."""
    if out is not None and Path(out).is_dir():
        raise InputError(
            f"{str(out)!r} is a folder, and the evaluation is one file; name it, such as "
            f"{str(Path(out) / 'evaluation.json')!r}."
        )


def _carried_out(job: "_Job", kept: Kept, out: Path | None) -> Evaluation:
    """What a job finds, written where that is asked for; only then is what was kept of it deleted."""
    try:
        found = job.run(kept)
        if out is not None:
            _save(found, out)
    except BaseException:
        # Where that fails too, the disk is full, and the first error says so.
        with suppress(RecordError):
            kept.write()
        raise
    kept.forget()
    return found


def _save(found: Evaluation, out: Path) -> None:
    try:
        write_atomically(out, f"{found.model_dump_json(indent=1)}\n".encode())
    except OSError as error:
        raise RecordError(
            f"the evaluation {str(out)!r} cannot be written ({error.strerror}); free the space and run the same again, "
            "which goes on from what was kept."
        ) from None


class _Job(NamedTuple):
    """What is evaluated, and how."""

    sae: SAE
    store: Store
    site: Site
    model: Readable | None
    corpus: AbstractCorpus | None
    samples: int
    examples: tuple[Labelled, ...]
    tokens: int | None
    batch: int
    seed: int

    @property
    def digest(self) -> str:
        """Of everything that sums and losses depend on."""
        texts = None if self.corpus is None else self.corpus.survey().digest
        numbers = [self.samples, self.tokens, self.batch, self.seed]
        question = [digest(self.sae), self.store.digest, str(self.site), texts, numbers]
        return hashlib.sha256(json.dumps(question).encode()).hexdigest()

    def run(self, kept: Kept) -> Evaluation:
        """All of it. ``kept`` takes in what was found."""
        sae, model = self.sae, self.model
        add_reconstructions(
            sae, self.store, self.site, kept, batch=self.batch, tokens=self.tokens, seed=self.seed
        )  # fmt: skip
        sums, d_in = kept.now.sums, sae.config.d_in
        whole = reduce(Sums.plus, sums.values())
        probes = None
        if self.examples and model is not None:
            probes = probing(model, sae, self.site, self.store.manifest.making, self.examples, seed=self.seed)
        return Evaluation(
            **_said(sae, self.store, self.site),
            all=quality(whole, d_in),
            modalities={name: quality(each, d_in) for name, each in sums.items()},
            densities=densities(whole.fired, whole.tokens),
            similarity=similarity(sae.W_dec),
            loss=None if model is None else self._loss(model, kept),
            probing=probes,
            seconds=kept.seconds,
        )

    def _loss(self, model: Readable, kept: Kept) -> Loss:
        manifest = self.store.manifest
        if self.corpus is None:
            source = f"the store ({manifest.corpus})"
            passages = passages_of_store(model, self.store, self.samples, self.seed)
        else:
            source = self.corpus.source
            passages = passages_of_texts(model, manifest.making, self.corpus, self.samples, self.seed)
        done = [list(each) for each in kept.now.losses] or [[] for _ in passages]

        def keep() -> None:
            kept.update(losses=tuple(map(tuple, done)))

        mean = torch.from_numpy(self.store.statistics(self.site).mean).float()
        sae = self.sae if self.sae.W_enc.device == model.device else deepcopy(self.sae).to(model.device)
        measure(model, sae, self.site, passages, mean, done, keep)
        return summary(np.array(done), source, self.seed)


def _site(sae: SAE, store: Store, site: Site | str | None) -> Site:
    """Which site is meant. Raises InputError where it could be several."""
    if site is not None:
        return site if isinstance(site, Site) else Site.of(site)
    sites = store.manifest.sites
    if sae.origin.site in sites or len(sites) == 1:
        return Site.of(sae.origin.site if sae.origin.site in sites else sites[0])
    raise InputError(f"the store has the sites {', '.join(sites)}; say which one: site=... or --site.")


def _model(model: LoadedModel | str | None, store: Store, *, needed: bool) -> Readable | None:
    """The model, if one is given or ``needed``. Raises InputError where it is not the store's."""
    if model is None:
        if needed:
            raise InputError(f"texts are read by the model; give the store's, {store.manifest.model!r}, as the model.")
        return None
    found = load(model) if isinstance(model, str) else model
    if not isinstance(found, Readable):
        raise InputError(f"{found.name} reads no text; give the store's model, {store.manifest.model!r}.")
    if found.fingerprint().weights != store.manifest.fingerprint.weights:
        raise InputError(
            f"the weights of {found.name} are not those of the model that the store's activations are of, "
            f"{store.manifest.model!r}; give that one."
        )
    return found


def _said(sae: SAE, store: Store, site: Site) -> dict[str, Any]:
    """What an evaluation says of what was evaluated."""
    config, manifest = sae.config, store.manifest
    return {
        "sae": digest(sae),
        "store": store.digest,
        "site": str(site),
        "model": manifest.model,
        "corpus": manifest.corpus,
        "selector": manifest.selector.model_dump(mode="json"),
        "held_out": _held_out(sae, store),
        "architecture": config.architecture,
        "width": config.width,
        "d_in": config.d_in,
    }


def _held_out(sae: SAE, store: Store) -> bool | None:
    """Whether a store is of another corpus, document by document, than an autoencoder was trained on.

    None where that cannot be told: another store of one corpus, or an autoencoder that does not say on which.
    """
    if sae.origin.store == store.digest:
        return False
    # Not by its name: one file has many.
    known = sae.origin.training.get(CORPUS_DIGEST)
    return True if known and known != store.manifest.making.corpus.digest else None
