"""Soft removal against all patterns of what stays, weighted by their probability; and what the retained share mends."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from oracles import metrics_end_to_end as oracle
from pellucid import metrics
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.metrics import SoftNc, SoftNs
from pellucid.metrics.functional.soft import kept_shares, soft_comprehensiveness, soft_sufficiency
from pellucid.models import Column, Tabular
from pellucid.targets import Logit, Margin, Token
from pellucid.testing import check_metric

BOTH = ["soft_ns", "soft_nc"]
DRAWN = [np.random.default_rng(seed).normal(size=size) * 10.0**seed for seed, size in enumerate((3, 8, 40))]


def asked(metric, model, raw, values, **options):
    return float(getattr(metrics, metric)(model, raw, values, **options))


# Scores as probabilities


def by_brent(values, retained):
    """Standard scores moved along a sigmoid until their mean is what it shall be."""
    z = (values - values.mean()) / values.std()
    return expit(z + brentq(lambda moved: expit(z + moved).mean() - retained, -200, 200, xtol=1e-13))


@pytest.mark.parametrize("retained", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("values", DRAWN)
def test_the_mean_share_that_stays_is_the_retained_one(values, retained):
    found = kept_shares(values, retained)
    np.testing.assert_allclose(found, by_brent(values, retained), atol=1e-9)
    assert found.mean() == pytest.approx(retained, abs=1e-9)
    assert (np.argsort(found) == np.argsort(values)).all()
    np.testing.assert_allclose(kept_shares(1e-3 * values + 7 * abs(values).max(), retained), found, atol=1e-6)
    np.testing.assert_allclose(kept_shares(-values, 1 - retained), 1 - found, atol=1e-9)


def test_an_outlier_rules_the_min_max_scaling_alone():
    values = np.array([1.0, 2.0, 3.0, 4.0, 1000.0])
    assert kept_shares(values, None)[:4].max() < 0.01
    assert kept_shares(values, 0.5)[:4].min() > 0.3
    np.testing.assert_allclose(kept_shares(values, None), (values - 1) / 999)


def test_equal_scores_keep_the_retained_share_or_have_none():
    for values in (np.zeros(4), np.full(3, 0.1) * 3, np.array([5.0])):
        np.testing.assert_allclose(kept_shares(values, 0.3), 0.3)
        assert kept_shares(values, None) is None


@pytest.mark.parametrize("retained", [0.0, 1.0, -1.0, math.nan])
def test_a_share_outside_of_0_to_1_is_refused(retained):
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        kept_shares(np.arange(3.0), retained)


def test_the_formulas():
    kept = np.array([0.9, 0.6, 0.3])
    s = [1 - max(0, 0.8 - each) for each in kept]
    s_empty = 1 - (0.8 - 0.2)
    assert soft_sufficiency(0.8, 0.2, kept) == pytest.approx((sum(s) / 3 - s_empty) / (1 - s_empty))
    lost = [max(0, 0.8 - each) for each in kept]
    assert soft_comprehensiveness(0.8, 0.2, kept) == pytest.approx(sum(lost) / 3 / (1 - s_empty))
    assert soft_sufficiency(0.8, 0.2, np.full(3, 0.8)) == 1
    assert soft_comprehensiveness(0.8, 0.2, np.full(3, 0.2)) == pytest.approx(1)
    for empty in (0.8, 0.795, 0.9):
        assert math.isnan(soft_sufficiency(0.8, empty, kept))
        assert math.isnan(soft_comprehensiveness(0.8, empty, kept))
    assert soft_comprehensiveness(0.8, 0.795, kept, least_drop=0.001) > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(
    "call",
    [
        lambda bad: kept_shares(np.array([1.0, bad])),
        lambda bad: soft_sufficiency(bad, 0.2, np.ones(2)),
        lambda bad: soft_comprehensiveness(0.8, bad, np.ones(2)),
        lambda bad: soft_sufficiency(0.8, 0.2, np.array([0.5, bad])),
    ],
)
def test_numbers_that_are_none_are_refused(call, bad):
    with pytest.raises(InputError, match="finite"):
        call(bad)


# End to end


def shares_of(values, metric, retained):
    low_first = -values if metric == "soft_nc" else values
    if retained is None:
        return (low_first - low_first.min()) / (low_first.max() - low_first.min())
    return by_brent(low_first, retained)


def expected_over_all_patterns(case, shares, owners, p_of):
    """Mean of max(0, p(x) - p(x')) over all 2^d patterns of numbers that stay."""
    everything, total = p_of((1,) * len(owners)), 0.0
    for pattern in product((0, 1), repeat=len(owners)):
        chances = [shares[owner] if kept else 1 - shares[owner] for owner, kept in zip(owners, pattern, strict=True)]
        total += math.prod(chances) * max(0.0, everything - p_of(pattern))
    return total, everything - p_of((0,) * len(owners))


@pytest.mark.parametrize("retained", [0.5, 0.2, None])
@pytest.mark.parametrize("metric", BOTH)
def test_a_table_comes_close_to_all_patterns(metric, retained):
    """Six numbers of four columns: 64 patterns."""
    case, owners = oracle.table(), [0, 1, 1, 1, 2, 3]
    encoded, mean = [1.1, 0, 0, 1, 2.0, -0.75], [0.0, 0.2, 0.5, 0.3, 0.0, 0.0]
    values = np.random.default_rng(1).normal(size=4)

    def p_of(label):
        index = case.model.labels.index(label)

        def of(pattern):
            mixed = [x if kept else b for x, b, kept in zip(encoded, mean, pattern, strict=True)]
            return float(case.model.module(torch.tensor([mixed], dtype=torch.float64)).detach().softmax(1)[0, index])

        return of

    label = case.model.predicted(case.model.encode(case.raw))
    lost, worst = expected_over_all_patterns(case, shares_of(values, metric, retained), owners, p_of(label))
    assert worst > 0.1
    expected = lost / worst if metric == "soft_nc" else 1 - lost / worst
    options = {"target": Margin(label), "retained": retained, "draws": 20000, "seed": 3}
    assert asked(metric, case.model, case.raw, values, **options) == pytest.approx(expected, abs=0.015)
    options["target"] = Token(label)
    assert asked(metric, case.model, case.raw, values, **options) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("name", ["bert mask", "bert pad", "deberta delete"])
def test_a_text_comes_close_to_other_draws(name, metric):
    """Numbers of the embeddings, not whole words, and what stands for a dropped one is the imputer's."""
    case = oracle.CASES[name]()
    module, tokenizer = case.model.module, case.model.tokenizer
    words = [tokenizer(word, add_special_tokens=False).input_ids for word in oracle.WORDS]
    owners = torch.tensor([-1, *[place for place, word in enumerate(words) for _ in word], -1])
    ids = torch.tensor([tokenizer.cls_token_id, *[each for word in words for each in word], tokenizer.sep_token_id])
    read = module.get_input_embeddings()
    stands = tokenizer.pad_token_id if "pad" in name else tokenizer.mask_token_id
    vectors, blank = read(ids).detach(), read(torch.tensor(stands)).detach()

    def said(kept):
        points = torch.where(kept | (owners < 0)[:, None], vectors, blank)
        with torch.no_grad():
            return module(inputs_embeds=points, attention_mask=torch.ones(len(points), len(ids))).logits.softmax(1)

    full, empty = (said(torch.full((1, *vectors.shape), there))[0] for there in (True, False))
    index = int((full - empty).argmax())
    label, worst = case.model.labels[index], float((full - empty)[index])
    values = np.random.default_rng(2).normal(size=case.players)
    shares = torch.tensor(shares_of(values, metric, 0.5))[owners.clamp(min=0)][:, None]
    drawn = torch.rand((4000, *vectors.shape), generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    lost = (full - said(drawn < shares))[:, index].clamp(min=0).numpy() / worst
    expected, error = (lost.mean() if metric == "soft_nc" else 1 - lost.mean()), lost.std() / math.sqrt(4000)
    options = {**case.options, "target": Margin(label), "draws": 4000, "seed": 3}
    options |= {"baseline": "mask"} if "delete" in name else {}
    found = asked(metric, case.model, case.raw, values, **options)
    assert found == pytest.approx(expected, abs=6 * error)
    assert error < 0.02


# What the retained share mends


def interchangeable(players=10):
    """p(yes) = sigmoid(sum of the features - n / 2): no feature says more than another, so that no map is better."""
    network = torch.nn.Linear(players, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0], [1.0]]).expand(2, players))
        network.bias.copy_(torch.tensor([0.0, -players / 2]))
    return Tabular(network, [Column(name=f"x{place}") for place in range(players)], ["no", "yes"])


