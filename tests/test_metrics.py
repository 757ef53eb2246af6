"""Scoring many attributions at once, holding two against each other, and what is refused before the model is asked."""

import math

import numpy as np
import pytest
import torch

from oracles import metrics_end_to_end as oracle
from pellucid import explain, metrics
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.methods import make_method
from pellucid.metrics import (
    Aopc,
    Auroc,
    Complexity,
    Comprehensiveness,
    Dummy,
    Example,
    FaithfulnessCorrelation,
    Insertion,
    Morf,
    Mprt,
    Naopc,
    Scores,
    Srg,
    compare,
    evaluate,
    explaining,
    statistics,
)
from pellucid.targets import Logit, Margin, Token

ROWS = [
    {"age": 61, "grade": "III", "nodes": 9, "size": 14},
    {"age": 40, "grade": "I", "nodes": 0, "size": 33},
    {"age": 55, "grade": "II", "nodes": 2, "size": 21},
]
SHARED = [Morf(steps=4), Srg(steps=3), Comprehensiveness(), Insertion(steps=2)]


def drawn(count, players, seed=0):
    return list(np.random.default_rng(seed).normal(size=(count, players)))


def table_scores(metric, seed=0, **options):
    return evaluate(
        oracle.table().model, ROWS, {"mine": drawn(3, 4, seed)}, [metric], target=Margin("high"), **options
    )[0]


# One game for all


def coalitions_by_hand(values, players):
    """What the four metrics above ask about, from their definitions."""
    order = oracle.most_first(values)
    down = [order[size:] for size in oracle.grid(players, 4)]
    both = [each[size:] for each in (order, order[::-1]) for size in oracle.grid(players, 3)]
    bins = [order[math.ceil(round(share * players, 6)) :] for share in (0.01, 0.05, 0.1, 0.2, 0.5)]
    up = [order[:size] for size in oracle.grid(players, 2)]
    return {frozenset(each) for each in [*down, *both, *bins, order, *up]}


@pytest.mark.parametrize("name", ["bert mask", "picture", "table"])
def test_all_metrics_and_attributions_share_one_game_in_full_batches(name):
    case = oracle.CASES[name]()
    given = {"mine": drawn(1, case.players), "other": drawn(1, case.players, 1)}
    before, calls = case.model.meter.snapshot(), []
    hook = case.model.module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    found = evaluate(case.model, [case.raw], given, SHARED, **case.options)
    hook.remove()
    spent = case.model.meter - before
    by_hand = [coalitions_by_hand(values[0], case.players) for values in given.values()]
    assert spent.rows == sum(calls) == len(set.union(*by_hand))
    assert spent.forwards == len(calls) == 1
    assert [(each.metric.split()[0], each.of) for each in found] == [
        (metric.facts.name, of) for metric in SHARED for of in given
    ]


def test_scores_are_those_of_single_calls():
    model = oracle.table().model
    given = {"mine": drawn(3, 4), "other": drawn(3, 4, 1)}
    chosen = [*SHARED, FaithfulnessCorrelation(subsets=20), Aopc(), Dummy(), Auroc(), Mprt(), Complexity()]
    marks = [[True, False, False, True]] * 3
    method = make_method("input_x_gradient")
    methods = dict.fromkeys(given, explaining(method))
    found = evaluate(
        model, ROWS, given, chosen, target=Margin("high"), seed=5, rationales=np.array(marks), methods=methods
    )
    assert len(found) == 2 * len(chosen)
    for scores in found:
        metric = chosen[[each.facts for each in chosen].index(scores.facts)]
        settings = metric.model_dump(exclude_defaults=True)
        call = getattr(metrics, scores.facts.name)
        extra = {"target": Margin("high"), "method": method, **settings}
        single = [
            float(call(model, row, values, seed=5 + number, rationale=marks[number], **extra))
            for number, (row, values) in enumerate(zip(ROWS, given[scores.of], strict=True))
        ]
        torch.testing.assert_close(scores.values, torch.tensor(single).double(), equal_nan=True, rtol=1e-5, atol=1e-7)
        together = call(model, ROWS, given[scores.of], seed=5, rationale=marks, **extra)
        torch.testing.assert_close(scores.values, together, equal_nan=True, rtol=1e-5, atol=1e-7)


