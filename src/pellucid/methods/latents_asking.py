"""Which question a call asks: of the input's own parts, of latents, or of what drove a latent."""

from typing import Any

from pellucid.errors import InputError
from pellucid.facts import Facts, Family
from pellucid.games import Question, ask
from pellucid.methods.latents import LATENTS, ask_latents, most_of
from pellucid.methods.latents_target import ask_of_latent
from pellucid.models import Model
from pellucid.sae.dictionary import Dictionary
from pellucid.targets import AbstractTarget, Latent

FAMILIES: tuple[Family, ...] = ("perturbation", "gradient", "relevance")
"""The methods that explain through latents: those that take parts out, and those that go back through operations."""


def put(
    model: Model,
    raw: Any,
    facts: Facts,
    *,
    target: AbstractTarget | None = None,
    features: str | None = None,
    sae: Any = None,
    site: str | None = None,
    **options: Any,
) -> Question:
    """Put a question to a model. Arguments as in ``explain``; ``facts`` are those of the method that will answer.

    Raises InputError where a method, a model, or an autoencoder does not fit the question, and as ``games.ask``.
    """
    by_latents = features is not None and features.partition(":")[0] == LATENTS
    if not by_latents and not isinstance(target, Latent):
        if sae is not None or site is not None:
            given = "sae" if sae is not None else "site"
            raise InputError(f"{given}= goes with features='latents' or with the target pellucid.Latent(...); add one.")
        return ask(model, raw, target=target, features=features, **options)
    _check(model, facts)
    if isinstance(target, Latent):
        if by_latents:
            raise InputError("latents as features of a latent are not explained; take its tokens, words or patches.")
        source, place = target.source if target.source is not None else sae, target.site or site
        dictionary = Dictionary.of(_given(source), place)
        return ask_of_latent(model, raw, dictionary, target=target, features=features, **options)
    assert features is not None
    most_of(features)
    if facts.family == "gradient" and "background" in facts.needs:
        raise InputError(f"{facts.name} draws other inputs as baselines, and latents have none; use {_INSTEAD}.")
    dictionary = Dictionary.of(_given(sae), site)
    whole = facts.family == "relevance"
    return ask_latents(model, raw, dictionary, features=features, whole=whole, target=target, **options)


_INSTEAD = "integrated_gradients"


def _given(source: Any) -> Any:
    if source is None:
        raise InputError("latents are those of an autoencoder: name its folder, or give it, with sae=...")
    return source


def _check(model: Model, facts: Facts) -> None:
    if model.modality == "tabular":
        raise InputError(f"{model.name} reads table rows, and latents are read of a sequence inside a network.")
    if facts.family not in FAMILIES:
        raise InputError(
            f"{facts.name} looks at {_LOOKS_AT.get(facts.family, facts.family)}, which knows no latents; take a method "
            "of relevance, of gradients or one that perturbs, such as attnlrp or occlusion."
        )


_LOOKS_AT: dict[Family, str] = {"attention": "attention patterns", "learned": "what a trained network was taught"}