@pytest.mark.parametrize("metric", BOTH)
def test_the_original_rewards_high_scores_and_the_retained_share_does_not(metric):
    """The same order of features, once with nearly all scores high and once with nearly all low: equally good maps."""
    ranks = np.linspace(0, 1, 10)
    many_high, many_low = ranks ** (1 / 4), ranks**4

    def of(values, retained):
        options = {"target": Margin("yes"), "draws": 4000, "retained": retained}
        return asked(metric, interchangeable(), [1.0] * 10, values, **options)

    assert of(many_high, None) > of(many_low, None) + 0.4
    assert of(many_high, 0.5) == pytest.approx(of(many_low, 0.5), abs=0.03)
    assert of(many_high, 0.2) == pytest.approx(of(many_low, 0.2), abs=0.03)


@pytest.mark.parametrize("metric", BOTH)
def test_noise_of_high_mean_beats_the_truth_in_the_original_alone(metric):
    """A map that knows nothing, and keeps (or drops) nearly everything, against the contributions themselves."""
    weights = np.array([3.0, 1.5, 0.8, 0.4, 0.2, 0.1])
    network = torch.nn.Linear(6, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor(np.stack([np.zeros(6), weights])))
        network.bias.copy_(torch.tensor([0.0, -3.0]))
    model = Tabular(network, [Column(name=f"x{place}") for place in range(6)], ["no", "yes"])
    noise = [np.append(np.random.default_rng(seed).uniform(0.9, 1.0, 5), 0.0) for seed in range(20)]

    def of(values, retained):
        rows, options = [[1.0] * 6] * len(values), {"target": Margin("yes"), "retained": retained}
        return float(getattr(metrics, metric)(model, rows, values, draws=400, **options).mean())

    assert of(noise, None) > of([weights], None)
    assert of(noise, 0.5) < of([weights], 0.5) - 0.1


