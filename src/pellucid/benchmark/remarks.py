"""What stands beside the numbers of a leaderboard: who failed, what to read first, and where it all comes from."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.benchmark.ranking import Judged
from pellucid.benchmark.results import Results
from pellucid.metrics.statistics import ENOUGH
from pellucid.report.leaderboard import UNTRIED, Failed

UNDEFINED = "the score is undefined there"


def described(settings: Mapping[str, Any]) -> str:
    """Settings in a line.

    >>> described({"steps": 32, "baseline": "mask"})
    'steps=32, baseline=mask'
    """
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def failures(results: Results, found: Sequence[Judged]) -> tuple[Failed, ...]:
    """Who could not explain some inputs, and who has too few scores under some metric to be ranked there."""
    raised: dict[str, dict[str, str]] = {}
    refused: dict[tuple[str, str], Counter[str]] = {}
    for case, entrant, metric, sentence in results.failures:
        if metric:
            refused.setdefault((entrant, metric), Counter())[sentence] += 1
        else:
            raised.setdefault(entrant, {})[case] = sentence
    ranked = {name for each in found for name in each.entrants[: each.ranked]}
    made = [
        Failed(name, len(cases), len(results.cases), name in ranked, Counter(cases.values()).most_common(1)[0][0])
        for name, cases in raised.items()
    ]
    for name in results.entrants:
        where = [(each, missing) for each in found for who, missing in each.left_out if who == name]
        # What a method itself could not explain is said above.
        where = [(each, missing) for each, missing in where if missing > len(raised.get(name, ()))]
        if where:
            worst, missing = max(where, key=lambda one: one[1] / one[0].candidates)
            reasons = refused.get((name, worst.metric), Counter({UNDEFINED: 1}))
            said = reasons.most_common(1)[0][0].rstrip(".")
            metrics = ", ".join(each.metric for each, _ in where)
            made.append(Failed(name, missing, worst.candidates, False, f"not ranked under {metrics}: {said}."))
    return tuple(made)


def provenance(results: Results) -> tuple[tuple[str, str], ...]:
    """Name and value of everything that the numbers depend on."""
    run = results.run
    known: dict[str, Any] = {
        "model": run.model,
        "weights": run.weights,
        "digest of the inputs": run.data,
        "target": run.target,
        "features": run.features,
        "imputers": ", ".join(run.imputers),
        "seeds": ", ".join(map(str, run.seeds)),
        "asked for": run.selection,
        "tuned on": f"{run.tuning_cases} inputs of another split" if run.tuning_cases else "",
        "budget": run.budget,
        "estimate": run.estimate,
        **run.provenance,
    }
    return tuple((name, _text(value)) for name, value in known.items() if value not in (None, "", [], {}))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return described({name: _text(each) for name, each in value.items()})
    return json.dumps(value, ensure_ascii=False)


def notes(results: Results, found: Sequence[Judged], invalid: Sequence[str]) -> tuple[str, ...]:
    """What must be read before any number. ``found``: valid metrics; ``invalid``: names of the others."""
    clusters, done, planned = len(set(results.clusters.tolist())), len(results.cases), results.run.cases
    said = []
    if clusters < ENOUGH:
        inputs = "independent input" if clusters == 1 else "independent inputs"
        said.append(f"Not enough for a claim: {clusters} {inputs}, {ENOUGH} are needed.")
    if planned is not None and done < planned:
        said.append(f"{done} of {planned} inputs are done: the run was stopped, or its budget was spent.")
    untried = [name for name in invalid if results.findings(name)[0][0] == UNTRIED]
    failed = [name for name in invalid if name not in untried]
    if failed:
        said.append(f"The validity gate failed {', '.join(failed)}: no number of theirs is shown.")
    if untried:
        said.append(f"The validity gate has not tried {', '.join(untried)}: no number of theirs is shown.")
    if results.twice:
        said.append(
            f"{len(results.twice)} of the inputs stand in two shards, as when two processes without --shard write to "
            "one folder: the first shard by name counts."
        )
    fewer = [each for each in found if len(each.inputs) < each.candidates]
    if fewer:
        worst = min(fewer, key=lambda each: len(each.inputs) / each.candidates)
        said.append(
            f"Inputs on which some entrant has no score are left out for all, under {len(fewer)} of the metrics; at "
            f"worst {len(worst.inputs)} of {worst.candidates} are left, under {worst.metric}."
        )
    return (*said, *_silent(results))


def _silent(results: Results) -> list[str]:
    """The metrics that judged no input at all, with the commonest reason."""
    said = []
    for metric, asked in zip(results.metrics, results.asked, strict=True):
        if not asked.any():
            reasons = Counter(sentence for _, _, name, sentence in results.failures if name == metric)
            reason = f": {reasons.most_common(1)[0][0].rstrip('.')}" if reasons else ""
            said.append(f"{metric} judged no input{reason}.")
    return said
