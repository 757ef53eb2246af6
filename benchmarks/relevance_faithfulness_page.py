"""The figures of faithfulness as a page, and the default composites that follow from them."""

from typing import Any, NamedTuple

import numpy as np

from relevance_page import row

USES = {"text": "text classifiers", "LLM": "language models", "vision": "pictures", "rows": "table rows"}
INTRODUCTION = """# Which composite is faithful

Written by `python benchmarks/relevance_faithfulness.py --data DATA` from
`benchmarks/results/relevance_faithfulness.json`; edit neither.

Symmetric relevance gain (`pellucid.metrics.Srg`): the area between the curve as the least relevant features go first
and the curve as the most relevant ones do. 0 is chance, more is better, its unit is the target's. All methods of one
input share one game, one imputer and one set of masks. In brackets stands the 95 % bootstrap interval over inputs. *Of
Shapley's* is the mean gain as a share of that of Shapley values, which know the game that the metric plays and so are
near the most that can be reached; relevance has never seen it. *random* is noise; integrated gradients
take 16 steps.

A composite is held against another on the same inputs (`pellucid.metrics.compare`). With fewer than 100 independent
inputs an interval is a description of these, and no claim about all inputs of the kind."""


class Choice(NamedTuple):
    """The default of a use, and the composite that comes next."""

    best: str
    second: str
    shares: dict[str, float]
    """Mean share of Shapley's gain over the subjects of the use, by composite."""


def share(subject: dict[str, Any], name: str) -> float:
    """The mean gain of a method over that of Shapley values."""
    return float(subject["rows"][name]["mean"] / subject["rows"]["shapley"]["mean"])


def chosen(subjects: dict[str, Any], composites: list[str], use: str) -> Choice | None:
    """The composite with the greatest mean share; None where nothing of that use was run."""
    found = [each for each in subjects.values() if each["use"] == use]
    if not found:
        return None
    shares = {name: float(np.mean([share(each, name) for each in found])) for name in composites}
    best, second = sorted(composites, key=lambda name: -shares[name])[:2]
    return Choice(best, second, shares)


def page(found: dict[str, Any]) -> str:
    subjects, facts = found["subjects"], found["facts"]
    choices = {use: chosen(subjects, list(facts), use) for use in USES}
    parts = [INTRODUCTION, defaults(subjects, facts, choices), overview(subjects, facts)]
    parts += [table(each, facts) for each in subjects.values()]
    return "\n\n".join(parts) + "\n"


def defaults(subjects: dict[str, Any], facts: dict[str, Any], choices: dict[str, Choice | None]) -> str:
    """Which composite each use should take, and how sure that is."""
    lines = [
        "## The defaults\n\nThe composite with the greatest share of Shapley's gain, mean over the use's models.\n",
        row(["use", "default", "of Shapley's", "next", "of Shapley's"]),
        row(["---", "---", "--:", "---", "--:"]),
    ]
    for use, choice in choices.items():
        if choice is not None:
            best, second = choice.best, choice.second
            cells = [f"`{best}`", f"{choice.shares[best]:.2f}", f"`{second}`", f"{choice.shares[second]:.2f}"]
            lines.append(row([USES[use], *cells]))
    lines += ["\nThe default against the next, on the same inputs:\n"]
    lines.append(row(["model", "pair", "difference", "p (Wilcoxon)", "wins", "the default is"]))
    lines.append(row(["---", "---", "--:", "--:", "--:", "---"]))
    for each in subjects.values():
        choice = choices[each["use"]]
        if choice is not None:
            lines.append(paired(each, choice.best, choice.second))
    blind = ", ".join(f"`{name}`" for name, each in facts.items() if not each["class_specific"])
    lines.append(f'\nClass-blind, so no answer to "why this output" whatever its gain: {blind}.')
    return "\n".join(lines)


def paired(subject: dict[str, Any], first: str, second: str) -> str:
    """One line: the gain of one composite minus that of another."""
    pair = next(each for each in subject["pairs"] if set(each["pair"]) == {first, second})
    turned = pair["pair"][0] != first
    ends = [-pair["high"], -pair["low"]] if turned else [pair["low"], pair["high"]]
    mean, wins = (-pair["mean"], 1 - pair["wins"]) if turned else (pair["mean"], pair["wins"])
    difference = f"{mean:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    told = "ahead" if ends[0] > 0 else "behind" if ends[1] < 0 else "not told apart"
    return row([subject["title"], f"`{first}` - `{second}`", difference, f"{pair['p']:.2g}", f"{wins:.0%}", told])


def overview(subjects: dict[str, Any], facts: dict[str, Any]) -> str:
    """The share of Shapley's gain of every method on every model."""
    lines = [
        "## Share of the gain of Shapley values\n",
        row(["method", *(each["title"] for each in subjects.values())]),
        row(["---", *["--:"] * len(subjects)]),
    ]
    names = [*facts, *(name for name in next(iter(subjects.values()))["rows"] if name not in facts)]
    lines += [row([f"`{name}`", *(f"{share(each, name):.2f}" for each in subjects.values())]) for name in names]
    return "\n".join(lines)


def table(subject: dict[str, Any], facts: dict[str, Any]) -> str:
    """Every method on one model, the best first."""
    low, high = subject["features"]
    sizes = f"{low}" if low == high else f"{low} to {high}"
    sampled = subject["inputs"] - subject["exact"]
    exact = f"exact for {subject['exact']} inputs" if subject["exact"] else ""
    drawn = f"by {subject['permutations']} permutations for {sampled}" if sampled else ""
    lines = [
        f"## {subject['title']}\n",
        f"{subject['inputs']} inputs: {subject['about']}. {sizes} features; `{subject['metric']}`. Shapley values are "
        f"{' and '.join(filter(None, (exact, drawn)))}.\n",
        row(["method", "gain", "of Shapley's"]),
        row(["---", "--:", "--:"]),
    ]
    for method, each in sorted(subject["rows"].items(), key=lambda item: -item[1]["mean"]):
        said = f"**`{method}`**" if method in facts else f"`{method}`"
        gain = f"{each['mean']:.3f} [{each['low']:.3f}, {each['high']:.3f}]"
        lines.append(row([said, gain, f"{share(subject, method):.2f}"]))
    return "\n".join(lines)