def test_both_pass_the_gate_in_either_form():
    for metric in (SoftNs(), SoftNc(), SoftNs(retained=None), SoftNc(retained=0.3), SoftNc(baseline="zero")):
        assert "oracle beats random" in check_metric(metric)


# How it is called


@pytest.mark.parametrize("metric", BOTH)
def test_what_does_not_fit_is_refused(metric):
    text = oracle.CASES["bert delete"]()
    values = [1.0, 0.5, 0.2, -0.1, 0.0]
    with pytest.raises(InputError, match=rf"{metric} takes features away by degrees, and 'delete' is all or nothing"):
        asked(metric, text.model, text.raw, values, **text.options)
    table = oracle.table()
    with pytest.raises(InputError, match="a Logit has no probability"):
        asked(metric, table.model, table.raw, [1.0, 2.0, 3.0, 4.0], target=Logit("high"))


def test_names_rows_and_nan():
    case = oracle.table()
    question = ask(case.model, case.raw, **case.options)
    assert SoftNs().named(question) == "soft_ns [graded to mean, column, probability]"
    named = SoftNc(retained=0.3, draws=8).named(question)
    assert named == "soft_nc [graded to mean, column, probability, draws=8, retained=0.3]"
    assert SoftNs(draws=8).rows(100) == 10
    before = case.model.meter.rows
    assert math.isnan(asked("soft_ns", case.model, case.raw, [1.0] * 4, retained=None))
    assert case.model.meter.rows - before <= 1
    unsaid = next(label for label in case.model.labels if label != case.model.predicted(case.model.encode(case.raw)))
    found = [asked(metric, case.model, case.raw, [1.0, 2.0, 3.0, 4.0], target=Margin(unsaid)) for metric in BOTH]
    assert all(map(math.isnan, found)) or min(found) > -math.inf
