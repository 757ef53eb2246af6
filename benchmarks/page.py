"""The page of results: ``docs/benchmarks.md`` out of ``results/attribution.json``."""

from typing import Any

TARGETS = {"occlusion": 1.5, "ablation": 1.5, "kernel_shap": 1.5, "shapley": 2.0}
TITLES = {
    "ablation": "Leave one out: `FeatureAblation`",
    "occlusion": 'The same by `explain(method="occlusion")`, free checks included',
    "kernel_shap": "KernelSHAP: `KernelShap`, 40 samples",
    "shapley": "Sampled Shapley: `ShapleyValueSampling`, 5 orders",
}

EXPLAINED = """\
`occlusion` is `pellucid.explain(...)` as a user calls it, free checks included: beside Captum's evaluations it scores \
the empty prompt, and once more without a cache the full one (the self-test). The other rows are Captum's *own* \
estimators run twice: once to write down the coalitions they ask for, once to be answered from a table \
that our game scored in between; so their random draws, and their values, are the same. *One pass* is \
`forward_in_tokens=False, use_cached_outputs=False`, Captum's fastest correct mode. *Token by token* \
(`forward_in_tokens=True`) and *default* (`use_cached_outputs=True` on top) were measured on single evaluations and \
scaled by their number; the columns say how many times as long as ours they take. The *floor* is the size of the \
prefix tree of all distinct perturbed prompts with the answer: the tokens an exact scorer cannot do without; beside it \
stands what ours computed, padding and checks included."""


def page(found: dict[str, Any]) -> str:
    """The whole page; a section that was not measured yet is left out."""
    sections = found["sections"]
    parts = [_head(found)]
    if any(name in sections for name in TITLES):
        parts.append(_perturbation(sections))
    writers = {
        "captum_modes": _modes,
        "integrated_gradients": _gradients,
        "memory": _memory,
        "exact_shapley": _exact,
        "convergence": _convergence,
    }
    parts += [writer(sections[name]) for name, writer in writers.items() if name in sections]
    return "\n\n".join([*parts, _reading()]) + "\n"


def _head(found: dict[str, Any]) -> str:
    machine, setting = found["machine"], found["setting"]
    versions = machine["versions"]
    environment = " ".join(f"{name}={value}" for name, value in found["environment"].items())
    dates = sorted(section["date"] for section in found["sections"].values())
    loads = [section["load"] for section in found["sections"].values() if "load" in section]
    return f"""# How fast it is, beside Captum

Written by `make bench` (`python benchmarks/bench_attribution.py`) from `benchmarks/results/attribution.json`; edit \
neither.

| | |
|---|---|
| model | SmolLM2-135M-Instruct, float32, chat template on |
| input | {setting["prompt_tokens"]} prompt tokens, {setting["fields"]} fields in the middle, a given answer of \
{setting["answer_tokens"]} tokens |
| machine | {machine["cpu"]}, {machine["cores"]} cores, {machine["memory_bytes"] / 2**30:.0f} GiB, {machine["system"]} |
| versions | torch {versions["torch"]}, transformers {versions["transformers"]}, Captum {machine["captum"]}, Python \
{machine["python"]} |
| environment | `{environment}` |
| measured | {dates[0]} to {dates[-1]}; load average {min(loads)} to {max(loads)}, so that other work had its share |

Peers run in one process by turns (A B A B ...) after a warm-up. Numbers are medians, with least and most in \
brackets. CPU seconds count all threads; **ratios are of CPU time**, round by round, for wall time on a shared machine \
measures the neighbours. *fwd* is one plain forward pass over prompt and answer with logits at every position, timed \
in the same turns."""


def _perturbation(sections: dict[str, Any]) -> str:
    lines = [
        "## Perturbation methods, at equal values",
        "",
        "| method | evaluations (distinct) | ours, CPU s | Captum one pass, CPU s | faster | target | "
        "wall, ours / Captum | token by token | default (wrong) | ours / floor, fwd |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    modes = sections.get("captum_modes")
    for name, title in TITLES.items():
        if name not in sections:
            continue
        part = sections[name]
        times = part["times"]
        ours = times["ours"]["cpu"]["median"]
        slow = ["-", "-"]
        if modes:
            unit = modes["times"]["forward"]["cpu"]["median"] / times["forward"]["cpu"]["median"]
            slow = [
                f"{part['evaluations'] * modes['times'][mode]['cpu']['median'] / unit / ours:.0f}x"
                for mode in ("by_token", "default")
            ]
        wall = [f"{times[who]['wall']['median']:.1f}" for who in ("ours", "captum")]
        lines.append(
            f"| {title} | {part['evaluations']} ({part['distinct']}) | {_spread(times['ours']['cpu'])} | "
            f"{_spread(times['captum']['cpu'])} | **{_times(part['ratio'])}** | {TARGETS[name]}x | "
            f"{wall[0]} / {wall[1]} s | {slow[0]} | {slow[1]} | {part['tokens']:.1f} / {part['floor']:.1f} |"
        )
    lines += ["", "Largest difference of the scores, and the largest score:", ""]
    for name in TITLES:
        if name in sections:
            gap = sections[name]["difference"]
            tokens = "" if gap["tokens"] is None else f", of a single token {gap['tokens']:.1e}"
            lines.append(
                f"- `{name}`: {gap['answer']:.1e} of the answer{tokens}; largest score {gap['largest_score']:.3g}."
            )
    lines += [
        "",
        EXPLAINED,
    ]
    return "\n".join(lines)


def _modes(part: dict[str, Any]) -> str:
    times, log_prob = part["times"], part["log_prob"]
    titles = {
        "one_pass": "one pass",
        "by_token": "token by token, no cache",
        "default": "default: token by token, cache",
    }
    lines = [
        "## One evaluation in Captum's modes",
        "",
        "| mode | CPU s | wall s | fwd | log p(answer) | |",
        "|---|---|---|---|---|---|",
    ]
    forward = times["forward"]["cpu"]["median"]
    for name, title in titles.items():
        wrong = abs(log_prob[name] - part["ours"]) > 1e-3
        lines.append(
            f"| {title} | {_spread(times[name]['cpu'])} | {_spread(times[name]['wall'])} | "
            f"{times[name]['cpu']['median'] / forward:.1f} | {log_prob[name]:.4f} | "
            f"{'**wrong**' if wrong else 'right'} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"One plain forward pass without any cache gives {part['ours']:.4f}. Captum's default hands the whole text "
            "to the model again on top of the cache that already holds it, because transformers 5 no longer slices it; "
            "nothing warns.",
        ]
    )


