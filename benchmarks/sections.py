"""What is measured: one function a section. Each takes the setting and whether to be quick, and returns plain data."""

import csv
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np

import peers
import pellucid
from measure import interleaved, memory_above, ratio, scaled, timed
from pellucid.api import Asked
from pellucid.evidence import COMPLETENESS_GAP
from pellucid.models import Meter
from setting import ANSWER, Setting, tree_floor

ROUNDS = 3
Section = Callable[[Setting, bool], dict[str, Any]]


def occlusion(setting: Setting, quick: bool) -> dict[str, Any]:
    """``explain(method="occlusion")`` with its free checks beside FeatureAblation."""

    def ours() -> peers.Attributed:
        found = pellucid.explain(
            setting.model, setting.prompt, method="occlusion", features="field", target=pellucid.Tokens(ANSWER)
        )
        return peers.Attributed(found.values.sum(0), found.values)

    return _perturbation(setting, "occlusion", ours, 1 if quick else ROUNDS, {})


def ablation(setting: Setting, quick: bool) -> dict[str, Any]:
    """Captum's FeatureAblation over our game beside Captum's own: the same evaluations, no checks."""
    return _replayed(setting, "occlusion", 1 if quick else ROUNDS, {})


def kernel_shap(setting: Setting, quick: bool) -> dict[str, Any]:
    """Captum's KernelShap over our game beside Captum's own."""
    return _replayed(setting, "kernel_shap", 1 if quick else ROUNDS, {"n_samples": 14 if quick else 40})


def shapley(setting: Setting, quick: bool) -> dict[str, Any]:
    """Captum's ShapleyValueSampling over our game beside Captum's own."""
    return _replayed(setting, "shapley", 1 if quick else ROUNDS, {"n_samples": 1 if quick else 5})


def _replayed(setting: Setting, name: str, rounds: int, settings: dict[str, int]) -> dict[str, Any]:
    def score(coalitions: np.ndarray) -> np.ndarray:
        asked = Asked.of(setting.model, setting.prompt, features="field", target=pellucid.Tokens(ANSWER))
        return asked.question.game.value(coalitions)

    return _perturbation(setting, name, lambda: peers.replayed(setting, name, score, **settings), rounds, settings)


def _perturbation(
    setting: Setting, name: str, ours: Callable[[], peers.Attributed], rounds: int, settings: dict[str, int]
) -> dict[str, Any]:
    asked = Asked.of(setting.model, setting.prompt, features="field", target=pellucid.Tokens(ANSWER))
    coalitions = peers.coalitions(setting, name, **settings)
    distinct = np.unique(coalitions, axis=0)
    before = setting.model.meter.snapshot()
    ours()
    spent: Meter = setting.model.meter - before
    times, results = interleaved(
        {
            "forward": setting.forward,
            "ours": ours,
            "captum": lambda: peers.captum(setting, name, peers.ONE_PASS, **settings),
        },
        rounds,
    )
    return {
        "settings": settings,
        "evaluations": len(coalitions),
        "distinct": len(distinct),
        "floor": tree_floor(asked.question.game.imputer.rows(distinct), setting.answer) / setting.length,
        "tokens": setting.in_forwards(spent),
        "times": times,
        "ratio": ratio(times["captum"], times["ours"]),
        "wall_ratio": ratio(times["captum"], times["ours"], "wall"),
        "difference": results["ours"].difference(results["captum"]),
    }


def captum_modes(setting: Setting, quick: bool) -> dict[str, Any]:
    """Cost of one evaluation in each of Captum's modes, and the log-probability of the answer that it computes."""
    modes = {"one_pass": peers.ONE_PASS, "by_token": peers.BY_TOKEN, "default": peers.DEFAULT}
    works = {name: (lambda mode=mode: peers.log_prob(setting, mode)) for name, mode in modes.items()}
    times, results = interleaved({"forward": setting.forward, **works}, 1 if quick else 2)
    bound = setting.model.bind(pellucid.Answer(ANSWER), setting.inputs)
    plain = bound.target.score(setting.model.alternatives([setting.inputs.row], bound))
    return {"times": times, "log_prob": {name: results[name] for name in modes}, "ours": float(plain[0, 0])}


