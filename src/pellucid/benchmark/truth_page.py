"""The ladder of ground truths as a page: the rungs, one table, and a reading of the failures that it shows."""

import math
from collections.abc import Iterable, Sequence

from pellucid.benchmark.truth_table import CLOSE, ERRORS, FOUND, WIDEST, Outcome, Verdict
from pellucid.ground_truth import RUNGS, GroundTruth

SIGNS: dict[Outcome, str] = {"exact": "=", "sampled": "±", "close": "≈", "wrong": "✗", "not applicable": "-"}
PRICED = "network"
"""The truth whose rows are shown: ten features, two inputs."""
INTRODUCTION = """# Methods on models whose truth is known

Written by `python scripts/write_ground_truth.py`; do not edit. A test holds it to what the methods do now.

An explanation of a real model can only be checked against other explanations. Here the right answer is known before
any method runs: from a formula, from an axiom, from all 2^n coalitions, or because the task was made so. Each truth
names the baseline that it holds under, for without one there is no right answer. Methods run with their own settings
(on `network` and the planted sentences the sampling ones draw more), and each is judged by what its facts promise:
signed scores are held against contributions (Shapley values; a method that promises completeness may give the path
integral instead, and the table says so), scores without a sign against slopes, |w| on a linear network. Relevance
promises neither, and is held against contributions to show where it gives them and where not. In Python:
`pellucid.ground_truth.all_truths()` and `pellucid.benchmark.truth_table()`."""
LEGEND = f"""## Every method on every truth

`=` exact; `±` within {ERRORS:.0f} of its own standard errors, {ERRORS:.0f} of which are at most {WIDEST:.0%} of the
largest true score; `≈` within {CLOSE:.0%} of the largest true score; `✗` wrong; `-` not applicable. `p`: held against
the path integral, where that differs from the Shapley value. Percentages are the largest difference, relative to the
largest true score. For `planted-rationale` the number is the mean AUPRC of the scores' sizes: `≈` from {FOUND} on, `=`
at 1. For the pairs of models it is the share of the scores' sizes that lies on the object under the one model, minus
that under the other: 1 if the attribution moved from the object to the scene, 0 if it stayed where it was. *Rows* are
what the method asked of the network for one input of `{PRICED}`."""


def ground_truth_page(truths: Sequence[GroundTruth], verdicts: Sequence[Verdict]) -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, _ladder(truths), LEGEND, _table(truths, verdicts), _reading(verdicts)]
    return "\n\n".join(parts) + "\n"


def _ladder(truths: Sequence[GroundTruth]) -> str:
    described = "; ".join(f"**{rung}** {says}" for rung, says in RUNGS.items())
    lines = ["## The ladder", "", f"{described}. G6, compiled transformers, is not built.", ""]
    lines += ["| rung | truth | network | why it is true | what shows here | source |", "|---|---|---|---|---|---|"]
    for each in truths:
        texts = (each.says, each.axiom, each.exposes, each.source)
        told = " | ".join(text.replace("|", r"\|") for text in texts)
        lines.append(f"| {each.rung} | `{each.name}` | {told} |")
    return "\n".join(lines)


def _table(truths: Sequence[GroundTruth], verdicts: Sequence[Verdict]) -> str:
    known = {(each.method, each.truth): each for each in verdicts}
    header = " | ".join(f"{each.rung} {each.name}" for each in truths)
    lines = [f"| method | rows | {header} |", "|---|--:|" + ":-:|" * len(truths)]
    for method in dict.fromkeys(each.method for each in verdicts):
        cells = " | ".join(cell(known[method, each.name]) for each in truths)
        rows = known[method, PRICED].rows if (method, PRICED) in known else math.nan
        lines.append(f"| `{method}` | {'-' if math.isnan(rows) else format(rows, '.0f')} | {cells} |")
    return "\n".join(lines)


def cell(verdict: Verdict) -> str:
    """One verdict in a few characters."""
    sign = SIGNS[verdict.outcome] + ("p" if verdict.quantity == "path" else "")
    if verdict.quantity == "rationale":
        return f"{sign} {verdict.auprc:.2f}"
    if verdict.quantity == "contrast":
        return f"{sign} {verdict.contrast:.2f}"
    return sign if verdict.outcome in ("exact", "not applicable") else f"{sign} {percent(verdict.error)}"


def percent(error: float) -> str:
    """An error in two digits, so that the last bits of another processor do not show.

    >>> [percent(error) for error in (2e-9, 0.0123, 0.25, 3.55)]
    ['<0.1%', '1.2%', '25%', '355%']
    """
    return "<0.1%" if error < 1e-3 else f"{100 * error:.2g}%" if error < 0.995 else f"{100 * error:.0f}%"


def _reading(verdicts: Sequence[Verdict]) -> str:
    lines = ["## How to read the failures", ""]
    wrong = [each for each in verdicts if each.outcome == "wrong"]
    lines += [f"- {methods}: {reason} ({where})." for reason, methods, where in _grouped(wrong) if reason]
    by_path = _names(each.truth for each in verdicts if each.quantity == "path")
    lines.append(
        f"- Where the path integral is another value than Shapley's ({by_path}), both are complete and both are right: "
        "one asks what happens when all features fade in together, the other when they join one after another."
    )
    idle = [each for each in verdicts if each.outcome == "not applicable"]
    lines += [f"- {methods}: not applicable to {where}, since {reason}." for reason, methods, where in _grouped(idle)]
    strange = "; ".join(f"`{each.method}` on `{each.truth}`" for each in wrong if each.unexpected)
    return "\n".join([*lines, "", f"Wrong for no reason that is known: {strange or 'none'}."])


def _grouped(verdicts: Sequence[Verdict]) -> Iterable[tuple[str, str, str]]:
    """Each reason once, with the methods and the truths that it is given for."""
    for reason in dict.fromkeys(each.reason for each in verdicts):
        alike = [each for each in verdicts if each.reason == reason]
        yield reason.rstrip("."), _names(each.method for each in alike), _names(each.truth for each in alike)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))
