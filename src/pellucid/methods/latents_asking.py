"""Which question a call asks: of the input's own parts, of latents, or of what drove a latent."""

from typing import Any, cast

from pellucid.errors import InputError
from pellucid.facts import Facts, Family
from pellucid.games import Question, ask
from pellucid.methods.latents import LATENTS, LatentGame, LatentQuestion, ask_latents, most_of
from pellucid.methods.latents_target import LatentTargetQuestion, ask_of_latent
from pellucid.models import Model
from pellucid.records import Check
from pellucid.sae.dictionary import Dictionary
from pellucid.sae.readout import Readout
from pellucid.sae.site import Site
from pellucid.targets import AbstractTarget, Latent

FAMILIES: tuple[Family, ...] = ("perturbation", "gradient", "relevance")
"""The methods that explain through latents: those that take parts out, and those that go back through operations."""
MOST_PLAYED = 256
"""The most features of a game where nobody named a number: a sentence has a thousand active latents, each of which
would cost a row of the network at the least."""


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
        dictionary = _fitting(model, Dictionary.of(_given(source), place))
        return ask_of_latent(model, raw, dictionary, target=target, features=features, **options)
    assert features is not None
    if most_of(features) is None and facts.family == "perturbation":
        options["most_features"] = min(options["most_features"], MOST_PLAYED)
    if facts.family == "gradient" and "background" in facts.needs:
        raise InputError(f"{facts.name} draws other inputs as baselines, and latents have none; use {_INSTEAD}.")
    dictionary = _fitting(model, Dictionary.of(_given(sae), site))
    whole = facts.family == "relevance"
    return ask_latents(model, raw, dictionary, features=features, whole=whole, target=target, **options)


_INSTEAD = "integrated_gradients"


def trained_there(question: Question) -> Check | None:
    """That an autoencoder reads elsewhere than where it was trained; None where it does not, or nothing is known."""
    if isinstance(question, LatentQuestion):
        dictionary = cast(LatentGame, question.game).dictionary
    elif isinstance(question, LatentTargetQuestion):
        dictionary = cast(Readout, question.model.module)._dictionary
    else:
        return None
    site, trained = str(dictionary.site), dictionary.sae.origin.site
    if not trained or str(Site.of(trained)) == site:
        return None
    return Check(
        name="site",
        value=None,
        threshold=None,
        passed=False,
        decisive=False,
        detail=f"the autoencoder was trained at {trained} and reads {site} here, where its latents may mean nothing.",
    )


def _fitting(model: Model, dictionary: Dictionary) -> Dictionary:
    """The dictionary. Raises InputError where it was trained on the activations of another model."""
    origin = dictionary.sae.origin
    if origin.fingerprint and origin.fingerprint != model.fingerprint().weights:
        raise InputError(
            f"the autoencoder {dictionary.name!r} was trained on {origin.model or 'a model'} with other weights, or in "
            f"another dtype, than {model.name}; load the model that its activations are of."
        )
    return dictionary


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
