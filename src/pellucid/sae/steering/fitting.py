"""Whether what steering is tried out on belongs together: the autoencoder, its model, its events and their store."""

from typing import Any

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.events.digest import digest
from pellucid.sae.site import Site
from pellucid.sae.store import Store


def check_events(sae: SAE, site: Site, events: Events | None, store: Store | None) -> None:
    """Raises InputError for the events of another autoencoder, site or store than those that are given."""
    if events is None:
        return
    source, folder = events.manifest.source, str(events.folder)
    if source.width != sae.width:
        raise InputError(
            f"the events in {folder!r} are of {source.width} latents and the autoencoder has {sae.width}; write the "
            "events of this autoencoder."
        )
    if source.sae != digest(sae):
        raise InputError(
            f"the events in {folder!r} are of another autoencoder, {source.sae[:12]}, and latents of one number are "
            "not the same; write the events of this autoencoder."
        )
    if Site.of(source.site) != site:
        raise InputError(
            f"the events in {folder!r} are of {source.site!r} and the steering is at {str(site)!r}; write the events "
            "of that site, or steer where they are of."
        )
    if store is not None and store.digest != source.store:
        raise InputError(
            f"the events in {folder!r} were found in another store than {str(store.folder)!r}; give the store that "
            "they were found in."
        )


def check_model(sae: SAE, model: Any) -> None:
    """Raises InputError where the autoencoder says whose activations it decodes, and the model has other weights."""
    wanted = sae.origin.fingerprint
    if wanted and model.fingerprint().weights != wanted:
        raise InputError(
            f"the weights of {model.name} in {str(model.dtype).removeprefix('torch.')} are not those that the "
            f"autoencoder was trained on, {sae.origin.model!r} with {wanted[:12]}; give that model, in the dtype of "
            "its harvest."
        )


def elsewhere(sae: SAE, site: Site) -> str:
    """What is to be said of a site that the autoencoder was not trained at; empty where there is nothing to say."""
    trained = sae.origin.site
    if not trained or Site.of(trained) == site:
        return ""
    return f"the autoencoder was trained at {trained} and is steered at {site}, where its latents may stand for nothing"
