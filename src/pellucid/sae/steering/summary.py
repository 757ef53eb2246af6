"""What came of steering: curves over strength, the best strength within the budget, and how many latents steer."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pellucid.sae.steering.intervals import Interval, bootstrap, share, sign_flip
from pellucid.sae.steering.journal import Generation
from pellucid.sae.steering.judging import Rating
from pellucid.sae.steering.outcome import Best, Change, Direction, Example, Point, Share, SubjectSummary, Summary
from pellucid.sae.steering.plan import (
    NULLS,
    PROMPTED,
    STEERED,
    UNSTEERED,
    Budget,
    Condition,
    Settings,
    Subject,
    is_promoting,
)

DIRECTIONS: tuple[Direction, ...] = ("promote", "suppress")
LEVEL = 0.05
"""Chance that a latent without effect is said to steer, over all strengths that are tried."""
MOST_EXAMPLES = 5
"""Prompts whose answers are put side by side."""
ByPrompt = dict[int, float]
"""A number for each prompt: the mean over its answers that have one."""


def summarised(
    subject: Subject,
    scales: tuple[float, ...],
    generations: Sequence[Generation],
    settings: Settings,
    others: Sequence[str],
    prompts: Sequence[str],
) -> SubjectSummary:
    """What came of one subject, from its answers and the unsteered ones."""
    groups: dict[str, list[Generation]] = {}
    for each in generations:
        groups.setdefault(each.condition.key, []).append(each)
    plain, concept = groups[UNSTEERED], subject.matcher.name
    points = [_point(group, plain, concept, others, settings) for group in groups.values()]
    best = [
        _best(mode, direction, groups, points, concept, settings.seed)
        for mode in settings.modes
        for direction in DIRECTIONS
        if any(_aims(point.condition, mode, direction) for point in points)
    ]
    return SubjectSummary(
        name=subject.name,
        latents=subject.latents,
        concept=subject.concept,
        matcher=subject.matcher.described,
        scales=scales,
        points=tuple(points),
        best=tuple(best),
        examples=tuple(_examples(groups, points, best, prompts)),
    )


def _examples(
    groups: Mapping[str, Sequence[Generation]], points: Sequence[Point], best: Sequence[Best], prompts: Sequence[str]
) -> Iterator[Example]:
    """The first answers under the conditions that are worth reading beside each other."""
    steered = [
        chosen.model_copy(update={"arm": arm}).key
        for each in best
        for chosen in _to_read(each, points)
        for arm in (STEERED, NULLS[0])
    ]
    keys = [key for key in dict.fromkeys((UNSTEERED, PROMPTED, *steered)) if key in groups]
    texts = {key: {each.prompt: each.text for each in groups[key] if each.sample == 0} for key in keys}
    for number, prompt in enumerate(prompts[:MOST_EXAMPLES]):
        yield Example(prompt=prompt, answers={key: texts[key][number] for key in keys})


def _to_read(best: Best, points: Sequence[Point]) -> list[Condition]:
    """The best condition within the budget, and the one that does most whatever the budget; gentle ones first."""
    sign = 1.0 if best.direction == "promote" else -1.0
    tried = [point for point in points if _aims(point.condition, best.mode, best.direction)]
    most = max(tried, key=lambda point: (sign * _rate(point), -abs(point.condition.strength or 0.0)))
    wanted = {best.strength, most.condition.strength}
    return [point.condition for point in tried if point.condition.strength in wanted]


def by_prompt(generations: Iterable[Generation], measure: Callable[[Generation], float | None]) -> ByPrompt:
    """A measure of the answers to each prompt, averaged over those that have it."""
    found: dict[int, list[float]] = {}
    for each in generations:
        value = measure(each)
        if value is not None:
            found.setdefault(each.prompt, []).append(float(value))
    return {prompt: sum(values) / len(values) for prompt, values in sorted(found.items())}


def _differences(after: ByPrompt, before: ByPrompt) -> list[float]:
    return [after[prompt] - before[prompt] for prompt in after if prompt in before]


def _point(
    group: Sequence[Generation], plain: Sequence[Generation], concept: str, others: Sequence[str], settings: Settings
) -> Point:
    seed, before = settings.seed, {(each.prompt, each.sample): each for each in plain}

    def measured(measure: Callable[[Generation], float | None]) -> Interval | None:
        return bootstrap(list(by_prompt(group, measure).values()), seed)

    rates = by_prompt(group, lambda each: each.found[concept])
    nll, nll_before = by_prompt(group, lambda each: each.nll), by_prompt(plain, lambda each: each.nll)
    logs = bootstrap(_differences(nll, nll_before), seed)
    pairs = by_prompt(group, lambda each: each.distinct)
    pairs_before = by_prompt(plain, lambda each: each.distinct)
    kept = [pairs[prompt] / pairs_before[prompt] for prompt in pairs if pairs_before.get(prompt)]
    flips = measured(lambda each: _flips(each, before, others)) if others else None
    point = Point(
        condition=group[0].condition,
        answers=len(group),
        empty=sum(not each.ids for each in group),
        unknown=sum(each.found[concept] is None for each in group),
        on_target=bootstrap(list(rates.values()), seed),
        gain=bootstrap(_differences(rates, by_prompt(plain, lambda each: each.found[concept])), seed),
        others={name: _change(group, before, name, seed) for name in others},
        flips=flips,
        shift=measured(lambda each: each.shift),
        own=measured(lambda each: sum(each.own.values()) / len(each.own) if each.own else None),
        perplexity=math.exp(sum(nll.values()) / len(nll)) if nll else None,
        ratio=None if logs is None else _exponential(logs),
        distinct=bootstrap(list(pairs.values()), seed),
        kept_distinct=sum(kept) / len(kept) if kept else None,
        run=measured(lambda each: each.run),
        edit=measured(lambda each: each.edit),
        harmonic=measured(lambda each: None if each.ratings is None else Rating(*each.ratings).harmonic),
        within=True,
    )
    silenced = (point.empty - sum(not each.ids for each in plain)) / len(group)
    return point.model_copy(
        update={"within": _is_within(point, settings.budget, silenced, had_perplexity=bool(nll_before))}
    )


def _exponential(interval: Interval) -> Interval:
    ends = {
        name: None if end is None else math.exp(end) for name, end in (("low", interval.low), ("high", interval.high))
    }
    return Interval(mean=math.exp(interval.mean), n=interval.n, **ends)


def _flips(each: Generation, before: Mapping[tuple[int, int], Generation], names: Sequence[str]) -> float | None:
    """Share of the other concepts that appeared or vanished, of those that can be told; None where none can."""
    plain = before[each.prompt, each.sample]
    told = [name for name in names if each.found[name] is not None and plain.found[name] is not None]
    return sum(each.found[name] != plain.found[name] for name in told) / len(told) if told else None


def _change(group: Sequence[Generation], before: Mapping[tuple[int, int], Generation], name: str, seed: int) -> Change:
    pairs = [(before[each.prompt, each.sample].found[name], each.found[name]) for each in group]
    told = [pair for pair in pairs if None not in pair]
    flipped = by_prompt(group, lambda each: _flips(each, before, [name]))
    return Change(
        added=told.count((False, True)) / max(1, len(told)),
        dropped=told.count((True, False)) / max(1, len(told)),
        flipped=bootstrap(list(flipped.values()), seed),
    )


def _is_within(point: Point, budget: Budget, silenced: float, *, had_perplexity: bool) -> bool:
    """Whether the model still answers, and other concepts, fluency and variety are left well enough alone."""
    # Empty answers have neither perplexity nor pairs, and so are held against the budget by themselves.
    if silenced > budget.empty or (point.ratio is None and had_perplexity):
        return False
    if point.flips is not None and point.flips.mean > budget.flips:
        return False
    if point.ratio is not None and point.ratio.mean > budget.perplexity:
        return False
    return point.kept_distinct is None or point.kept_distinct >= budget.distinct


def _aims(condition: Condition, mode: str, direction: Direction) -> bool:
    """Whether a condition steers in a mode and a direction."""
    steers = condition.arm == STEERED and condition.mode == mode
    return steers and is_promoting(condition) == (direction == "promote")


def _best(
    mode: str,
    direction: Direction,
    groups: Mapping[str, Sequence[Generation]],
    points: Sequence[Point],
    concept: str,
    seed: int,
) -> Best:
    sign = 1.0 if direction == "promote" else -1.0
    tried = [point for point in points if _aims(point.condition, mode, direction)]
    inside = [point for point in tried if point.within and point.on_target is not None]
    # The gentlest of those that do equally well.
    chosen = max(inside, key=lambda point: (sign * _rate(point), -abs(point.condition.strength or 0.0)), default=None)
    level, before = LEVEL / len(tried), points[0].on_target
    p = {} if chosen is None else _chances(chosen.condition, groups, concept, sign, seed)
    holds, reason = _verdict(p, level, direction, before)
    if holds is False and before is not None:
        reason += _beyond(tried, chosen, sign, before.mean)
    return Best(
        mode=mode,
        direction=direction,
        tried=len(tried),
        strength=None if chosen is None else chosen.condition.strength,
        rate=None if chosen is None else _rate(chosen),
        unsteered=None if before is None else before.mean,
        p=p,
        level=level,
        holds=holds,
        reason=reason,
    )


def _rate(point: Point) -> float:
    """Share of answers with the concept; 0 where it can be told of none."""
    return 0.0 if point.on_target is None else point.on_target.mean


def _beyond(tried: Sequence[Point], chosen: Point | None, sign: float, unsteered: float) -> str:
    """What is reached only by a strength over the budget, where that is more than within it and without steering."""
    over = [point for point in tried if not point.within and point.on_target is not None]
    best = max(over, key=lambda point: (sign * _rate(point), -abs(point.condition.strength or 0.0)), default=None)
    reached = [unsteered] if chosen is None else [unsteered, _rate(chosen)]
    if best is None or any(sign * _rate(best) <= sign * rate for rate in reached):
        return ""
    return (
        f"; over the budget, at strength {best.condition.strength:g}, {_rate(best):.0%} of the answers have the concept"
    )


def _chances(
    condition: Condition, groups: Mapping[str, Sequence[Generation]], concept: str, sign: float, seed: int
) -> dict[str, float]:
    """How likely what a condition did beyond the unsteered answers, and beyond each control, is by chance."""
    keys = {UNSTEERED: UNSTEERED} | {arm: condition.model_copy(update={"arm": arm}).key for arm in NULLS}
    rates = {
        name: by_prompt(groups[key], lambda each: each.found[concept])
        for name, key in {**keys, STEERED: condition.key}.items()
        if key in groups
    }
    after = rates.pop(STEERED)
    return {
        name: sign_flip([sign * each for each in _differences(after, before)], seed) for name, before in rates.items()
    }


def _verdict(
    p: Mapping[str, float], level: float, direction: Direction, unsteered: Interval | None
) -> tuple[bool | None, str]:
    """Whether the effect is more than chance, and why."""
    if unsteered is None:
        return None, "of no unsteered answer it can be told whether the concept appears"
    if direction == "suppress" and not unsteered.mean > 0:
        return None, "without steering the concept does not appear, so nothing can be suppressed"
    if direction == "promote" and not unsteered.mean < 1:
        return None, "without steering the concept always appears, so nothing can be added"
    if 2.0**-unsteered.n > level:
        needed = math.ceil(-math.log2(level))
        return None, f"{unsteered.n} prompts cannot tell at a level of {level:.2g}; it takes {needed} or more"
    if not p:
        return False, "no strength that was tried stays within the budget"
    failed = [name for name, value in p.items() if value > level]
    if failed:
        return False, f"no more than chance against {', '.join(failed)}"
    return True, f"more than chance against {', '.join(p)}"


def summary_of(plan: dict[str, Any], subjects: Sequence[SubjectSummary], notes: Sequence[str] = ()) -> Summary:
    """All subjects together."""
    ways = dict.fromkeys((best.mode, best.direction) for subject in subjects for best in subject.best)
    shares = [_share(mode, direction, subjects) for mode, direction in ways]
    return Summary(plan=plan, subjects=tuple(subjects), shares=tuple(shares), notes=tuple(notes))


def _latents(count: int) -> str:
    return "1 latent" if count == 1 else f"{count} latents"


def _share(mode: str, direction: Direction, subjects: Sequence[SubjectSummary]) -> Share:
    verdicts = [
        best.holds for subject in subjects for best in subject.best if (best.mode, best.direction) == (mode, direction)
    ]
    told = [verdict for verdict in verdicts if verdict is not None]
    holding, untold = sum(told), len(verdicts) - len(told)
    interval = share(holding, len(told)) if told else None
    doing = "appear" if direction == "promote" else "vanish"
    if interval is None:
        each = "it makes its" if untold == 1 else "they make their"
        sentence = f"{mode}: of {_latents(untold)} it cannot be told whether {each} concept {doing}"
    else:
        result = "steering as labelled" if holding == len(told) else "mixed success" if holding else "no success"
        ends = f"{interval.low:.0%} to {interval.high:.0%}"
        made = f"{holding} of {_latents(len(told))} can make the labelled concept {doing}"
        beside = f"; of {untold} more it cannot be told" if untold else ""
        sentence = f"{mode}: {made} (Wilson 95 %: {ends}): {result}{beside}"
    return Share(
        mode=mode,
        direction=direction,
        holding=holding,
        told=len(told),
        untold=untold,
        interval=interval,
        sentence=sentence,
    )
