"""The page of results: ``docs/benchmarks-benchmark.md`` out of ``results/benchmark.json``."""

from collections.abc import Sequence
from typing import Any

from measure import spread

AIM = 1.5
FLOOR, FORWARD = ("tokens", "embedded"), ("tokens", "forward")
"""The parts of the floor, and of its forward passes alone."""
HEAD = """\
# What the benchmark costs beside its forward passes

Written by `python benchmarks/benchmark.py` from `benchmarks/results/benchmark.json`; edit neither.

*Work* is what `pellucid benchmark run` does for one sentence: every method attributes, every metric judges every \
attribution and the reference rows (oracle, its inversion, five random ones and theirs, position), failures and costs \
are written down. *Floor* is each distinct row of tokens that the work asked about, once, in batches made beforehand, \
through the bare network without gradients, and each pass of the gradient and attention methods, forward and as often \
back as they went; *forward alone* leaves out the way back. Both run in one process, a sentence of the one and then \
the same of the other; CPU time of one thread. The aim is at most {aim} times the forward passes."""
READING = """\
## How to read it

- *All* is the sum over the sentences; the median, the least and the most are of single sentences. Ratios of CPU time \
vary by some ten per cent with what else the machine does, those of wall time far more.
- *Alone* counts the rows that each method, each metric of each attribution and the oracle would ask for with a game \
of its own; *together* what the network computed. *Computed again* are rows of tokens that met the network more than \
once in one sentence: the full text, asked for its label before there is a game and for the record, and once by each \
imputer.
- In the aim's setting occlusion stands for the oracle. The oracle's coalitions are mostly its own, up to 4,096 of \
them, and their time in the network would make whatever else costs time look small."""


def page(found: dict[str, Any]) -> str:
    """The whole page."""
    parts = [HEAD.format(aim=AIM), _where(found)]
    settings = found["setting"]["settings"]
    measured = [
        (setting, some)
        for name, setting in settings.items()
        if (some := [each for each in found["sentences"] if each["setting"] == name])
    ]
    parts += [_times(measured), _rows(measured)]
    slow = [each for each in found["sentences"] if each["naive"] is not None]
    if slow:
        parts.append(_naive(slow))
    return "\n\n".join([*parts, READING]) + "\n"


def _where(found: dict[str, Any]) -> str:
    machine, setting = found["machine"], found["setting"]
    loads = [each["load"] for each in found["sentences"]]
    environment = " ".join(f"{name}={value}" for name, value in found["environment"].items())
    return f"""| | |
|---|---|
| task | `{setting["task"]}`, first sentences of its test split, words |
| methods | {", ".join(f"`{name}`" for name in setting["methods"])} |
| metrics | {", ".join(f"`{name}`" for name in setting["metrics"])}; curves of {setting["steps"]} steps |
| machine | {machine["cpu"]}, {machine["cores"]} cores, {machine["system"]} |
| versions | torch {setting["torch"]}, Python {setting["python"]} |
| environment | `{environment}` |
| measured | until {found["date"]}; load average {min(loads)} to {max(loads)}, so that other work had its share |
| the floor's batches | at most {found["floor_tokens"]:,} tokens, the fastest of five sizes on one sentence |"""


def _times(measured: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    head = ["setting", "sentences", "work, CPU s", "floor, CPU s", "of that, forward alone"]
    head += ["work / floor, all", "median (least to most)", "work / forward alone, all", "median (least to most)"]
    head += ["wall, work / floor, all", "median (least to most)"]
    lines = ["## Time", "", _line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    for setting, some in measured:
        sums = [_total(some, parts, "cpu") for parts in (("work",), FLOOR, FORWARD)]
        cells = [setting["title"], str(len(some)), *(f"{each:.1f}" for each in sums)]
        for parts, unit in ((FLOOR, "cpu"), (FORWARD, "cpu"), (FLOOR, "wall")):
            single = spread([ratio([each], unit, parts) for each in some])
            whole = f"{ratio(some, unit, parts):.2f}"
            cells.append(whole if unit == "wall" else f"**{whole}**")
            cells.append(f"{single['median']:.2f} ({single['min']:.2f} to {single['max']:.2f})")
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def ratio(some: Sequence[dict[str, Any]], unit: str, parts: Sequence[str] = FLOOR) -> float:
    """How many times the parts' time the work of these sentences took."""
    return _total(some, ("work",), unit) / _total(some, parts, unit)


def _total(some: Sequence[dict[str, Any]], parts: Sequence[str], unit: str) -> float:
    return sum(float(each["times"][part][unit]) for each in some for part in parts)


def _rows(measured: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    head = ["setting", "words", "alone: methods", "alone: metrics", "together", "alone / together"]
    head += ["computed again", "from embeddings", "backward passes"]
    lines = ["## Rows of the network for one sentence", "", "Medians, least and most in brackets.", ""]
    lines += [_line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    for setting, some in measured:
        rows = [each["rows"] for each in some]
        alone = [sum(each["asked"].values()) for each in rows]
        shares = spread([each / one["computed"] for each, one in zip(alone, rows, strict=True)])
        cells = [
            setting["title"],
            _counts([each["players"] for each in some]),
            *(_counts([each["asked"][who] for each in rows]) for who in ("methods", "metrics")),
            _counts([each["computed"] for each in rows]),
            f"{shares['median']:.1f} ({shares['min']:.1f} to {shares['max']:.1f})",
            *(_counts([each[name] for each in rows]) for name in ("again", "embedded", "backwards")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counts(values: list[float]) -> str:
    of = spread(values)
    return f"{of['median']:,.0f} ({of['min']:,.0f} to {of['max']:,.0f})"


def _naive(slow: list[dict[str, Any]]) -> str:
    head = ["sentence", "words", "rows, one by one", "rows, together", "CPU s, one by one", "CPU s, together"]
    head += ["times as long", "largest difference of a score"]
    said = "Each method on a game of its own, and each metric of each attribution on a game of its own."
    lines = ["## The same scores one by one", "", said, "", _line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    for each in slow:
        naive, work = each["naive"], each["times"]["work"]
        lines.append(
            f"| `{each['case']}` | {each['players']} | {naive['rows']:,} | {each['rows']['computed']:,} | "
            f"{naive['cpu']:.1f} | {work['cpu']:.1f} | {naive['cpu'] / work['cpu']:.2f} | {naive['difference']:.1e} |"
        )
    return "\n".join(lines)
