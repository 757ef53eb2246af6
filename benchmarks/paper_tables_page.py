"""The redone tables of the paper as a page: ours with intervals, the published numbers beside, marked as such."""

from typing import Any

import numpy as np

from paper_published import SOURCE, TABLES
from relevance_page import row

INTRODUCTION = f"""# The tables of a paper, redone

Written by `python benchmarks/paper_tables.py` from `benchmarks/results/paper_tables.json`; edit neither.

The tables of {SOURCE} on our data and our networks: every method on the same
inputs, with the same target, the same features and the same imputer. In brackets stands the 95 % bootstrap interval
over inputs. A bold score differs from that of `backtrace` for the better at p < 0.05 (Wilcoxon's signed-rank test on
the same inputs, Holm's correction over the methods of the column), one in italics for the worse.

*Published* is what the paper printed: **of other data and another network, with metrics of another library, and
without intervals**. It stands beside ours to show which orders hold up, and is no number of ours. `backtrace` is the
closed form of the paper's rule, `backtrace-contrast` its contrastive mode. A name with a colon is another library's
own method."""
TITLES = {
    "mprt": "MPRT (low is good)",
    "complexity": "complexity (a control)",
    "faithfulness_correlation": "faithfulness correlation (high is good)",
    "max_sensitivity": "max-sensitivity (low is good)",
    "morf": "MoRF, pixel flipping (low is good)",
    "lerf": "LeRF (high is good)",
    "delta": "delta AUC, LeRF less MoRF (high is good)",
}
HEADINGS = {"tabular": "Table rows", "images": "Pictures", "text": "Text"}
NOTES = {
    "tabular": """The paper prints the entropy in nats, and MPRT by its library's similarity. Ours is the entropy over
its largest value, and the rank correlation with the attribution of the network as its layers are shuffled from the top;
a method that is blind to the weights has 1. Complexity says on how few features a score stands, not whether it is
right.""",
    "images": "Max-sensitivity is relative to the size of the scores. A constant map would win it.",
    "text": """Areas of the probability of the predicted class, times 100 as the paper has them. In the last column
noise has 0, and the negated explanation the negated score.""",
}
LEVEL, ENOUGH = 0.05, 100
MINUS = "\N{MINUS SIGN}"


def page(found: dict[str, dict[str, Any]]) -> str:
    parts = [INTRODUCTION]
    for table, heading in HEADINGS.items():
        mine = {name: each for name, each in found.items() if each["table"] == table}
        if mine:
            parts += [f"## {heading}\n\n{NOTES[table]}", published(table), *(measured(*each) for each in mine.items())]
    return "\n\n".join(parts) + "\n"


def published(table: str) -> str:
    """The paper's own numbers."""
    given = TABLES[table]
    columns = list(dict.fromkeys(column for values in given.values.values() for column in values))
    lines = [
        f"**Published** ({given.setting}; not measured by us, no intervals):\n",
        row(["method", *columns]),
        row(["---", *["--:"] * len(columns)]),
        *(row([f"`{name}`", *(number(values.get(each)) for each in columns)]) for name, values in given.values.items()),
    ]
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}".replace("-", MINUS)


def measured(name: str, found: dict[str, Any]) -> str:
    """Our table of one task."""
    columns = found["columns"]
    names = [*found["seconds"], *(["random"] if any("random" in each["rows"] for each in columns) else [])]
    adjusted = [corrected(column["rows"]) for column in columns]
    few = "" if found["clusters"] >= ENOUGH else f" **Not enough for a claim: {found['clusters']} independent inputs.**"
    low, high = found["features"]
    lines = [
        f"### `{name}`: {found['task']}\n",
        f"`{found['model']}`, {found['inputs']} inputs in {found['clusters']} clusters, {low}"
        f"{'' if low == high else f' to {high}'} features, imputer `{found['imputer']}`.{few}\n",
        row(["method", *(TITLES[each["column"]] for each in columns), "s an input"]),
        row(["---", *["--:"] * len(columns), "--:"]),
    ]
    for label in names:
        cells = [cell(column, label, p.get(label)) for column, p in zip(columns, adjusted, strict=True)]
        seconds = found["seconds"].get(label)
        lines.append(row([f"`{label}`", *cells, "" if seconds is None else f"{seconds:.2g}"]))
    lines += [f"\n{against(each, p)}" for each, p in zip(columns, adjusted, strict=True) if p]
    lines += [f"\n`{label}` has no row: {reason}" for label, reason in found["failed"].items()]
    return "\n".join(lines)


def corrected(rows: dict[str, Any]) -> dict[str, float]:
    """Holm's correction over the methods of a column."""
    from pellucid.metrics.statistics import holm

    tested = {name: each["p"] for name, each in rows.items() if "p" in each}
    return dict(zip(tested, holm(np.array(list(tested.values()))).tolist(), strict=True)) if tested else {}


def verdict(column: dict[str, Any], label: str, p_value: float | None) -> str:
    """Whether a method is better or worse than ``backtrace``; empty where they cannot be told apart."""
    if p_value is None or not p_value < LEVEL or column["higher_is_better"] is None:
        return ""
    better = (column["rows"][label]["difference"]["mean"] > 0) == column["higher_is_better"]
    return "better" if better else "worse"


def against(column: dict[str, Any], adjusted: dict[str, float]) -> str:
    """Who is better than ``backtrace`` in a column, who is worse, and who cannot be told apart from it."""
    if column["higher_is_better"] is None:
        return f"{TITLES[column['column']]}: neither way is good, so nobody wins."
    told = [(label, verdict(column, label, p)) for label, p in adjusted.items()]
    named = {
        each: ", ".join(f"`{label}`" for label, found in told if found == each) for each in ("better", "worse", "")
    }
    parts = [f"{each or 'not told apart'}: {names}" for each, names in named.items() if names]
    return f"Against `backtrace` by {TITLES[column['column']]}, {'; '.join(parts)}."


def cell(column: dict[str, Any], label: str, p_value: float | None) -> str:
    """A mean with its interval; bold where it is better than that of ``backtrace``, in italics where it is worse."""
    each = column["rows"].get(label)
    if each is None or "mean" not in each:
        return ""
    text = f"{number(each['mean'])} [{number(each['low'])}, {number(each['high'])}]"
    if each["defined"] < len(each["values"]):
        text += f" (of {each['defined']})"
    marks = {"better": "**", "worse": "*", "": ""}[verdict(column, label, p_value)]
    return f"{marks}{text}{marks}"