def test_what_a_score_asks_for_is_counted_whoever_shares_it():
    case = oracle.table()
    twice = evaluate(case.model, ROWS, {"mine": drawn(3, 4), "again": drawn(3, 4)}, SHARED, target=Margin("high"))
    single = [table_scores(metric) for metric in SHARED]
    # Four features: 5 points down; twice 4 points with both ends in common; the whole and 2 bins; 3 points up.
    assert [each.rows for each in single] == [3 * 5, 3 * 6, 3 * 3, 3 * 3]
    assert [each.rows for each in twice[::2]] == [each.rows for each in twice[1::2]] == [each.rows for each in single]
    assert table_scores(Complexity()).rows == 0
    assert table_scores(Aopc()).rows == 3 * 5


def test_names_say_what_a_score_depends_on():
    text, picture, table = oracle.text("bert", "mask"), oracle.picture(), oracle.table()

    def name(case, metric, **changed):
        return evaluate(case.model, [case.raw], {"": drawn(1, case.players)}, [metric], **{**case.options, **changed})[
            0
        ].metric

    assert name(text, Srg()) == "srg [mask, word, log-odds]"
    assert name(text, Srg(), imputer="pad") == "srg [pad, word, log-odds]"
    assert name(text, Srg(), imputer=None) == "srg [mask, word, log-odds]"
    assert name(picture, Srg(), target=Token("low")) == "srg [mean, patch, log-probability]"
    assert name(table, Srg(), target=Logit("low"), imputer="median") == "srg [median, column, logit]"
    assert name(table, Comprehensiveness()) == "comprehensiveness [mean, column, probability]"
    assert name(table, Srg(steps=7, sign="absolute")) == "srg [mean, column, log-odds, sign=absolute, steps=7]"
    assert name(table, metrics.Infidelity()) == "infidelity [graded to mean, column, log-odds]"
    assert name(table, Complexity()) == "complexity [column]"


def test_every_background_draw_is_counted():
    scores = table_scores(Morf(), imputer="marginal", background=ROWS[1:])
    assert scores.metric == "morf [marginal, column, log-odds]"
    assert scores.rows == 3 * 5 * 2


# Explanations as values


def test_an_explanation_says_what_is_asked():
    case = oracle.text("bert", "mask")
    explanation = explain(case.model, case.raw, method="occlusion", target=Token("low"), features="word", checks="none")
    own = evaluate(case.model, [case.raw], {"": [explanation]}, [Srg()])[0]
    assert own.metric == "srg [mask, word, log-probability]"
    plain = metrics.srg(case.model, case.raw, explanation.values[0], target=Token("low"), features="word")
    torch.testing.assert_close(own.values, plain)
    torch.testing.assert_close(metrics.srg(case.model, case.raw, explanation), plain)
    before = case.model.meter.snapshot()
    with pytest.raises(InputError, match=r"explains 'low' as Token, and 'high' as Token is asked about"):
        metrics.srg(case.model, case.raw, explanation, target=Token("high"))
    with pytest.raises(InputError, match=r"explains 'low' as Token, and 'low' as Logit is asked about"):
        metrics.srg(case.model, case.raw, explanation, target=Logit("low"))
    assert case.model.meter == before


def test_two_explanations_of_different_targets_are_not_scored_together():
    case = oracle.table()
    low, high = (
        explain(case.model, case.raw, method="occlusion", target=Margin(label), checks="none")
        for label in ("low", "high")
    )
    with pytest.raises(InputError, match=r"'second' explains 'high' as Margin, and 'low'"):
        evaluate(case.model, [case.raw], {"first": [low], "second": [high]}, [Srg()])


# Comparing


def scores(values, metric="srg [mask]", model="m (1)", metric_class=Srg, compares_models=True):
    values = torch.tensor(values, dtype=torch.float64)
    return Scores(metric, "mine", values, metric_class.facts, model, 0, compares_models)


