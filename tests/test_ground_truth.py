"""The ladder of ground truths, against oracles, SHAP and scikit-learn; and every method on it."""

import importlib.util
from dataclasses import replace
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from oracles.orders import shapley as shapley_by_orders
from peers import shap
from pellucid import Logit
from pellucid.benchmark import Verdict, ground_truth_page, judge, truth_table
from pellucid.benchmark.truth_page import cell
from pellucid.errors import InputError
from pellucid.games.table import all_coalitions, semivalue, shapley_weights
from pellucid.ground_truth import (
    RUNGS,
    all_truths,
    dividends,
    every_coalition,
    exact_shapley,
    from_sklearn,
    interventional_shapley,
    path_dependent_shapley,
    planted_model,
    shapley_interactions,
)
from pellucid.ground_truth.blackbox import path_integral, random_network
from pellucid.ground_truth.forest import BACKGROUND, INPUTS, forest
from pellucid.ground_truth.reasons import INSIDE
from pellucid.ground_truth.task import LENGTH, NEGATIVE, NEGATORS, POSITIVE, draw, vocabulary
from pellucid.ground_truth.trees import reached
from pellucid.methods import all_methods

ROOT = Path(__file__).parent.parent
TRUTHS = {truth.name: truth for truth in all_truths()}
SHAPLEY = ("exact_shapley", "kernel_shap", "permutation_shapley", "owen")
RELEVANCE = {name for name, kind in all_methods().items() if kind.facts.family == "relevance"}
TEXT_ONLY = {name for name, kind in all_methods().items() if "tabular" not in kind.facts.modalities}
PATHS = ("integrated_gradients", "path_integral", "expected_gradients")
ENUMERATED = [truth.name for truth in all_truths() if truth.rung in ("G0", "G1", "G2", "G3", "G4")]


@pytest.fixture(scope="module")
def verdicts():
    """Every verdict, by method and truth."""
    return {(each.method, each.truth): each for each in truth_table()}


# The truths themselves


@pytest.mark.parametrize("name", TRUTHS)
def test_a_truth_is_complete_in_itself(name):
    truth = TRUTHS[name]
    assert truth.rung in RUNGS
    assert truth.says
    assert truth.axiom
    assert truth.exposes
    assert truth.source
    assert set(truth.fails) <= set(all_methods())
    shape = (len(truth.raws), truth.answers.shape[1])
    for each in (truth.contributions, truth.path, truth.sensitivity, truth.rationale):
        assert each is None or each.shape == shape


def test_names_are_unique_and_every_rung_is_built():
    assert len(TRUTHS) == len(all_truths())
    assert {truth.rung for truth in all_truths()} == set(RUNGS)


def asked_plainly(truth, raw):
    """The truth's target for every coalition, by writing the mixed rows out and calling the network."""
    values = []
    for coalition in every_coalition(len(raw)):
        mixed = [
            [x if present else b for x, b, present in zip(raw, other, coalition, strict=True)]
            for other in truth.background
        ]
        encoded = torch.stack([truth.model.encode(each).row for each in mixed]).double()
        logits = truth.model.module(encoded)
        margin = logits[:, 0] - (logits[:, 1] if logits.shape[1] > 1 else 0)
        values.append(float(margin.mean()))
    return np.array(values)


@pytest.mark.parametrize("name", [name for name in ENUMERATED if name != "linear-20"])
def test_stated_contributions_are_the_mean_over_all_orders(name):
    truth = TRUTHS[name]
    for number, raw in enumerate(truth.raws):
        table = asked_plainly(truth, raw)
        worth = {
            frozenset(np.flatnonzero(s).tolist()): v for s, v in zip(every_coalition(len(raw)), table, strict=True)
        }
        assert truth.contributions[number] == pytest.approx(shapley_by_orders(worth, len(raw)), abs=1e-12)
        if number == 0 and truth.interactions is not None:
            assert shapley_interactions(lambda _, table=table: table, len(raw)) == pytest.approx(truth.interactions)


