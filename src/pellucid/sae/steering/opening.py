"""What a command names, opened: the autoencoder, its model, the store and the events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import InputError
from pellucid.models import load
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.interpretation.asking import LLM
from pellucid.sae.interpretation.backends import Asked, language_model
from pellucid.sae.interpretation.budget import Budget
from pellucid.sae.interpretation.cache import Cache
from pellucid.sae.steering.bench import Bench, site_of
from pellucid.sae.steering.fitting import check_events, check_model
from pellucid.sae.steering.matchers import AbstractMatcher
from pellucid.sae.steering.plan import Settings
from pellucid.sae.store import Store


def bench_of(
    sae: Path,
    model: str | None,
    prompts: Sequence[Any],
    *,
    site: str | None,
    settings: Settings,
    others: Sequence[AbstractMatcher] = (),
    events: Path | None = None,
    store: Path | None = None,
    judge: LLM | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Bench:
    """Open everything that steering is tried out on; what can be known to be wrong is, before the model is loaded.

    Raises InputError where neither the caller nor the autoencoder names the model or the site, where the model, the
    events or the store are not those of the autoencoder, and as the loading does.
    """
    dictionary = SAE.load(sae)
    name = model or dictionary.origin.model
    if not name:
        raise InputError("this autoencoder does not say which model it belongs to; name the model.")
    place = site_of(dictionary, site)
    opened = None if events is None else Events.open(events)
    harvested = None if store is None else Store.open(store)
    check_events(dictionary, place, opened, harvested)
    loaded = load(name, device=device, dtype=dtype)
    check_model(dictionary, loaded)
    return Bench(
        model=loaded,
        sae=dictionary.to(device),
        site=place,
        prompts=tuple(prompts),
        settings=settings,
        others=tuple(others),
        events=opened,
        store=harvested,
        judge=judge,
    )


def judge_of(name: str, model: str | None, out: Path) -> LLM:
    """A language model as a judge, whose answers are kept in the folder of the experiment.

    Args:
        name: a model of pellucid, or the address of an OpenAI-compatible endpoint.
        model: its name there.
        out: the folder.
    """
    return language_model(Asked(llm=name, model=model), Budget(), Cache(out / "judge.sqlite"))
