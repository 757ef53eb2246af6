"""The page of results: ``docs/benchmarks-relevance.md`` out of ``results/relevance.json``."""

from typing import Any

from relevance_networks import TITLES

LIGHT = ("attnlrp", "cp-lrp", "lrp-epsilon", "reslrp")
AIMS = dict.fromkeys(LIGHT, ("gradients", 1.2)) | {
    "backtrace": ("forwards", 4.5),
    "backtrace-contrast": ("forwards", 7.0),
}
MEMORY_AIMS = dict.fromkeys(LIGHT, 1.5) | {"backtrace": 2.0}
ALL_KEPT = ', keep="*"'
UNITS = {"cpu": "CPU s", "cuda": "wall s"}
DEVICES = {"cpu": "On a processor", "cuda": "On a GPU"}

EXPLAINED = """\
*fwd* is one plain forward pass without gradients, *grad* the plain gradient of one logit with respect to the word \
embeddings or the picture, parameters left out. Every work runs once to warm up, then once a round in an order drawn \
anew, all in one process; ratios are taken round by round. Numbers are medians, with least and most in brackets. \
`pellucid.trace` is timed as a user calls it, for one target: as it is by default, and with `keep="*"`, which also \
keeps the relevance of every module. BERT, ViT and ResNet have random weights. Memory is the peak above the model in a \
fresh process after one forward pass. A ratio no greater than its aim is a pass."""


def page(found: dict[str, Any]) -> str:
    """The whole page; what was not measured yet is left out."""
    head = [
        "# What relevance costs",
        "Written by `python benchmarks/relevance.py` from `benchmarks/results/relevance.json`; edit neither.",
        EXPLAINED,
    ]
    parts = [part for device in DEVICES if device in found for part in of_device(device, found[device])]
    return "\n\n".join([*head, *parts]) + "\n"


def of_device(device: str, found: dict[str, Any]) -> list[str]:
    writers = {"cost": cost, "memory": memory, "growth": growth, "llama": llama}
    sections = found["sections"]
    parts = [f"## {DEVICES[device]}", machine(found["machine"], sections)]
    return parts + [
        writer(sections[name]["results"], UNITS[device]) for name, writer in writers.items() if name in sections
    ]


def machine(told: dict[str, Any], sections: dict[str, Any]) -> str:
    measured = [section["measured"] for section in sections.values()]
    dates, loads = sorted(each["date"] for each in measured), [each["load"] for each in measured]
    versions = ", ".join(f"{name} {told['versions'][name]}" for name in ("torch", "transformers"))
    gpu = f", {told['gpu']}" if told["gpu"] else ""
    return (
        f"{told['cpu']}{gpu}, {told['threads']} thread(s) of {told['cores']} cores, {versions}, Python "
        f"{told['python']}; measured {dates[0]} to {dates[-1]} at a load average of {min(loads)} to {max(loads)}."
    )


def cost(found: dict[str, Any], unit: str) -> str:
    lines = [
        f"### Time\n\n| network | composite | {unit} | fwd | grad | grad, everything kept | aim |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for network, part in found.items():
        works = part["works"]
        for name, work in works.items():
            if name.endswith(ALL_KEPT):
                continue
            whole = works.get(name + ALL_KEPT)
            cells = [TITLES[network], title(name), f"{work['seconds']['median']:.3g}", spread(work["forwards"])]
            cells += [spread(work["gradients"]), spread(whole["gradients"]) if whole else "", aim(name)]
            lines.append(row(cells))
        lines += [row([TITLES[network], title(name), "refused", "", "", "", ""]) for name in refused(part)]
    reasons = sorted(
        {
            f"- {TITLES[network]}, `{name}`: {part['refused'][name]}"
            for network, part in found.items()
            for name in refused(part)
        }
    )
    return "\n".join(lines) + ("\n\nRefused:\n\n" + "\n".join(reasons) if reasons else "")


def refused(part: dict[str, Any]) -> list[str]:
    return [name for name in part["refused"] if name not in part["works"] and not name.endswith(ALL_KEPT)]


def title(name: str) -> str:
    return {"forward": "*forward*", "plain gradient": "*plain gradient*"}.get(name, f"`{name}`")


def aim(name: str) -> str:
    unit, most = AIMS.get(name, ("", 0.0))
    return f"{most} {'grad' if unit == 'gradients' else 'fwd'}" if unit else ""


def memory(found: dict[str, Any], _: str) -> str:
    lines = [
        "### Memory\n\n| network | composite | MB | grad | MB, everything kept | grad | aim |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for network, part in found.items():
        above = part["above_bytes"]
        for name in above:
            if not name.endswith(ALL_KEPT):
                both = [cell for each in (name, name + ALL_KEPT) for cell in megabytes(above, each)]
                lines.append(row([TITLES[network], title(name), *both, f"{MEMORY_AIMS.get(name, '')}"]))
    return "\n".join(lines)


def megabytes(above: dict[str, int | None], name: str) -> list[str]:
    if name not in above:
        return ["", ""]
    taken = above[name]
    return [f"{taken / 1e6:.0f}", f"{taken / above['plain gradient']:.2f}"] if taken else ["refused", ""]


def growth(found: dict[str, Any], unit: str) -> str:
    lengths = sorted(found, key=int)
    names = list(found[lengths[0]]["works"])
    lines = [
        f"### Growth with the length of the text\n\nSmolLM2-135M, one text: {unit}, and in forward "
        "passes of that length.\n",
        row(["composite", *(f"{length} tokens" for length in lengths), f"{lengths[-1]} / {lengths[0]}"]),
        row(["---", *["--:"] * (len(lengths) + 1)]),
    ]
    for name in names:
        works = [found[length]["works"].get(name) for length in lengths]
        if all(works):
            seconds = [work["seconds"]["median"] for work in works]
            cells = [f"{s:.3g} ({work['forwards']['median']:.2f})" for s, work in zip(seconds, works, strict=True)]
            lines.append(row([title(name.removesuffix(ALL_KEPT)), *cells, f"{seconds[-1] / seconds[0]:.1f}"]))
    return "\n".join(lines)


def llama(found: dict[str, Any], unit: str) -> str:
    lines = [
        "### Beside LXT, AttnLRP on a Llama\n\n"
        "The shape of SmolLM2-135M with random weights, 512 tokens. LXT 2.1 needs an older transformers and so a "
        "process of its own; each is compared with the plain passes of its own.\n",
        row(["what", unit, "fwd", "grad"]),
        row(["---", "--:", "--:", "--:"]),
    ]
    for who, part in found.items():
        versions = f", transformers {part['versions']['transformers']}" if "versions" in part else ""
        for name, work in part["works"].items():
            cells = [f"{work['seconds']['median']:.3g}", spread(work["forwards"]), spread(work["gradients"])]
            lines.append(row([f"{'LXT' if who == 'lxt' else 'pellucid'}{versions}: {title(name)}", *cells]))
    return "\n".join(lines)


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(values: dict[str, Any]) -> str:
    return f"{values['median']:.2f} [{values['min']:.2f}-{values['max']:.2f}]"