@pytest.mark.parametrize("name", [name for name in ENUMERATED if TRUTHS[name].differentiable])
def test_stated_path_integrals_are_those_of_many_small_steps(name):
    truth = TRUTHS[name]
    rows = np.array([truth.model.encode(raw).row.numpy() for raw in truth.raws], dtype=np.float64)
    base = truth.model.encode(truth.background[0]).row.double().numpy()
    shares = (np.arange(4000) + 0.5) / 4000
    expected = truth.contributions if truth.path is None else truth.path
    for row, known in zip(rows, expected, strict=True):
        given = torch.from_numpy(base + shares[:, None] * (row - base)).requires_grad_()
        logits = truth.model.module(given)
        target = logits[:, 0] - logits[:, 1] if logits.shape[1] > 1 else logits[:, 0]
        (gradients,) = torch.autograd.grad(target.sum(), given)
        assert (row - base) * gradients.mean(0).numpy() == pytest.approx(known, abs=2e-3)


def test_the_slope_of_a_linear_network_is_the_size_of_its_weight():
    truth = TRUTHS["linear"]
    assert truth.sensitivity == pytest.approx(np.abs([[2, -1, 0.5, 0, 3]] * 2))


# Exact Shapley values


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_shapley_is_the_mean_over_all_orders(players):
    table = np.random.default_rng(players).normal(size=1 << players)
    found = np.zeros(players)
    for order in permutations(range(players)):
        before = 0
        for player in order:
            found[player] += (table[before | 1 << player] - table[before]) / factorial(players)
            before |= 1 << player
    assert exact_shapley(lambda _: table, players) == pytest.approx(found, abs=1e-12)


def test_two_roads_to_the_shapley_value_meet_at_sixteen_players():
    table = np.random.default_rng(0).normal(size=1 << 16)
    other = semivalue(table[:, None], shapley_weights(16))[0]
    assert exact_shapley(lambda _: table, 16) == pytest.approx(other, abs=1e-9)
    assert np.array_equal(every_coalition(5), all_coalitions(5))


def test_dividends_are_the_alternating_sum():
    table = np.random.default_rng(1).normal(size=16)
    for s, earned in enumerate(dividends(table)):
        inside = [t for t in range(16) if t & s == t]
        plain = sum((-1) ** (s.bit_count() - t.bit_count()) * table[t] for t in inside)
        assert earned == pytest.approx(plain)


def test_interactions_are_the_weighted_second_differences():
    players, table = 4, np.random.default_rng(2).normal(size=16)
    plain = np.zeros((4, 4))
    for i, j in permutations(range(players), 2):
        for s in range(16):
            if not s & (1 << i | 1 << j):
                size = s.bit_count()
                weight = factorial(size) * factorial(players - size - 2) / factorial(players - 1)
                plain[i, j] += weight * (table[s | 1 << i | 1 << j] - table[s | 1 << i] - table[s | 1 << j] + table[s])
    assert shapley_interactions(lambda _: table, players) == pytest.approx(plain)


@pytest.mark.parametrize("players", [0, 17])
def test_too_many_players_are_refused(players):
    with pytest.raises(InputError, match=f"{players} players"):
        every_coalition(players)


# Trees


def fitted(kind, **options):
    generator = np.random.default_rng(5)
    x = generator.normal(size=(80, 5)).astype(np.float32)
    x[:, 1] += x[:, 0]
    y = x[:, 0] * (x[:, 1] > 0) + np.where(x[:, 2] > 0.5, 2.0, x[:, 3])
    return kind(random_state=0, **options).fit(x, y > 0 if kind is RandomForestClassifier else y), x


ESTIMATORS = [
    (DecisionTreeRegressor, {"max_depth": 4}),
    (RandomForestRegressor, {"n_estimators": 6, "max_depth": 3}),
    (RandomForestClassifier, {"n_estimators": 5, "max_depth": 3}),
]


@pytest.mark.parametrize(("kind", "options"), ESTIMATORS)
def test_trees_answer_what_scikit_learn_answers(kind, options):
    estimator, x = fitted(kind, **options)
    found = from_sklearn(estimator)(torch.from_numpy(x).double()).numpy()
    expected = estimator.predict_proba(x) if kind is RandomForestClassifier else estimator.predict(x)[:, None]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kind", "options"), ESTIMATORS)
