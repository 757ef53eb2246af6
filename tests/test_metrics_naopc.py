"""AOPC between its limits, against every order of the features; and that it alone compares two models."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from oracles import metrics as formulas
from oracles import metrics_end_to_end as oracle
from pellucid import metrics
from pellucid.errors import InputError
from pellucid.games import ask
from pellucid.metrics import Example, Naopc
from pellucid.models import Column, Tabular
from pellucid.targets import Margin, Token

FLOAT = {"rel": 1e-5, "abs": 1e-6}


def asked(case, values, **options):
    return float(metrics.naopc(case.model, case.raw, values, **{**case.options, **options}))


def by_hand(f, values):
    """Where the order's AOPC lies between the lowest and the highest of all n! orders."""
    players = len(values)
    found = formulas.aopc(formulas.removal_curve(f, players, oracle.most_first(values)))
    every = [formulas.aopc(formulas.removal_curve(f, players, list(order))) for order in permutations(range(players))]
    return (found - min(every)) / (max(every) - min(every))


@pytest.mark.parametrize("name", ["bert mask", "bert delete", "picture", "table"])
def test_it_lies_between_the_worst_and_the_best_of_all_orders(name):
    case = oracle.CASES[name]()
    values = np.random.default_rng(3).normal(size=case.players)
    expected = by_hand(case.worth(), values)
    assert 0 < expected < 1
    assert asked(case, values, limits="exact") == pytest.approx(expected, **FLOAT)
    assert asked(case, values, width=100) == pytest.approx(expected, **FLOAT)
    in_probability = by_hand(case.worth("probability"), values)
    assert asked(case, values, limits="exact", scale="probability") == pytest.approx(in_probability, **FLOAT)
    absolute = by_hand(case.worth(), abs(values))
    assert asked(case, values, limits="exact", sign="absolute") == pytest.approx(absolute, **FLOAT)


def test_the_best_order_scores_1_and_the_worst_0():
    case = oracle.picture()
    f = case.worth()
    orders = sorted(permutations(range(6)), key=lambda order: formulas.aopc(formulas.removal_curve(f, 6, list(order))))
    for order, score in ((orders[0], 0), (orders[-1], 1)):
        values = [float(-order.index(place)) for place in range(6)]
        assert asked(case, values, limits="exact") == pytest.approx(score, abs=1e-6)


def test_a_louder_model_has_a_larger_aopc_and_the_same_naopc():
    """Logits ten times as large say the same thing of the features: that much of AOPC is the model's own."""
    quiet = torch.nn.Linear(5, 2).double()
    with torch.no_grad():
        quiet.weight.copy_(torch.tensor([[0.0] * 5, [0.9, -0.4, 0.3, 0.7, -0.2]]))
        quiet.bias.zero_()
    loud = torch.nn.Linear(5, 2).double()
    loud.load_state_dict({name: 10 * value for name, value in quiet.state_dict().items()})
    row, values = [1.0, 2.0, -1.0, 0.5, 1.5], [3.0, 1.0, -2.0, 0.0, -1.0]
    columns = [Column(name=f"x{place}") for place in range(5)]
    found = {}
    for metric in ("aopc", "naopc"):
        found[metric] = [
            float(getattr(metrics, metric)(Tabular(net, columns, ["no", "yes"]), row, values, target=Margin("yes")))
            for net in (quiet, loud)
        ]
    assert found["aopc"][1] == pytest.approx(10 * found["aopc"][0])
    assert found["naopc"][1] == pytest.approx(found["naopc"][0])


def test_the_limits_are_asked_once_for_all_attributions():
    case = oracle.picture()
    question = ask(case.model, case.raw, **case.options)
    drawn = np.random.default_rng(0).normal(size=(4, case.players))
    spent = []
    for values in drawn:
        before = case.model.meter.rows
        Naopc().score(Example(question, values))
        spent.append(case.model.meter.rows - before)
    assert spent[0] <= Naopc().rows(case.players)
    assert max(spent[1:]) < case.players
    assert Naopc(limits="exact").rows(6) == 64


def test_exact_limits_are_refused_before_the_model_is_asked():
    case = oracle.picture()
    before = case.model.meter.snapshot()
    with pytest.raises(InputError, match=r"has 24 features of kind 'pixel'.* at most 12; use limits='beam'"):
        asked(case, np.arange(24.0), features="pixel", limits="exact")
    assert case.model.meter == before
    assert 0 < asked(case, np.arange(24.0), features="pixel") < 1


def test_what_it_is_called_and_where_it_is_undefined():
    case = oracle.table()
    question = ask(case.model, case.raw, **case.options)
    assert Naopc().named(question) == "naopc [mean, column, log-odds]"
    assert Naopc(limits="exact").named(question) == "naopc [mean, column, log-odds, limits=exact]"
    picture = oracle.picture()
    assert math.isnan(asked(picture, [0.3], features="patch:6"))
    assert Naopc().compares_models
    values = [0.2, -0.1, 0.4, 0.0]
    token = float(metrics.naopc(case.model, case.raw, values, target=Token("high"), limits="exact"))
    assert token == pytest.approx(by_hand(case.worth("log-probability"), values), **FLOAT)