def _gradients(part: dict[str, Any]) -> str:
    times = part["times"]
    longer = part["captum_whole"]["cpu"]["median"] * part["answer_steps"] / part["steps"]
    return f"""## Integrated gradients, at equal values

Gauss-Legendre points, from the `unk` token's embedding at every token of the user's text. Captum's time is that of \
{part["captum_tokens"]} answer tokens, scaled to all of them (it runs them one after another), and for the whole \
answer also from {part["steps"]} to {part["answer_steps"]} steps: both linear.

| target | steps | ours, CPU s | Captum, CPU s (scaled) | faster | target |
|---|---|---|---|---|---|
| every answer token (`Tokens`) | {part["steps"]} | {_spread(times["tokens"]["cpu"])} | \
{_spread(part["captum_whole"]["cpu"])} | **{_times(part["tokens_ratio"])}** | 2x |
| their sum (`Answer`) | {part["answer_steps"]} | {_spread(times["answer"]["cpu"])} | \
{longer:.0f} | **{_times(part["answer_ratio"])}** | 12x |

Largest difference to Captum over its {part["captum_tokens"]} tokens {part["difference"]:.1e}, between our sum of \
token maps and our answer map {part["sum_difference"]:.1e}; largest score {part["largest_score"]:.3g}."""


def _memory(part: dict[str, Any]) -> str:
    titles = {
        "occlusion": "`occlusion`",
        "kernel_shap": "`kernel_shap`, 50 coalitions",
        "shapley": "`permutation_shapley`, 4 orders",
        "captum_occlusion": "Captum FeatureAblation, one pass",
        "ig_tokens": "`integrated_gradients`, every answer token",
        "ig_answer": "`integrated_gradients`, the answer",
        "captum_ig": "Captum LayerIntegratedGradients, one answer token, 4 steps in one batch",
    }
    rows = [f"| {title} | {part[name] / 1e6:.0f} MB |" for name, title in titles.items() if name in part]
    return "\n".join(
        [
            "## Memory above the loaded model",
            "",
            "Peak resident memory, each in a fresh process after one forward pass. Targets: 100 MB for perturbation, "
            "1 GB for integrated gradients.",
            "",
            "| work | peak above the model |",
            "|---|---|",
            *rows,
        ]
    )


def _exact(part: dict[str, Any]) -> str:
    return f"""## Exact Shapley values, fields last

The demo's prompt (GBSG2, {part["prompt_tokens"]} tokens, {part["fields"]} fields at its end, a choice of two \
answers): all {part["evaluations"]} coalitions in {part["forward_equivalents"]:.0f} forward passes' worth of tokens, \
{part["times"]["cpu"]:.0f} CPU s ({part["times"]["wall"]:.0f} s wall); the prefix tree alone is {part["floor"]:.0f}. \
The values miss v(N) - v(empty) by {part["completeness_gap"]:.0e} of it."""


def _convergence(part: dict[str, Any]) -> str:
    lines = [
        "## Integrated gradients must converge",
        "",
        "The same prompt and answer, features its fields, target the whole answer, default baseline.",
        "",
        "| points on the path | gradient steps | f(x) - f(baseline) | missed by | fwd of tokens | `reliable` |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in part["runs"].items():
        lines.append(
            f"| {name} | {run['steps']} | {run['difference']:.2f} | {run['gap']:.1%} | "
            f"{run['forward_equivalents']:.0f} | {run['reliable']} |"
        )
    lines += ["", f"A result that misses more than {part['allowed']:.0%} is marked unreliable, with the reason."]
    return "\n".join(lines)


def _reading() -> str:
    return """## How to read it

- A ratio above the target is a pass. Ratios of CPU time vary by some ten per cent with what else the machine does.
- Fewer forward passes than the *floor* cannot give exact values for every coalition. What stands after the last field \
is computed anew for each coalition, so a prompt with its fields last has a much lower floor, if the model answers it \
as well.
- Equal values mean equal up to float32 rounding: other shapes of the same matrix products."""


def _spread(values: dict[str, Any]) -> str:
    digits = 2 if values["median"] < 10 else 1
    return f"{values['median']:.{digits}f} [{values['min']:.{digits}f}-{values['max']:.{digits}f}]"


def _times(values: dict[str, Any]) -> str:
    return f"{values['median']:.2f}x [{values['min']:.2f}-{values['max']:.2f}]"