@pytest.mark.parametrize("mode", ["interventional", "tree_path_dependent"])
def test_both_value_functions_are_those_of_tree_shap(kind, options, mode):
    estimator, x = fitted(kind, **options)
    ensemble, column = from_sklearn(estimator), int(kind is RandomForestClassifier)
    background = x[:12] if mode == "interventional" else None
    expected = shap.TreeExplainer(estimator, background, feature_perturbation=mode).shap_values(x[40:43])
    expected = expected[..., column] if expected.ndim == 3 else expected
    for row, known in zip(x[40:43].astype(np.float64), expected, strict=True):
        if background is None:
            found = path_dependent_shapley(ensemble, row, column)
        else:
            found = interventional_shapley(ensemble, row, background.astype(np.float64), column)
        assert found == pytest.approx(known, abs=1e-6)


def test_boosted_trees_and_other_things_are_refused():
    with pytest.raises(InputError, match="GradientBoostingRegressor is no fitted mean"):
        from_sklearn(fitted(GradientBoostingRegressor, n_estimators=3)[0])
    with pytest.raises(InputError, match="RandomForestRegressor is no fitted mean"):
        from_sklearn(RandomForestRegressor())


def test_the_covers_of_the_forest_count_its_background():
    for tree in forest().trees:
        counted = np.zeros(len(tree.left))
        for leaf in reached(tree, np.array(BACKGROUND)):
            counted[leaf] += 1
        for node in reversed(range(len(tree.left))):
            if tree.left[node] >= 0:
                counted[node] = counted[tree.left[node]] + counted[tree.right[node]]
        assert counted.tolist() == tree.cover.tolist()


def test_the_two_value_functions_differ_on_the_forest():
    truth = TRUTHS["forest"]
    for row, known in zip(INPUTS, truth.contributions, strict=True):
        other = path_dependent_shapley(forest(), np.array(row))
        # Both explain the same difference, for the covers are those of the background.
        assert other.sum() == pytest.approx(known.sum())
        assert np.abs(other - known).max() > 0.05 * np.abs(known).max()


# The planted task


def test_planted_sentences_keep_their_word():
    for seed in range(200):
        each = draw(np.random.default_rng(seed))
        assert len(each.words) == LENGTH
        marked = {word for word, planted in zip(each.words, each.rationale, strict=True) if planted}
        assert marked == {word for word in each.words if word in (*POSITIVE, *NEGATIVE, *NEGATORS)}
        total = 0
        for place, word in enumerate(each.words):
            if word in POSITIVE + NEGATIVE:
                sign = 1 if word in POSITIVE else -1
                total += -sign if place and each.words[place - 1] in NEGATORS else sign
        assert total
        assert each.label == ("positive" if total > 0 else "negative")


def test_the_planted_network_knows_its_task_and_nothing_else():
    model, generator = planted_model(), np.random.default_rng(9)
    drawn = [draw(generator) for _ in range(300)]
    inputs = [model.encode(" ".join(each.words)) for each in drawn]
    predicted = model.logits([each.row for each in inputs]).argmax(1).tolist()
    assert np.mean([model.labels[p] == each.label for p, each in zip(predicted, drawn, strict=True)]) > 0.99
    mask, start = vocabulary()["[MASK]"], inputs[0].row.ids[0]
    empty = model.logits([inputs[0].row._replace(ids=(start, *[mask] * LENGTH))]).softmax(1)[0, 1]
    assert 0.3 < float(empty) < 0.7


