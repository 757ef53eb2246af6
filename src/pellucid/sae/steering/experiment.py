"""Steering tried out: every prompt answered under every condition, measured, and what came of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pellucid.errors import InputError
from pellucid.progress import Advance, progress
from pellucid.sae.autoencoder import SAE
from pellucid.sae.events import Events
from pellucid.sae.events.digest import digest
from pellucid.sae.interpretation.asking import LLM
from pellucid.sae.site import Site
from pellucid.sae.steering.bench import Bench, site_of
from pellucid.sae.steering.controls import random_latents
from pellucid.sae.steering.fitting import check_events, check_model, elsewhere
from pellucid.sae.steering.journal import Generation, Journal
from pellucid.sae.steering.matchers import AbstractMatcher
from pellucid.sae.steering.outcome import SubjectSummary, Summary
from pellucid.sae.steering.plan import PROMPTED, UNSTEERED, Condition, Settings, Subject, conditions, text_of
from pellucid.sae.steering.steer import check_latents
from pellucid.sae.steering.summary import summarised, summary_of
from pellucid.sae.steering.trial import Trial
from pellucid.sae.store import Store


def steer_experiment(
    model: Any,
    sae: SAE,
    subjects: Sequence[Subject],
    prompts: Sequence[Any],
    *,
    out: str | Path,
    site: Site | str | None = None,
    settings: Settings | None = None,
    others: Sequence[AbstractMatcher] = (),
    events: Events | None = None,
    store: Store | None = None,
    judge: LLM | None = None,
) -> Summary:
    """Steer latents one subject at a time, beside controls, and measure what that does and what else it does.

    Args:
        model: a language model, or one of pictures and texts.
        sae: an autoencoder of its activations.
        subjects: the latents, and by what their concept is recognised.
        prompts: what is answered; texts, or pictures with texts.
        out: a folder; a run that was stopped there goes on.
        site: where the autoencoder was trained; None: as it says itself.
        settings: strengths, ways to steer, positions, scale, controls, sampling, budget.
        others: other concepts, which steering should leave alone, beside those of the other subjects.
        events: the latents' events in a store, for the scale of activations and for controls.
        store: that store, for the difference of means.
        judge: a language model that rates the answers.

    Raises:
        InputError: something does not fit or belong together, or the folder holds another experiment.
        UnknownNameError: the model has no such site.
        NumericalError: a strength makes activations NaN or infinite.
    """
    place = site_of(sae, site)
    check_events(sae, place, events, store)
    check_model(sae, model)
    bench = Bench(
        model=model,
        sae=sae.to(model.device),
        site=place,
        prompts=tuple(prompts),
        settings=settings or Settings(),
        others=tuple(others),
        events=events,
        store=store,
        judge=judge,
    )
    return tried_out(bench, subjects, Path(out))


def tried_out(bench: Bench, subjects: Sequence[Subject], out: Path) -> Summary:
    """``steer_experiment`` on what is put together already."""
    _check(bench, subjects)
    scales = [bench.scales(subject.latents) for subject in subjects]
    journal = Journal(out, plan_of(bench, subjects, scales))
    found: list[SubjectSummary] = []
    words = [text_of(prompt) for prompt in bench.prompts]
    with progress("Steering", _count(bench, subjects)) as advance:
        plain = _unsteered(bench, subjects, journal, advance)
        for subject, scale in zip(subjects, scales, strict=True):
            trials = _trials(bench, subject, subjects, scale, plain)
            generations = _all(trials, journal, subject.name, advance)
            every = [*plain, *generations]
            names = _names(_others(bench, subject, subjects))
            found.append(summarised(subject, scale, every, bench.settings, names, words))
    summary = summary_of(plan_of(bench, subjects, scales), found, _notes(bench, subjects))
    journal.conclude(summary)
    return summary


def plan_of(bench: Bench, subjects: Sequence[Subject], scales: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    """All that decides what is generated, as plain JSON."""
    fingerprint = bench.model.fingerprint()
    return {
        "model": bench.model.name,
        "fingerprint": fingerprint.model_dump(exclude={"model"}),
        "sae": digest(bench.sae),
        "site": str(bench.site),
        "settings": bench.settings.model_dump(mode="json"),
        "prompts": [_plain(prompt) for prompt in bench.prompts],
        "subjects": [
            {
                "latents": list(subject.latents), "label": subject.label, "prefix": subject.prefix,
                "matcher": subject.matcher.described, "scales": list(scale),
                "others": _names(_others(bench, subject, subjects)),
            }
            for subject, scale in zip(subjects, scales, strict=True)
        ],
        "others": {matcher.name: matcher.described for matcher in bench.others},
        "judge": None if bench.judge is None else bench.judge.name,
        "events": None if bench.events is None else bench.events.manifest.source.model_dump(mode="json"),
        "store": None if bench.store is None else bench.store.digest,
    }  # fmt: skip


def _plain(prompt: Any) -> Any:
    if isinstance(prompt, Mapping):
        return {"image": str(prompt["image"]), "text": str(prompt["text"])}
    return [str(part) for part in prompt] if isinstance(prompt, tuple) else str(prompt)


def _check(bench: Bench, subjects: Sequence[Subject]) -> None:
    """Everything that can be known to be wrong before anything is generated."""
    if not bench.prompts or not all(text_of(prompt).strip() for prompt in bench.prompts):
        raise InputError("there is no prompt to steer, or one of them is empty; give prompts of at least one word.")
    if not subjects:
        raise InputError("no latent is named to be steered; name at least one.")
    for subject in subjects:
        check_latents(bench.sae, subject.latents)
    names = [subject.name for subject in subjects]
    concepts = {subject.matcher.name: subject.matcher for subject in subjects}
    if len(set(names)) < len(names):
        raise InputError(f"each subject is named once; got {', '.join(names)}.")
    if any(concepts.get(subject.matcher.name) is not subject.matcher for subject in subjects):
        raise InputError("two matchers of different concepts have one name; give each its own.")
    shared = [name for name in _names(bench.others) if name in concepts or _names(bench.others).count(name) > 1]
    if shared:
        raise InputError(f"the other concept {shared[0]!r} is named twice; give each its own name.")
    unnamed = [] if bench.judge is None else [subject.name for subject in subjects if not subject.label]
    if unnamed:
        raise InputError(f"a judge rates answers for a concept in words; give latent {unnamed[0]} a label.")
    _check_controls(bench, subjects)
    bench.check_positions()
    # This reads the prompts, and so finds out whether the site is there and the autoencoder fits it.
    bench.check_site()


def _check_controls(bench: Bench, subjects: Sequence[Subject]) -> None:
    """Raises InputError where a control that is asked for cannot be had."""
    controls = bench.settings.controls
    if PROMPTED in controls:
        for subject in subjects:
            if not subject.prefix:
                raise InputError(
                    f"the control 'prompted' puts a text before each prompt, and latent {subject.name} has none; give "
                    "it one, such as 'Talk about war.', or leave the control out."
                )
    if "difference-of-means" in controls and (bench.store is None or bench.events is None):
        raise InputError(
            "the control 'difference-of-means' needs a store of activations and the events of the latents in it; give "
            "both, or leave it out."
        )
    if "random-latent" in controls:
        for subject in subjects:
            random_latents(bench.alive, len(subject.latents), subject.latents, bench.settings.seed)


def _names(matchers: Sequence[AbstractMatcher]) -> list[str]:
    return [matcher.name for matcher in matchers]


def _others(bench: Bench, subject: Subject, subjects: Sequence[Subject]) -> list[AbstractMatcher]:
    """The concepts that one subject should leave alone: those of the other subjects, and those that are no one's."""
    concepts = {each.matcher.name: each.matcher for each in subjects if each.matcher.name != subject.matcher.name}
    return [*concepts.values(), *bench.others]


