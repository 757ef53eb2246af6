"""The page of results: ``docs/benchmarks-sae.md`` out of ``results/sae.json``."""

from typing import Any

from measure import ratio, spread

Found = dict[str, Any]
TITLES = {"topk": "TopK", "batchtopk": "BatchTopK", "matryoshka": "Matryoshka, 5 prefixes"}
NAMES = {"dictionary_learning": "dictionary_learning", "sae_lens": "SAELens", "sparsify": "sparsify"}
ASKED_FASTER = {4608: 3.7, 16384: 5.5}
ASKED_FASTER_COARSE = {16384: 10.0}
ASKED_FASTER_SPARSIFY = 1.4
ASKED_FLOORS = {"topk": 1.1, "batchtopk": 1.1, "matryoshka": 1.3}
ASKED_FLOORS_COARSE = {4608: {"topk": 0.75, "batchtopk": 0.7, "matryoshka": 0.95}, 16384: dict.fromkeys(TITLES, 0.5)}
DIGITS = 5


def page(found: Found) -> str:
    """The whole page; what was not measured yet is left out."""
    parts = [_head(found)]
    if found.get("steps"):
        parts += [_cost(found["steps"]), _faster(found["steps"]), _losses(found["steps"])]
    if found.get("memory"):
        parts.append(_memory(found["memory"]))
    if found.get("harvest"):
        parts.append(_harvest(found["harvest"]))
    return "\n\n".join([*parts, _reading(found)]) + "\n"


def _head(found: Found) -> str:
    machine, peers = found["machine"], found["peers"]
    there = ", ".join(f"{NAMES[name]} {version}" for name, version in peers.items() if version)
    absent = ", ".join(NAMES[name] for name, version in peers.items() if version is None)
    dates = sorted(part["date"] for part in found.get("steps", {}).values()) or ["not yet"]
    loads = [part["load"] for part in found.get("steps", {}).values()] or [0.0]
    environment = " ".join(f"{name}={value}" for name, value in found["environment"].items())
    hardware = [name for name, able in machine["bfloat16"].items() if able] or ["none"]
    return f"""# What a training step of a sparse autoencoder costs

Written by `python benchmarks/sae.py` from `benchmarks/results/sae.json`; edit neither.

| | |
|---|---|
| case | d = 576, batch 4,096, k = 32; synthetic sums of few directions with noise; equal initial weights; Adam, 1e-4 |
| peers | {there or "none"}{f"; **absent here: {absent}**" if absent else ""} |
| machine | {machine["cpu"]}, {machine["cores"]} cores; bfloat16 in hardware: {", ".join(hardware)}; torch \
{machine["torch"]}, Python {machine["python"]} |
| environment | `{environment}` |
| measured | {dates[0]} to {dates[-1]}, load average {min(loads)} to {max(loads)}: other work had its share |

All run in one process by turns, one step each a round in an order drawn anew, the first round being left out. Times \
are CPU time of all threads, **ratios are taken round by round**, and numbers are medians with least and most in \
brackets. Each library takes its own public step: `Trainer.update`, `SAETrainer.step`, for sparsify the lines of \
`Trainer.fit` between two batches; ours is `Trainer.step`, in the manner of the peer that it stands beside (loss \
weights, decoder norm, clipping). A *floor* is the encoder's forward product and its weights' gradient, bare, float32, \
into memory that is there already.

The peers are installed beside each other so: `python -m venv peers`, `pip install torch sae-lens eai-sparsify natsort \
schedulefree simple-parsing`, `pip install --no-deps dictionary-learning nnsight==0.3.7 python-socketio \
python-engineio bidict` (without `--no-deps` it replaces torch), and pellucid's own dependencies; then \
`PYTHONPATH=src peers/bin/python benchmarks/sae.py`."""


def _case(key: str) -> tuple[str, int]:
    architecture, width = key.split()
    return architecture, int(width)


def _cost(steps: Found) -> str:
    lines = [
        "## Cost of one step, in floors",
        "",
        "| width | | floor, CPU s | SAELens | dictionary_learning | sparsify | ours, float32 | ours, bfloat16 "
        "selection | asked of ours |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for key, part in steps.items():
        architecture, width = _case(key)
        times = part["times"]
        cells = [_floors(times, name) for name in ("sae_lens", "dictionary_learning", "sparsify")]
        own = [_best(times, ""), _best(times, ", bfloat16")]
        known = width in ASKED_FASTER
        asked = f"{ASKED_FLOORS[architecture]}; {ASKED_FLOORS_COARSE[width][architecture]}" if known else ""
        seconds = f"{times['floor']['cpu']['median']:.2f}"
        row = [f"{width:,}", TITLES[architecture], seconds, *cells, *own, asked]
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "Ours is the median over the manners of the peers; the table below tells them apart."]
    return "\n".join(lines)


def _floors(times: Found, name: str) -> str:
    return _spread(ratio(times[name], times["floor"])) if name in times else ""


def _best(times: Found, suffix: str) -> str:
    own = [name for name in times if name.startswith("ours") and name.endswith(", bfloat16") == bool(suffix)]
    values = [value for name in own for value in ratio(times[name], times["floor"])["values"]]
    return f"**{_spread(spread(values))}**" if values else ""