def test_the_planted_files_are_small():
    files = list((ROOT / "src/pellucid/ground_truth/planted").iterdir())
    assert {"README.md", "model.safetensors"} <= {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 300_000


# Every method on every truth


@pytest.mark.parametrize("method", SHAPLEY)
def test_shapley_methods_hit_every_truth(method, verdicts):
    for truth in TRUTHS.values():
        verdict = verdicts[method, truth.name]
        if truth.rationale is not None or verdict.outcome == "not applicable":
            continue
        assert verdict.quantity == "contributions", truth.name
        if truth.name in ENUMERATED or method == "exact_shapley":
            assert verdict.outcome == "exact", truth.name
            assert verdict.error <= truth.tolerance
        else:
            assert verdict.outcome == "sampled", truth.name
    assert [name for name in TRUTHS if verdicts["exact_shapley", name].outcome == "not applicable"] == ["linear-20"]


def test_integrated_gradients_are_exact_wherever_the_path_can_be(verdicts):
    names = [name for name in ENUMERATED if TRUTHS[name].differentiable]
    outcomes = {name: verdicts["integrated_gradients", name].outcome for name in names}
    assert outcomes == dict.fromkeys(names, "exact")
    for name in ("network", "planted-shapley"):
        verdict = verdicts["integrated_gradients", name]
        assert (verdict.outcome, verdict.quantity) == ("close", "path")


@pytest.mark.parametrize("method", [name for name, kind in all_methods().items() if kind.facts.complete])
def test_complete_methods_are_never_wrong_but_under_another_baseline(method, verdicts):
    """And DeepLIFT, which is complete by a rule and not by an integral, on the one network that is curved."""
    wrong = [name for name in TRUTHS if verdicts[method, name].outcome == "wrong"]
    known = {"expected_gradients": ["planted-shapley", "paired-words"], "deeplift": ["network"]}
    assert wrong == known.get(method, [])


def test_the_path_integral_is_taken_only_where_it_is_another_value(verdicts):
    by_path = {key for key, verdict in verdicts.items() if verdict.quantity == "path"}
    apart = [name for name, truth in TRUTHS.items() if truth.path is not None]
    tables = {("deeplift", name) for name in apart if TRUTHS[name].model.modality == "tabular"}
    assert by_path == {(method, name) for method in PATHS for name in apart} | tables


def test_every_linear_truth_is_hit_by_everything_but_penalised_fits(verdicts):
    for name in ("linear", "cancellation", "common-shift"):
        # Half of Banzhaf's value, which is the contribution here.
        assert verdicts["rise", name].error == pytest.approx(0.5)
        for method in set(all_methods()) - RELEVANCE - TEXT_ONLY - {"rise"}:
            expected = "close" if method in ("lime", "sparse_linear") else "exact"
            assert verdicts[method, name].outcome == expected, (method, name)


def test_relevance_without_a_stabiliser_is_the_contribution_where_the_network_is_linear(verdicts):
    for name in ("linear", "linear-20", "cancellation", "common-shift"):
        for method in ("lrp-0", "decompx"):
            assert verdicts[method, name].outcome == "exact", (method, name)
    for name in ("linear", "linear-20", "common-shift"):
        for method in ("lrp-epsilon", "cp-lrp", "attnlrp", "reslrp"):
            assert verdicts[method, name].outcome in ("exact", "close"), (method, name)
    # Two parts that cancel: nothing arrives where the output is 0 and is held off 0.
    assert verdicts["lrp-epsilon", "cancellation"].error == pytest.approx(1, abs=1e-6)


def test_relevance_finds_planted_words_and_says_where_it_cannot_go(verdicts):
    for method in RELEVANCE:
        assert verdicts[method, "planted-rationale"].outcome in ("exact", "close"), method
        assert verdicts[method, "forest"].reason == "the network has no gradient"
        idle = [name for name in TRUTHS if verdicts[method, name].outcome == "not applicable" and name != "forest"]
        for name in idle:
            assert verdicts[method, name].reason == "there is no rule for 'prod'", (method, name)
        missed = [verdicts[method, name] for name in TRUTHS if verdicts[method, name].outcome == "wrong"]
        assert {each.reason for each in missed} == {INSIDE}


@pytest.mark.parametrize("name", [name for name, truth in TRUTHS.items() if truth.fails])
def test_what_a_truth_exposes_does_fail_on_it(name, verdicts):
    truth = TRUTHS[name]
    for method, reason in truth.fails.items():
        verdict = verdicts[method, name]
        assert verdict.reason == reason
        assert verdict.outcome == "wrong" or verdict.quantity == "path", method


def test_nothing_is_wrong_without_a_known_reason(verdicts):
    assert [key for key, verdict in verdicts.items() if verdict.unexpected] == []


def test_a_logit_shows_what_the_margin_hides():
    truth = TRUTHS["common-shift"]
    assert judge("exact_shapley", replace(truth, target=Logit("f"))).outcome == "wrong"
    assert judge("exact_shapley", truth).outcome == "exact"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("or", {"contributions": np.array([[1.0, 0.0]])}),
        ("linear", {"contributions": -TRUTHS["linear"].contributions}),
        ("forest", {"contributions": np.stack([path_dependent_shapley(forest(), np.array(row)) for row in INPUTS])}),
        ("network", {"contributions": TRUTHS["network"].contributions[::-1]}),
    ],
)
@pytest.mark.parametrize("method", ["exact_shapley", "kernel_shap", "permutation_shapley"])
def test_a_false_truth_is_not_hit(method, name, change):
    verdict = judge(method, replace(TRUTHS[name], **change))
    assert verdict.outcome == "wrong"
    assert verdict.unexpected