def _notes(bench: Bench, subjects: Sequence[Subject]) -> tuple[str, ...]:
    """What has to be known to read the numbers."""
    alone = any(not _others(bench, subject, subjects) for subject in subjects)
    missing = "no other concepts were given, so it is not measured whether steering changes those"
    return tuple(note for note in (elsewhere(bench.sae, bench.site), missing if alone else "") if note)


def _count(bench: Bench, subjects: Sequence[Subject]) -> int:
    """How many answers there are in all."""
    ways = 1 + sum(len(list(conditions(subject, bench.settings))) for subject in subjects)
    return ways * len(bench.prompts) * bench.settings.sampling.samples


def _unsteered(bench: Bench, subjects: Sequence[Subject], journal: Journal, advance: Advance) -> list[Generation]:
    matchers = {subject.matcher.name: subject.matcher for subject in subjects}
    every = [*matchers.values(), *bench.others]
    tried = Trial(bench, Condition(arm=UNSTEERED), every, None, {}, None)
    return _all([tried], journal, UNSTEERED, advance)


def _trials(
    bench: Bench,
    subject: Subject,
    subjects: Sequence[Subject],
    scales: tuple[float, ...],
    plain: Sequence[Generation],
) -> list[Trial]:
    """Every condition of one subject."""
    before = {(each.prompt, each.sample): each for each in plain}
    matchers = [subject.matcher, *_others(bench, subject, subjects)]
    return [
        Trial(bench, condition, matchers, subject, before, scales) for condition in conditions(subject, bench.settings)
    ]


def _all(trials: Sequence[Trial], journal: Journal, name: str, advance: Advance) -> list[Generation]:
    """Every answer of some trials, those of an earlier run included."""
    there = {(each.condition.key, each.prompt, each.sample): each for each in journal.read(name)}
    directions: dict[str, Tensor | None] = {}
    for trial in trials:
        key = trial.condition.key
        for sample in range(trial.bench.settings.sampling.samples):
            for chunk in trial.bench.chunks:
                if any((key, prompt, sample) not in there for prompt in chunk):
                    new = trial.answered(chunk, sample, directions)
                    missing = [each for each in new if (key, each.prompt, sample) not in there]
                    journal.append(name, missing)
                    there |= {(key, each.prompt, sample): each for each in missing}
                advance(len(chunk))
    wanted = {trial.condition.key for trial in trials}
    return [each for each in there.values() if each.condition.key in wanted]