def integrated_gradients(setting: Setting, quick: bool) -> dict[str, Any]:
    """Fixed Gauss-Legendre steps: each answer token, and the answer as a whole."""
    tokens, steps, answer_steps = (2, 2, 4) if quick else (2, 2, 10)
    whole = len(setting.answer)

    def ours(target: pellucid.Target, number: int) -> np.ndarray:
        return pellucid.explain(
            setting.model,
            setting.prompt,
            method="integrated_gradients",
            features="token",
            baseline="unk",
            steps=number,
            target=target,
        ).values

    works: dict[str, Callable[[], Any]] = {
        "forward": setting.forward,
        "captum": lambda: peers.integrated_gradients(setting, steps, tokens, None),
        "tokens": lambda: ours(pellucid.Tokens(ANSWER), steps),
        "answer": lambda: ours(pellucid.Answer(ANSWER), answer_steps),
    }
    times, results = interleaved(works, 1 if quick else ROUNDS)
    captum = scaled(times["captum"], whole / tokens)
    both = {"tokens": results["tokens"], "answer": ours(pellucid.Answer(ANSWER), steps)[0]}
    theirs = results["captum"].tokens
    return {
        "steps": steps,
        "answer_steps": answer_steps,
        "captum_tokens": tokens,
        "times": times,
        "captum_whole": captum,
        "tokens_ratio": ratio(captum, times["tokens"]),
        "answer_ratio": ratio(scaled(captum, answer_steps / steps), times["answer"]),
        "difference": float(np.abs(theirs - both["tokens"][:tokens]).max()),
        "sum_difference": float(np.abs(both["tokens"].sum(0) - both["answer"]).max()),
        "largest_score": float(np.abs(both["tokens"]).max()),
    }


def memory(setting: Setting, quick: bool) -> dict[str, Any]:
    """Peak resident memory above the loaded and warmed model, each in a fresh process."""
    names = ["occlusion", "kernel_shap", "shapley", "captum_occlusion", "ig_tokens", "ig_answer", "captum_ig"]
    return {name: memory_above(name) for name in (names[:1] if quick else names)}


def exact_shapley(setting: Setting, quick: bool) -> dict[str, Any]:
    """All coalitions of the demo's prompt, whose ten fields stand last."""
    folder = files("pellucid.audit") / "gbsg2"
    template = pellucid.Template((folder / "template.txt").read_text().strip())
    case = next(csv.DictReader((folder / "cases.csv").read_text().splitlines()))
    prompt = template(**{name: case[name] for name in template.fields})
    if quick:
        prompt = pellucid.Prompt(prompt.text, prompt.fields[-4:])
    target = pellucid.Choice(["Yes", "No"])
    asked = Asked.of(setting.model, prompt, target=target)
    before = setting.model.meter.snapshot()
    taken, found = timed(lambda: pellucid.explain(setting.model, prompt, method="exact_shapley", target=target))
    spent = setting.model.meter - before
    coalitions = (np.arange(2 ** len(prompt.fields))[:, None] >> np.arange(len(prompt.fields)) & 1).astype(bool)
    rows = asked.question.game.imputer.rows(coalitions)
    length = len(asked.question.inputs.row.ids)
    return {
        "fields": len(prompt.fields),
        "prompt_tokens": length,
        "evaluations": len(coalitions),
        "forward_equivalents": spent.tokens / length,
        "floor": tree_floor(rows, ()) / length,
        "times": taken,
        "completeness_gap": _value(found, "completeness"),
    }


def convergence(setting: Setting, quick: bool) -> dict[str, Any]:
    """How far integrated gradients miss f(x) - f(baseline): uniform steps beside adaptive ones."""
    found = {}
    for kind in ("field",):
        for name, options in _rules(quick).items():
            before = setting.model.meter.snapshot()
            explained = pellucid.explain(
                setting.model,
                setting.prompt,
                method="integrated_gradients",
                features=kind,
                target=pellucid.Answer(ANSWER),
                **options,
            )
            found[f"{kind}, {name}"] = {
                "steps": explained.settings["steps_used"],
                "gap": _value(explained, "completeness"),
                "difference": float((explained.full_values - explained.base_values)[0]),
                "forward_equivalents": setting.in_forwards(setting.model.meter - before),
                "reliable": explained.reliable,
            }
    return {"allowed": COMPLETENESS_GAP, "runs": found}


def _rules(quick: bool) -> dict[str, dict[str, Any]]:
    if quick:
        return {"2 uniform": {"steps": 2, "quadrature": "midpoint"}}
    uniform = {"steps": 20, "quadrature": "midpoint"}
    return {"uniform (midpoint)": uniform, "Gauss-Legendre": {"steps": 20}, "adaptive": {"max_steps": 64}}


def _value(explained: pellucid.Explanation, check: str) -> float:
    return next(item.value for item in explained.checks.items if item.name == check)


SECTIONS: dict[str, Section] = {
    "occlusion": occlusion,
    "ablation": ablation,
    "kernel_shap": kernel_shap,
    "shapley": shapley,
    "captum_modes": captum_modes,
    "integrated_gradients": integrated_gradients,
    "memory": memory,
    "exact_shapley": exact_shapley,
    "convergence": convergence,
}