def test_a_rationale_turned_around_is_not_found():
    truth = TRUTHS["planted-rationale"]
    verdict = judge("lime", replace(truth, rationale=~truth.rationale))
    assert verdict.outcome == "wrong"
    assert verdict.auprc < 0.7


def test_sampling_errors_too_wide_to_tell_are_no_agreement():
    truth = replace(TRUTHS["network"], settings={"banzhaf": {"samples": 6}})
    assert judge("banzhaf", truth).outcome == "wrong"


def test_trees_have_no_gradient_and_one_baseline_is_not_eight_rows(verdicts):
    idle = {method for method in all_methods() if verdicts[method, "forest"].outcome == "not applicable"}
    gradient = {name for name, kind in all_methods().items() if "gradient" in kind.facts.needs}
    assert idle == gradient | TEXT_ONLY | {"path_integral"}
    assert not gradient & {"path_integral"}


def test_the_random_network_is_smooth_enough_for_its_path():
    truth, module = TRUTHS["network"], random_network().requires_grad_(False)
    half = path_integral(module, np.array(truth.raws[0]), np.zeros(10), points=128)
    assert half == pytest.approx(truth.path[0], abs=1e-12)
    gain = float(module(torch.tensor([truth.raws[0]]).double()) - module(torch.zeros(1, 10).double()))
    assert truth.path[0].sum() == pytest.approx(gain)
    assert truth.contributions[0].sum() == pytest.approx(gain)


def test_rows_are_counted(verdicts):
    assert verdicts["exact_shapley", "network"].rows == 1024
    assert verdicts["occlusion", "network"].rows == 12


# The page


def script():
    spec = importlib.util.spec_from_file_location("write_ground_truth", ROOT / "scripts" / "write_ground_truth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh(verdicts):
    text = ground_truth_page(all_truths(), list(verdicts.values()))
    assert script().PAGE.read_text("utf-8") == text


def test_every_method_has_its_row_and_every_truth_its_column(verdicts):
    lines = script().PAGE.read_text("utf-8").splitlines()
    (header,) = [line for line in lines if line.startswith("| method | rows |")]
    assert header.count("|") == len(TRUTHS) + 3
    for method in all_methods():
        (row,) = [line for line in lines if line.startswith(f"| `{method}` |")]
        assert row.count("|") == header.count("|")
    for name, truth in TRUTHS.items():
        assert f"{truth.rung} {name} |" in header


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict("m", "t", "exact", "contributions", "", error=1e-9), "="),
        (Verdict("m", "t", "exact", "path", "", error=1e-9), "=p"),
        (Verdict("m", "t", "sampled", "contributions", "", error=0.0312), "± 3.1%"),
        (Verdict("m", "t", "wrong", "sensitivity", "why", error=2.0), "✗ 200%"),
        (Verdict("m", "t", "close", "rationale", "", auprc=0.914), "≈ 0.91"),
        (Verdict("m", "t", "not applicable", "nothing", "why"), "-"),
    ],
)
def test_a_cell_says_what_was_found(verdict, text):
    assert cell(verdict) == text
