"""Explaining: picks the method, runs it, attaches the evidence."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from pellucid.errors import InputError, NumericalError
from pellucid.evidence import Level, account_of, gather
from pellucid.explanation import Explanation
from pellucid.facts import Facts
from pellucid.games import MOST_PLAYERS, Question, ask, require_model
from pellucid.memory import PeakMemory
from pellucid.methods import AbstractMethod, make_method
from pellucid.methods.latents_asking import put
from pellucid.models import Meter, Model
from pellucid.progress import hidden, progress
from pellucid.records import Cost
from pellucid.targets import AbstractTarget
from pellucid.verdicts.best import BEST, best_method, selection_check
from pellucid.verdicts.calibration import BUDGET, MOST_INPUTS

MOST_FEATURES = 1 << 20
"""The most features that a method may score that plays no game: every pixel of a large picture."""


class Asked(NamedTuple):
    """A question that has been put to a model, ready for one method or for several that share its game."""

    question: Question
    """What methods look at."""
    model: Model
    """The model as it was given."""
    before: Meter
    """What the model had spent before."""
    begun: float
    """When it was asked, by the performance counter."""

    @classmethod
    def of(cls, model: Model, raw: Any, *, facts: Facts | None = None, **options: Any) -> "Asked":
        """Put a question to a model. Arguments as in ``games.ask``; for a method's ``facts`` also of latents."""
        begun, before = time.perf_counter(), model.meter.snapshot()
        question = ask(model, raw, **options) if facts is None else put(model, raw, facts, **options)
        return cls(question, model, before, begun)

    def answer(self, method: AbstractMethod, checks: str, memory: PeakMemory) -> Explanation:
        """Run a method, attach the evidence. Raises NumericalError where its scores are not finite."""
        if checks not in get_args(Level):
            raise InputError(f"checks are 'none', 'free' or 'full', not {checks!r}.")
        question = self.question
        attribution = method.attribute(question)
        if not np.isfinite(attribution.values).all():
            raise NumericalError(f"{method.facts.name} gave NaN or infinite scores: the model is not finite here.")
        account = account_of(cast(Level, checks), method, question, attribution)
        evidence = gather(cast(Level, checks), method, question, attribution, method.attribute, account)
        error = attribution.standard_error
        return Explanation(
            values=attribution.values.astype(np.float32),
            base_values=attribution.base_values.astype(np.float32),
            full_values=attribution.full_values.astype(np.float32),
            standard_error=None if error is None else error.astype(np.float32),
            features=question.features,
            **question.drawing(attribution.places),
            ladder=question.ladder,
            output_names=question.target.output_names,
            target=question.target.target,
            unit=method.facts.unit or question.target.unit,
            method=method.facts.name,
            settings=method.model_dump(mode="json") | dict(attribution.settings),
            layer_values=None if attribution.layers is None else attribution.layers.astype(np.float32),
            layer_names=attribution.layer_names,
            expert_values=None if attribution.experts is None else attribution.experts.astype(np.float32),
            expert_layer_names=attribution.expert_layer_names,
            account=() if account is None else tuple(account),
            notice=method.facts.notice,
            baseline=attribution.baseline or question.game.imputer.description,
            seed=question.seed,
            checks=evidence,
            cost=self.cost(memory),
            fingerprint=self.model.fingerprint(),
        )

    def cost(self, memory: PeakMemory) -> Cost:
        """What was spent since the question was asked."""
        spent = self.question.model.meter - self.before
        longest = max(len(answer) for answer in self.question.target.alternatives)
        return Cost(
            forwards=spent.forwards,
            backwards=spent.backwards,
            rows=spent.rows,
            tokens=spent.tokens,
            forward_equivalents=round(spent.tokens / (self.question.inputs.positions + longest - 1), 3),
            seconds=time.perf_counter() - self.begun,
            peak_memory_bytes=max(0, memory.above_bytes),
            peak_gpu_bytes=memory.gpu_bytes,
        )


