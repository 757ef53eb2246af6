"""The figures of the pointing game as a page."""

from textwrap import fill
from typing import Any

from relevance_page import row, spread

INTRODUCTION = """# Does the relevance of a vision-language model lie on the shape

Written by `python benchmarks/relevance_pointing.py` from `benchmarks/results/relevance_pointing.json`; edit neither."""


def page(found: dict[str, Any]) -> str:
    parts = [INTRODUCTION]
    if "rows" in found:
        parts += [about(found), table(found["rows"])]
    if "cost" in found:
        parts += ["## What it costs", cost(found["cost"])]
    return "\n\n".join(parts) + "\n"


def about(found: dict[str, Any]) -> str:
    chance = found["rows"]["random"]["chance"]
    paragraphs = (
        f"`{found['model']}`, a tiny LLaVA, on test pictures of easy-VQA: one flat-coloured shape on a pale ground, so "
        "that its place is known. One question about each picture, drawn at random; of "
        f"{found['tried']} tried, the {found['pictures']} that the model answers rightly are explained. The target is "
        "the margin of the right answer; the features are the 64 patches of 8 x 8 pixels and the words, of which only "
        "the patches are judged here. A patch lies on the shape where that covers at least half of it; of a smaller "
        "shape, the patch that it covers most.",
        "*Hit* is the pointing game [zhang2018]: how often the patch with the highest score lies on the shape. *Mass* "
        "is the share of all positive relevance that lies on it [arras2022]. Chance is the share of the patches that "
        f"lie on the shape, {chance:.3f} on the average, for both. *Mass - chance* is the mean of the differences. In "
        "brackets: 95 % bootstrap interval over pictures.",
        "Neither says which explanation is right: where a shape is not, the ground says so, and an edge lies on both "
        "sides. *Mean colour* and *blur* are what occlusion and integrated gradients put in the place of a patch: a "
        "grey that the network never saw as a ground, and a blurred copy of the picture.",
    )
    return "\n\n".join(fill(each, 120, break_on_hyphens=False) for each in paragraphs)


def table(rows: dict[str, Any]) -> str:
    lines = [row(["method", "hit", "mass", "mass - chance"]), row(["---", "--:", "--:", "--:"])]
    for name, each in sorted(rows.items(), key=lambda item: -item[1]["mass"]["mean"]):
        lines.append(row([f"`{name}`", *(interval(each[key]) for key in ("hit", "mass", "gain"))]))
    return "\n".join(lines)


def interval(values: dict[str, Any]) -> str:
    return f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def cost(found: dict[str, Any]) -> str:
    text = fill(
        "CLIP (6 layers, hidden 384, 224 pixels, patches of 16) and Llama (6 layers, hidden 384), random weights, 228 "
        "tokens to a picture with its question; one CPU thread of a machine that others used too. CPU time over that "
        f"of a plain gradient for pixels and embeddings, median of {found['rounds']} rounds in random order "
        "[least-most].",
        120,
        break_on_hyphens=False,
    )
    batches = list(next(iter(found["works"].values())))
    heads = [f"{batch} at once, {unit}" for batch in batches for unit in ("seconds", "plain gradients")]
    lines = [row(["work", *heads]), row(["---", *["--:"] * len(heads)])]
    for name, each in found["works"].items():
        cells = [[f"{one['seconds']['median']:.3f}", spread(one["gradients"])] for one in each.values()]
        lines.append(row([f"`{name}`", *(cell for pair in cells for cell in pair)]))
    return text + "\n\n" + "\n".join(lines)
