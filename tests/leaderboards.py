"""Boards made of numbers that are drawn, for tests and for looking at a page; no model and no run behind them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from pellucid.report.leaderboard import (
    Board,
    CurvePoint,
    Disagreement,
    Failed,
    FamilyRanks,
    MetricTable,
    Price,
    RankDiagram,
    Standing,
    TauMatrix,
)

_METHODS = """
exact_shapley kernel_shap permutation_shapley occlusion lime integrated_gradients expected_gradients gradient_shap
smooth_gradient gradient gradient_norm input_x_gradient deeplift lrp_epsilon attnlrp cp_lrp res_lrp libra_grad
dlbacktrace attention_rollout raw_attention attention_x_gradient chefer grad_cam grad_cam_plus_plus layer_cam
guided_backprop rise
"""
_PEERS = """
captum:feature_ablation captum:shapley_value_sampling captum:kernel_shap captum:lime captum:integrated_gradients
captum:saliency captum:input_x_gradient captum:gradient_shap captum:deep_lift
shap:kernel shap:permutation shap:partition shap:gradient lime:text
"""
_SENTENCE = "a quiet , warm and very funny film that never once loses its way"
METHODS, PEERS, WORDS = _METHODS.split(), _PEERS.split(), tuple(_SENTENCE.split())
REFERENCES = ("oracle", "constant", "random", "inverted random", "inverted oracle")
METRICS = (
    ("removal", "srg", "Symmetric relevance gain", "mask, word, log-odds"),
    ("removal", "srg", "Symmetric relevance gain", "delete, word, log-odds"),
    ("removal", "comprehensiveness", "Comprehensiveness", "mask, word, probability"),
    ("removal", "sufficiency", "Sufficiency", "mask, word, probability"),
    ("removal", "naopc", "Normalised AOPC", "mask, word, log-odds"),
    ("removal", "soft_nc", "Soft normalised comprehensiveness", "zero, word, probability"),
    ("correlation", "faithfulness_correlation", "Faithfulness correlation", "mask, word, log-odds"),
    ("correlation", "infidelity", "Infidelity", "mask, word, log-odds"),
    ("correlation", "monotonicity", "Monotonicity", "mask, word, log-odds"),
    ("randomisation", "mprt", "Model parameter randomisation test", "word"),
    ("robustness", "max_sensitivity", "Maximal sensitivity", "0.1, word"),
    ("plausibility", "auprc", "Area under precision and recall", "word"),
    ("plausibility", "pointing_game", "Pointing game", "word"),
    ("complexity", "sparseness", "Sparseness", "word"),
    ("axioms", "completeness", "Completeness", "word"),
)
LOWER = {"sufficiency", "infidelity", "max_sensitivity", "mprt"}


def _skills(entrants, rng):
    """How good each entrant is: the first methods well, references where they belong."""
    fixed = {"oracle": 1.0, "constant": 0.05, "random": 0.0, "inverted random": 0.0, "inverted oracle": -1.0}
    return np.array([fixed.get(name, rng.uniform(0.1, 0.95)) for name in entrants])


def table(metric, methods, peers, inputs, rng):
    """One metric: means of drawn scores, percentile intervals of their means."""
    family, name, title, bracket = metric
    entrants = [*methods, *peers, *REFERENCES]
    skills = _skills(entrants, rng)
    sign = -1.0 if name in LOWER else 1.0
    scores = sign * (skills[:, None] + rng.normal(scale=0.6, size=(len(entrants), inputs))) * rng.uniform(0.3, 3)
    means, errors = scores.mean(1), scores.std(1) / inputs**0.5
    ranked = len(methods) + len(peers)
    order = np.argsort(-sign * means[:ranked])
    best, control = order[0], name == "sparseness"
    chance, ceiling = means[entrants.index("random")], means[entrants.index("oracle")]
    standings = []
    for place, index in enumerate([*order, *range(ranked, len(entrants))]):
        gap = scores[index] - scores[best]
        kind = "reference" if index >= ranked else "peer" if index >= len(methods) else "method"
        told = kind != "reference" and index != best and not control
        spread = 1.96 * gap.std() / inputs**0.5
        standings.append(
            Standing(
                entrant=entrants[index],
                kind=kind,
                family="" if kind == "reference" else ("perturbation", "gradient", "relevance")[index % 3],
                mean=float(means[index]),
                low=float(means[index] - 1.96 * errors[index]),
                high=float(means[index] + 1.96 * errors[index]),
                normalised=None if control else float((means[index] - chance) / (ceiling - chance)),
                rank=None if kind == "reference" or control else float(place + 1),
                difference=(float(gap.mean()), float(gap.mean() - spread), float(gap.mean() + spread))
                if told
                else None,
                p_value=float(min(1.0, 2 * np.exp(-abs(gap.mean()) / (spread / 3)))) if told else None,
                win_rate=float((sign * gap > 0).mean()) if told else None,
                seeds=0.012 if index % 4 == 1 else None,
                undefined=2 if index == 3 else 0,
            )
        )
    return MetricTable(
        name=f"{name} [{bracket}]",
        metric=name,
        title=title,
        family=family,
        higher_is_better=None if control else name not in LOWER,
        chance="0" if family == "removal" else "the prevalence of the rationale",
        source="after a paper, eq. 5",
        standings=tuple(standings),
        valid=True,
        findings=(("oracle above random", True, "p 0.0001"),),
        inputs=inputs,
        clusters=inputs,
        same_imputer=(methods[0],) if "mask" in bracket else (),
    )


def board(methods=6, peers=3, metrics=7, inputs=120, seed=0):
    """A board with every part."""
    rng = np.random.default_rng(seed)
    names, others = METHODS[:methods], PEERS[:peers]
    tables = [table(metric, names, others, inputs, rng) for metric in METRICS[:metrics]]
    tables[-1] = replace(
        tables[-1],
        valid=False,
        standings=(),
        findings=(("oracle above random", True, "p 0.0001"), ("random centred", False, "mean 0.3, limit 0.1")),
    )
    return Board(
        task="sst2",
        title="Film reviews, one sentence each",
        model="minilm-sst2",
        target="log-odds of the predicted class",
        features="word",
        inputs=inputs,
        clusters=inputs,
        enough=inputs >= 100,
        tables=tuple(tables),
        prices=tuple(_price(name, index) for index, name in enumerate([*names, *others])),
        families=tuple(_families([each for each in tables if each.valid and each.higher_is_better is not None])),
        diagram=_diagram(tables[0], inputs),
        tau=_tau(tables[:-1], rng),
        curves=tuple(_curves(("kernel_shap", "lime", "rise", *PEERS[1:3], "shap:kernel", "shap:permutation"), rng)),
        curve_metric=tables[0].name,
        disagreements=(_words(tables, rng), _patches(tables, rng)),
        failures=(
            Failed("attention_rollout", 3, inputs, True, "the attention of layer 2 was not returned."),
            Failed("shap:partition", 60, inputs, False, "the partition tree needs 2 features, and the input has 1."),
        ),
        absent=(("lime:image", "reads pictures, and the task has texts."), ("tree_shap", "the model is not of trees.")),
        provenance=(("pellucid", "0.9.0"), ("weights", "ab" * 32), ("seeds", "0, 1, 2"), ("imputers", "mask, delete")),
        notes=() if inputs >= 100 else (f"Not enough for a claim: {inputs} independent inputs, 100 are needed.",),
    )


def _price(name, index):
    sampled, shared = index % 4 == 1, index % 3 == 0
    return Price(
        entrant=name,
        kind="peer" if ":" in name else "method",
        rows=2048.0 if sampled else 1.0 + 13 * (index % 5),
        backwards=0.0 if sampled else float(32 * (index % 2)),
        seconds=0.013 * (index + 1),
        memory_bytes=None if shared else 3.1e7 * (index + 1),
        settings="samples=2048" if sampled else "",
        tuned=sampled,
    )


def _families(tables):
    for family in dict.fromkeys(table.family for table in tables):
        mine = [table for table in tables if table.family == family]
        ranks = {each.entrant: [] for each in mine[0].standings if each.rank is not None}
        for table in mine:
            for each in table.standings:
                if each.rank is not None:
                    ranks[each.entrant].append(each.rank)
        middle = sorted(((name, float(np.median(found))) for name, found in ranks.items()), key=lambda each: each[1])
        yield FamilyRanks(family, tuple(table.name for table in mine), tuple(middle))


def _diagram(table, inputs):
    ranks = [
        (each.entrant, 1 + 0.8 * index) for index, each in enumerate(each for each in table.standings if each.rank)
    ]
    groups = [tuple(name for name, rank in ranks if start <= rank < start + 2.9) for _, start in ranks]
    maximal = [groups[0], *(after for before, after in pairwise(groups) if not set(after) <= set(before))]
    return RankDiagram(table.name, tuple(ranks), 2.9, inputs, 3e-9, tuple(maximal))


def _tau(tables, rng):
    found = np.atleast_2d(np.corrcoef(rng.normal(size=(len(tables), 6))))
    values = [[float(value) for value in row] for row in found]
    if len(tables) > 1:
        values[0][1] = values[1][0] = None
    return TauMatrix(tuple(table.name for table in tables), tuple(tuple(row) for row in values))


def _curves(names, rng):
    for name in names:
        start = rng.uniform(0.1, 0.6)
        for step, rows in enumerate((32, 128, 512, 2048)):
            score = start + 0.15 * step**0.7
            yield CurvePoint(name, float(rows), score, score - 0.09, score + 0.09)


def _words(tables, rng):
    first, second = tables[0], tables[min(1, len(tables) - 2)]
    values = rng.uniform(-1, 1, size=(2, len(WORDS))).tolist()
    return Disagreement(
        "sst2-7", " ".join(WORDS), first.name, second.name, first.standings[0].entrant, second.standings[0].entrant,
        WORDS, tuple(values[0]), tuple(values[1]),
    )  # fmt: skip


def _patches(tables, rng):
    labels = tuple(f"{row},{column}" for row in range(7) for column in range(7))
    values = rng.uniform(-1, 1, size=(2, 49)).tolist()
    return replace(
        _words(tables, rng), case="picture-3", text="an ankle boot", features=labels,
        first_values=tuple(values[0]), second_values=tuple(values[1]),
    )  # fmt: skip