def test_a_comparison_is_what_the_statistics_say():
    one = np.random.default_rng(0).normal(size=12)
    other = np.random.default_rng(1).normal(size=12) - 0.5
    clusters = [number // 2 for number in range(12)]
    found = compare(scores(one), scores(other), clusters, seed=4)
    assert found.difference == statistics.paired_difference(one, other, clusters, seed=4)
    assert found.test == statistics.wilcoxon(one, other)
    assert found.win_rate == statistics.win_rate(one, other) == np.mean(one > other)
    assert found.left_out == 0
    low_is_good = compare(scores(one, metric_class=Morf), scores(other, metric_class=Morf))
    assert low_is_good.win_rate == np.mean(one < other)
    assert low_is_good.difference.mean == pytest.approx(np.mean(one - other))


def test_undefined_examples_are_left_out_of_both():
    one, other = [1.0, math.nan, 3.0, 4.0, 9.0], [0.0, 5.0, math.nan, 5.0, 2.0]
    clusters = ["a", "b", "c", "d", "e"]
    found = compare(scores(one), scores(other), clusters)
    kept = np.array([1.0, 4.0, 9.0]), np.array([0.0, 5.0, 2.0])
    assert found.left_out == 2
    assert found.difference == statistics.paired_difference(*kept, ["a", "d", "e"])
    assert found.win_rate == pytest.approx(2 / 3)


def test_an_interval_is_that_of_the_defined_scores():
    values = [1.0, math.nan, 3.0, 4.0, math.nan, 2.0]
    kept, labels = np.array([1.0, 3.0, 4.0, 2.0]), [0, 1, 2, 2]
    assert scores(values).interval(level=0.9, seed=3) == statistics.bootstrap(kept, level=0.9, seed=3)
    clustered = scores(values).interval([0, 0, 1, 2, 2, 2], seed=3)
    assert clustered == statistics.bootstrap(kept, labels, seed=3)
    assert clustered.mean == pytest.approx(2.5)


def test_what_does_not_compare_is_refused():
    with pytest.raises(InputError, match=r"'srg \[mask\]' and 'srg \[pad\]' are different metrics"):
        compare(scores([1.0]), scores([1.0], "srg [pad]"))
    with pytest.raises(InputError, match="there are 2 and 3 scores; give the same examples"):
        compare(scores([1.0, 2.0]), scores([1.0, 2.0, 3.0]))


def test_removal_scores_compare_across_models_only_between_their_limits():
    one, other = oracle.table(), oracle.Tabular(
        oracle.network(lambda: torch.nn.Linear(6, 3), seed=1), oracle.COLUMNS, ["low", "middle", "high"], name="other"
    )  # fmt: skip

    def both(metric):
        found = [
            evaluate(model, ROWS, {"": drawn(3, 4)}, [metric], target=Margin("high"))[0] for model in (one.model, other)
        ]
        return found[0], found[1]

    # AOPC is an affine function of MoRF's area, so what holds for it holds for every area.
    for metric in (Aopc(), Srg(), Morf(), Comprehensiveness(), Insertion()):
        with pytest.raises(InputError, match=r"differs between table .* and other .*use naopc\."):
            compare(*both(metric))
    for limits in ("exact", "beam"):
        assert compare(*both(Naopc(limits=limits))).left_out == 0
    assert compare(*both(FaithfulnessCorrelation())).left_out == 0
    first, second = table_scores(Aopc()), table_scores(Aopc(), seed=1)
    assert compare(first, second).difference.mean == pytest.approx(float((first.values - second.values).mean()))


def test_a_method_and_a_metric_share_one_game():
    """What the method has asked is not asked again: exact Shapley values know every coalition of the curves."""
    model = oracle.table().model
    question = ask(model, ROWS[0], target=Margin("high"))
    values = make_method("exact_shapley").attribute(question).values.sum(0)
    before = model.meter.rows
    shared = Srg().score(Example(question, values))
    assert model.meter.rows == before
    assert shared == float(metrics.srg(model, ROWS[0], values, target=Margin("high")))
