"""From the folders of a command to what a dashboard is made of."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.dashboard.gathering import Amounts, Sources
from pellucid.dashboard.meanings import read_meanings
from pellucid.errors import InputError
from pellucid.models import load
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.store import Store


def opened(
    sae: Path,
    store: Path,
    events: Path,
    *,
    interpretations: Path | None = None,
    latents: str | None = None,
    top: int = 12,
    model: str | None = None,
    logits: bool = True,
    seed: int = 0,
) -> Sources:
    """Open everything; of the events those that are missing are written first.

    Args:
        sae: the autoencoder's folder.
        store: the activations'.
        events: where its latents are active.
        interpretations: the folder of an interpretation run.
        latents: as ``chosen`` takes them; None: the explained ones, or all that are alive.
        top: examples with the highest activation.
        model: the name that loads the model; None: the store's.
        logits: whether it is loaded.
        seed: of what is drawn at random.

    Raises:
        InputError: something is not there, or does not belong together.
        RecordError: something is damaged.
        ModelError: the model cannot be loaded.
    """
    autoencoder, activations = SAE.load(sae), Store.open(store)
    said = {} if interpretations is None else read_meanings(interpretations, autoencoder)
    found = Events.write(autoencoder, activations, _site(autoencoder, activations), events)
    words = latents or ("explained" if said else "alive")
    explained = [latent for latent, each in said.items() if each.explanation]
    return Sources(
        sae=autoencoder,
        events=found,
        store=activations,
        meanings=said,
        model=_model(model, activations) if logits else None,
        pages=chosen(words, found, explained, seed),
        amounts=Amounts(top=top),
    )


def chosen(text: str, events: Events, explained: Collection[int], seed: int = 0) -> list[int]:
    """Latents, rising: numbers and ranges such as ``3,10-19``; ``all``, ``alive``, ``explained``; ``random:N``.

    Raises InputError on anything else, on numbers that there are not, and where none is left.
    """
    found: set[int] = set()
    for part in filter(None, (each.strip() for each in text.split(","))):
        found.update(_part(part, events, explained, seed))
    if not found:
        raise InputError(f"no latent is meant by {text!r}; name some, such as 0-99, or all.")
    if max(found) >= events.width:
        raise InputError(
            f"there is no latent {max(found)}: the autoencoder has {events.width}, from 0 to {events.width - 1}."
        )
    return sorted(found)


def _part(part: str, events: Events, explained: Collection[int], seed: int) -> Collection[int]:
    alive = np.flatnonzero(events.counts)
    words = {"all": range(events.width), "alive": alive.tolist(), "explained": explained}
    if part in words:
        return words[part]
    word, colon, number = part.partition(":")
    if word == "random" and colon and number.isascii() and number.isdigit():
        drawn: list[int] = np.random.default_rng(seed).permutation(alive)[: int(number)].tolist()
        return drawn
    first, dash, last = part.partition("-")
    ends = (first, last if dash else first)
    if not all(each.isascii() and each.isdigit() for each in ends):
        raise InputError(
            f"latents are numbers and ranges such as 3,10-19, or all, alive, explained or random:N, and {part!r} is "
            "none of these."
        )
    low, high = int(ends[0]), int(ends[1])
    if low > high:
        raise InputError(f"the range {part} goes down; give the smaller number first.")
    # What is beyond the dictionary is refused later, and need not be listed for that.
    return range(low, min(high, max(low, events.width)) + 1)


def _site(sae: SAE, store: Store) -> str:
    """The site that the autoencoder is of. Raises InputError where the store does not tell which."""
    sites = store.manifest.sites
    if sae.origin.site in sites:
        return sae.origin.site
    if len(sites) == 1 and not sae.origin.site:
        return sites[0]
    said = f"is of {sae.origin.site!r}" if sae.origin.site else "does not say its site"
    raise InputError(f"the autoencoder {said}, and the store has {', '.join(sites)}; give a store of its site.")


def _model(name: str | None, store: Store) -> Any:
    """The model. Raises InputError where it is not the one that the activations are of."""
    model = load(name or store.manifest.model)
    if model.fingerprint().weights != store.manifest.fingerprint.weights:
        raise InputError(
            f"{name or store.manifest.model!r} has other weights than the model of the store; name that one by "
            "--model, or leave the logits out: --no-logits."
        )
    return model