def _faster(steps: Found) -> str:
    lines = [
        "## How many times faster, at equal loss",
        "",
        "| width | | beside | ours, float32 | asked | ours, bfloat16 selection | asked |",
        "|--:|---|---|--:|--:|--:|--:|",
    ]
    for key, part in steps.items():
        architecture, width = _case(key)
        times = part["times"]
        for peer, title in NAMES.items():
            if peer not in times:
                continue
            plain, coarse = (f"ours like {peer}{suffix}" for suffix in ("", ", bfloat16"))
            asked = ASKED_FASTER_SPARSIFY if peer == "sparsify" else ASKED_FASTER.get(width)
            wanted = None if peer == "sparsify" else ASKED_FASTER_COARSE.get(width)
            row = [f"{width:,}", TITLES[architecture], title, _times(times, peer, plain, asked), _asked(asked)]
            lines.append(f"| {' | '.join([*row, _times(times, peer, coarse, wanted), _asked(wanted)])} |")
    return "\n".join(lines)


def _times(times: Found, slow: str, fast: str, asked: float | None) -> str:
    if fast not in times:
        return ""
    found = ratio(times[slow], times[fast])
    said = f"{found['median']:.1f}x [{found['min']:.1f}-{found['max']:.1f}]"
    return said if asked is None else f"{said} {'reached' if found['median'] >= asked else '**missed**'}"


def _asked(asked: float | None) -> str:
    return "" if asked is None else f"{asked}x"


def _losses(steps: Found) -> str:
    lines = ["## Losses side by side", "", "Three of the steps; the results file has all of them."]
    for key, part in steps.items():
        architecture, width = _case(key)
        lines += ["", f"{TITLES[architecture]}, {width:,} latents:", "", _loss_table(part["losses"])]
    return "\n".join(lines)


def _loss_table(losses: Found) -> str:
    lines = ["| | step 1 | step 5 | last | largest relative difference to the peer | |", "|---|--:|--:|--:|--:|---|"]
    for name, values in losses.items():
        shown = [values[0], values[min(4, len(values) - 1)], values[-1]]
        beside = name.removeprefix("ours like ").removesuffix(", bfloat16")
        cells = ["", ""]
        if name.startswith("ours") and beside in losses:
            gap = difference(values, losses[beside])
            cells = [f"{gap:.1e}", "equal" if gap < 0.5 * 10 ** (1 - DIGITS) else f"**not equal to {DIGITS} digits**"]
        title = NAMES.get(name) or name.replace(beside, NAMES.get(beside, beside))
        lines.append(f"| {title} | {' | '.join(f'{value:.5f}' for value in shown)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(own: list[float], theirs: list[float]) -> float:
    """The largest relative difference of a loss."""
    return max(abs(a - b) / abs(b) for a, b in zip(own, theirs, strict=True))


def _memory(memory: Found) -> str:
    lines = [
        "## Memory above weights and Adam's moments",
        "",
        "Peak resident memory of two steps in a fresh process, beside one dense float32 matrix of the batch's tokens "
        "by all latents, below which ours has to stay.",
        "",
        "| width | | one dense matrix | SAELens | dictionary_learning | sparsify | ours, float32 | ours, bfloat16 | |",
        "|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for key, part in memory.items():
        architecture, width = _case(key)
        dense = next(iter(part.values()))["dense_bytes"]
        own = [_most(part, coarse=coarse) for coarse in (False, True)]
        cells = [_megabytes(part.get(name)) for name in ("sae_lens", "dictionary_learning", "sparsify")]
        verdict = "reached" if max(own) < dense else "**missed**"
        row = [f"{width:,}", TITLES[architecture], f"{dense / 1e6:.0f} MB", *cells]
        lines.append(f"| {' | '.join([*row, *(f'{each / 1e6:.0f} MB' for each in own), verdict])} |")
    return "\n".join(lines)


def _most(part: Found, *, coarse: bool) -> int:
    """The most that ours takes in any manner."""
    own = [name for name in part if name.startswith("ours") and name.endswith(", bfloat16") == coarse]
    return max(part[name]["above_bytes"] for name in own)


def _megabytes(part: Found | None) -> str:
    return "" if part is None else f"{part['above_bytes'] / 1e6:.0f} MB"


def _harvest(part: Found) -> str:
    share = part["share"]
    verdict = "reached" if share["median"] >= 0.9 else "**missed**"
    return f"""## Harvest beside the model's own forward pass

{part["model"]}, output of `{part["site"]}`, {part["tokens"]:,} tokens: the model alone, stopped behind that layer, \
computes {part["forward_per_second"]:.0f} tokens a CPU second; harvesting, which writes the shards and their index, \
{part["harvest_per_second"]:.0f}: {share["median"]:.2f} of it [{share["min"]:.2f}-{share["max"]:.2f}], asked 0.9, \
{verdict}. {part["batching"]}"""


def _reading(found: Found) -> str:
    able = found["machine"]["bfloat16"]
    said = "This CPU makes no bfloat16 products in hardware, so bfloat16 selection is refused here."
    if any(able.values()):
        tiles = "in tiles" if able["amx_tile"] else "but not in tiles (AMX), with which it would take less"
        said = f"This CPU multiplies bfloat16 numbers in hardware, {tiles}."
    return f"""## How to read it

- A step of ours can cost less than a floor: a latent is active in few tokens, and the gradient of its weights is a \
sum over those alone.
- {said}
- CPU time still varies with what else runs: caches and memory are shared."""


def _spread(values: Found) -> str:
    return f"{values['median']:.2f} [{values['min']:.2f}-{values['max']:.2f}]"