def explain(
    model: Model,
    raw: Any,
    *,
    method: str | AbstractMethod,
    target: AbstractTarget | None = None,
    features: str | None = None,
    baseline: str | None = None,
    background: Sequence[Any] = (),
    sae: Any = None,
    site: str | None = None,
    checks: str = "free",
    seed: int = 0,
    **settings: Any,
) -> Explanation:
    """Say which parts of an input drove the model's output.

    Args:
        model: what ``load`` gave.
        raw: a text, the list of its words, or a prompt made by a ``Template``; for an image model a file, a PIL image
            or an array of bytes; for a tabular one a mapping from column to value.
        method: a name that ``methods()`` lists, or a method made by hand; ``best``: the one that the newest benchmark
            of the nearest task has for this model, else the best of a trial on this input within ``budget`` rows; the
            result's ``selection`` says why.
        target: what to explain; None: the margin of the predicted class, or each token of the generated answer.
        features: of a text token, token+template, word, sentence or field; of a picture pixel, patch (patch:16) or
            superpixel (superpixel:50); of a table row column; of any of the network's latents (latents:50, the largest
            by themselves). None: field where the prompt has fields, else word, patch and column.
        baseline: what stands in for an absent feature. For a method that perturbs a text: neutral, delete, mask, pad or
            background; a picture: mean, blur, black, noisy-linear or marginal; a row: mean, median or marginal. For one
            that interpolates: mask, pad, eos, unk, zero or mean; mean, blur or black; mean, median or zero. None: see
            the result's ``baseline``.
        background: other inputs, for the baselines ``background`` and ``marginal`` and for expected gradients: the
            field values of other cases, other pictures, other rows.
        sae: the sparse autoencoder of the latents: its folder, or what ``pellucid.sae.SAE.load`` gives.
        site: where it reads, such as ``model.layers.15``; None: where it was trained.
        checks: the evidence to attach: none, free (no forward pass beyond the method's own) or full.
        seed: seed of everything that samples.
        settings: settings of the method.

    Returns:
        values [target, feature] in the unit of the target, with checks, cost and fingerprint.

    Raises:
        InputError: an empty or too long input, an unknown name, a bad setting.
        NumericalError: the model returned NaN.
    """
    require_model(model)
    shared: dict[str, Any] = {"target": target, "features": features, "background": background, "seed": seed}
    if method == BEST:
        if sae is not None or site is not None:
            raise InputError("best weighs methods on the parts of the input; name a method to explain latents.")
        return _explained_by_the_best(model, [raw], [raw], shared | {"imputer": baseline}, checks, settings)[0]
    chosen, imputer = method_and_imputer(method, baseline, settings)
    facts = chosen.facts
    _require_fit(facts, model)
    shared |= {"sae": sae, "site": site, "imputer": imputer}
    shared["most_features"] = MOST_PLAYERS if facts.family == "perturbation" else MOST_FEATURES
    with PeakMemory() as memory:
        return Asked.of(model, raw, facts=facts, **shared).answer(chosen, checks, memory)


def _require_fit(facts: Facts, model: Model) -> None:
    """Raise InputError where a method cannot explain this kind of model."""
    if model.modality not in facts.modalities:
        raise InputError(
            f"{facts.name} explains {', '.join(facts.modalities)}, and {model.name} reads {model.modality}."
        )
    if "gradient" in facts.needs and not model.differentiable:
        raise InputError(
            f"{facts.name} needs gradients, and {model.name} has none; use a method that perturbs the input, such as "
            "kernel_shap."
        )


def explain_batch(model: Model, raws: Sequence[Any], **options: Any) -> list[Explanation]:
    """``explain`` for each of several inputs; each result equals that of the single call.

    With ``method="best"`` the method is chosen once, by a benchmark or by a trial on the first of these inputs.
    """
    if options.get("method") == BEST and raws:
        require_model(model)
        given = dict(options)
        asked = ("target", "features", "background", "seed")
        shared: dict[str, Any] = {name: given.pop(name) for name in asked if name in given}
        shared["imputer"] = given.pop("baseline", None)
        checks, _ = given.pop("checks", "free"), given.pop("method")
        return _explained_by_the_best(model, raws, raws[:MOST_INPUTS], shared, checks, given)
    found = []
    with progress("Explaining", len(raws)) as advance, hidden():
        for raw in raws:
            found.append(explain(model, raw, **options))
            advance(1)
    return found


def _explained_by_the_best(
    model: Model,
    raws: Sequence[Any],
    tried: Sequence[Any],
    shared: dict[str, Any],
    checks: str,
    settings: dict[str, Any],
) -> list[Explanation]:
    """Choose a method on some inputs, explain all by it, and write the choice into each."""
    budget = settings.pop("budget", BUDGET)
    if settings or not isinstance(budget, int):
        raise InputError(f"best has one setting, budget=ROWS, and got {settings or {'budget': budget}}.")
    found: list[Explanation] = []
    with PeakMemory() as memory:
        # The first one's cost holds the choice.
        asked = [Asked.of(model, raw, **shared) for raw in tried]
        chosen, selection = best_method([each.question for each in asked], budget)
        with progress("Explaining", len(raws)) as advance, hidden():
            for number, raw in enumerate(raws):
                question = asked[0] if not number else Asked.of(model, raw, **shared)
                made = question.answer(chosen, checks, memory)
                evidence = made.checks.model_copy(update={"items": (*made.checks.items, selection_check(selection))})
                found.append(made.model_copy(update={"selection": selection, "checks": evidence}))
                advance(1)
    return found


def method_and_imputer(
    method: str | AbstractMethod, baseline: str | None, settings: dict[str, Any]
) -> tuple[AbstractMethod, str | None]:
    """The method, and the imputer's name where the baseline is not the method's own setting."""
    if isinstance(method, AbstractMethod):
        if settings:
            given = ", ".join(settings)
            raise InputError(f"{method.facts.name} has its settings already; {given} cannot be given beside it.")
        return method, baseline
    chosen = make_method(method, **settings)
    if baseline is None or "baseline" not in type(chosen).model_fields:
        if baseline is not None and "baseline" not in chosen.facts.needs:
            raise InputError(f"{method} has no baseline; leave {baseline!r} out.")
        return chosen, baseline
    return make_method(method, **settings | {"baseline": baseline}), None
