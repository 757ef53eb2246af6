"""Interpretation from folders to a folder, as the command does it."""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.interpretation.backends import ORACLE, Asked, backends
from pellucid.sae.interpretation.budget import Budget
from pellucid.sae.interpretation.cache import Cache
from pellucid.sae.interpretation.choosing import Choice
from pellucid.sae.interpretation.job import interpret
from pellucid.sae.interpretation.run import read_ledger
from pellucid.sae.interpretation.selecting import selected
from pellucid.sae.interpretation.settings import Scorer, Settings
from pellucid.sae.interpretation.summary import Summary
from pellucid.sae.store import Store

ANSWERS = "answers.sqlite"


class Wish(NamedTuple):
    """What is wanted."""

    latents: str | None = None
    """Which, as ``selected`` takes them."""
    sample: int | None = None
    """So many at random."""
    scorers: tuple[Scorer, ...] = ("detection", "fuzzing")
    """What is scored."""
    radius: int = 16
    """Tokens on each side."""
    explain: int = 16
    """Examples that explain a latent."""
    score: int = 20
    """Examples with the latent that score it."""
    baselines: int = 20
    """Latents scored with another one's explanation too."""
    random_directions: int = 8
    """Random directions treated as latents."""
    seed: int = 0
    """Of every draw."""
    calls: int | None = None
    """The most calls."""
    tokens: int | None = None
    """The most tokens."""
    cache: Path | None = None
    """Where answers are kept; None: in the run's folder."""
    encoder: Path | None = None
    """Folder of the sentence encoder; None: MiniLM."""
    keep_prompts: bool = True
    """Whether questions and answers are kept readable."""


def interpret_folders(
    sae: Path, store: Path, events: Path, out: Path, asked: Asked, wish: Wish
) -> tuple[Summary, list[str]]:
    """Interpret an autoencoder's latents. Returns the summary, and what could not be asked for as intended.

    Raises as ``interpret`` and ``backends`` do; InputError where autoencoder, store and events do not belong together.
    """
    autoencoder, activations = SAE.load(sae), Store.open(store)
    site = site_of(autoencoder, activations)
    known = Events.write(autoencoder, activations, site, events)
    latents = selected(wish.latents, wish.sample, known.width, np.asarray(known.counts), wish.seed)
    settings = _settings(wish, known, asked)
    budget = Budget(wish.calls, wish.tokens, read_ledger(out))
    with closing(Cache(wish.cache or out / ANSWERS)) as cache:
        found = backends(asked, wish.scorers, budget=budget, cache=cache, encoder=wish.encoder)
        summary = interpret(
            known, activations, out, found.explainer, found.judges, latents,
            settings=settings, directions=autoencoder.W_dec, site=site, spent=found.spent,
        )  # fmt: skip
    return summary, found.notes


def site_of(sae: SAE, store: Store) -> str:
    """The site that an autoencoder is of: its own, or the only one of the store. Raises InputError where it is open."""
    sites = store.manifest.sites
    if sae.origin.site in sites:
        return sae.origin.site
    if sae.origin.site:
        raise InputError(
            f"the autoencoder is of {sae.origin.site!r} and the store of {', '.join(sites)}; harvest that site."
        )
    if len(sites) > 1:
        raise InputError(f"the autoencoder does not say which of the store's sites it is of: {', '.join(sites)}.")
    return sites[0]


def _how(asked: Asked) -> str:
    """What of the asking decides the answers, beside the model."""
    many = "as suits the model" if asked.per_prompt is None else str(asked.per_prompt)
    return f"examples a prompt: {many}; pictures: {asked.sees}; {asked.dtype}"


def _settings(wish: Wish, events: Events, asked: Asked) -> Settings:
    source = events.manifest.source
    named: dict[str, Any] = {name: getattr(wish, name) for name in Settings.model_fields if name in Wish._fields}
    return Settings(
        choice=Choice(radius=wish.radius, explain=wish.explain, score=wish.score, seed=wish.seed),
        sources={"sae": source.sae, "store": source.store, "site": source.site, "asked": _how(asked)},
        together=8 if "://" in asked.llm or asked.llm == ORACLE else 4,
        **named,
    )
