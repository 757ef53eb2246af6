"""Rows of a table as the network reads them, and what is refused before the network is asked."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pellucid import Logit, explain
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.models.tabular import Column, Tabular

COLUMNS = [
    Column(name="age", mean=50.0, std=10.0, median=48.0, unit="years"),
    Column(name="grade", kind="category", levels=("I", "II", "III"), frequencies=(0.2, 0.5, 0.3), mode="II"),
    Column(name="nodes", mean=4.0, std=2.5, median=3.0),
    Column(name="therapy", kind="category", levels=("no", "yes"), frequencies=(0.6, 0.4), mode="no"),
]
ROW = {"age": 61, "grade": "III", "nodes": 9, "therapy": "yes"}
OTHERS = [
    {"age": 40, "grade": "I", "nodes": 0, "therapy": "no"},
    {"age": 55, "grade": "II", "nodes": 2, "therapy": "yes"},
]


def network(seed=0, width=7, labels=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(width, 6), torch.nn.Tanh(), torch.nn.Linear(6, labels)).eval()


@pytest.fixture
def model():
    return Tabular(network(), COLUMNS, ["low", "high"], name="risk")


def test_a_row_is_standardised_and_one_hot(model):
    inputs = model.encode(ROW)
    expected = [(61 - 50) / 10, 0, 0, 1, (9 - 4) / 2.5, 0, 1]
    np.testing.assert_allclose(inputs.row.numpy(), expected, rtol=1e-6)
    assert inputs.positions == 7
    features = model.features(inputs, "column")
    assert [(feature.label, feature.value) for feature in features] == [
        ("age", "61 years"),
        ("grade", "III"),
        ("nodes", "9"),
        ("therapy", "yes"),
    ]
    assert model.owners(inputs, features).tolist() == [0, 1, 1, 1, 2, 3, 3]


def test_every_form_of_a_row_is_the_same_row(model):
    backwards = dict(reversed(ROW.items()))
    frame = pd.DataFrame([backwards])
    given = [
        ROW,
        backwards,
        list(ROW.values()),
        tuple(ROW.values()),
        np.array(list(ROW.values()), dtype=object),
        frame.iloc[0],
        {"age": "61", "grade": "III", "nodes": np.float64(9), "therapy": "yes"},
    ]
    rows = [model.encode(each).row for each in given]
    assert all(torch.equal(row, rows[0]) for row in rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", [0, 0.2, 0.5, 0.3, 0, 0.6, 0.4]),
        ("median", [-0.2, 0, 1, 0, -0.4, 1, 0]),
        ("zero", [0] * 7),
    ],
)
def test_baselines_are_what_the_training_rows_say(model, name, expected):
    found = model.baseline(name, model.encode(ROW)).embedding
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (ROW | {"grade": "IV"}, "'grade' is one of I, II, III, not 'IV'"),
        (ROW | {"grade": None}, "'grade' is one of I, II, III, not None"),
        (ROW | {"grade": "iii"}, "not 'iii'"),
        (ROW | {"age": "old"}, "'age' is a number, not 'old'"),
        (ROW | {"age": None}, "'age' is a number, not None"),
        (ROW | {"age": [61]}, "'age' is a number"),
        (ROW | {"age": float("nan")}, "'age' is nan; a missing value has to be filled in"),
        (ROW | {"age": "inf"}, "'age' is 'inf'"),
        (ROW | {"age": 10**400}, "'age' is a number, not 1000"),
        (ROW | {"age": 1e300}, "too large for the network"),
        (ROW | {"weight": 60}, "no column is called 'weight'.*Known: age, grade, nodes, therapy"),
        (ROW | {"agee": 60}, "did you mean 'age'"),
        ({"age": 61, "nodes": 9}, "no value for grade, therapy"),
        ({}, "no value for age"),
        ([61, "III", 9], r"a row has 4 values \(age, grade, nodes, therapy\)"),
        ([61, "III", 9, "yes", 1], "a row has 4 values"),
        ([], "a row has 4 values"),
        ("abcd", "a row has 4 values"),
        (b"abcd", "a row has 4 values"),
        (None, "a row has 4 values"),
        (61, "a row has 4 values"),
        ({61, 62, 63, 64}, "a row has 4 values"),
    ],
    ids=str,
)
def test_what_is_no_row_is_refused_before_the_network_is_asked(model, raw, message):
    with pytest.raises(InputError, match=message) as caught:
        explain(model, raw, method="occlusion")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert model.meter.rows == model.meter.forwards == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Logit("middle")}, "no label of this classifier is called 'middle'.*Known: high, low"),
        ({"features": "word"}, "no kind of feature is called 'word'.*Known: column"),
        ({"features": "column:2"}, "Known: column"),
        ({"baseline": "blur"}, "no baseline is called 'blur'.*Known: marginal, mean, median, zero"),
        ({"baseline": "noisy-linear"}, "fills pictures; use 'mean', 'median' or 'marginal'"),
        ({"baseline": "marginal"}, r"risk has no background rows to draw from; give background=\[\.\.\.\]"),
        ({"baseline": "marginal", "background": [ROW | {"grade": "IV"}]}, "not 'IV'"),
        ({"method": "expected_gradients"}, "no background rows"),
        ({"method": "integrated_gradients", "baseline": "pad"}, "Known: mean, median, zero"),
        ({"method": "gradient", "baseline": "mean"}, "gradient has no baseline"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_the_network_is_asked(model, options, message):
    with pytest.raises(InputError, match=message) as caught:
        explain(model, ROW, **{"target": Logit("high"), "method": "occlusion"} | options)
    assert "\n" not in str(caught.value)
    assert model.meter.rows == 0


def test_a_column_that_never_varies_is_refused():
    with pytest.raises(InputError, match=r"the column 'x' has the deviation 0\.0"):
        Column(name="x", std=0.0)
    with pytest.raises(InputError, match="deviation nan"):
        Column(name="x", std=float("nan"))


def test_a_network_that_does_not_fit_its_columns_or_labels_is_named():
    narrow = Tabular(network(width=5), COLUMNS, ["low", "high"], name="risk")
    with pytest.raises(ModelError, match=r"risk cannot read a batch of shape \[1, 7\]") as caught:
        explain(narrow, ROW, method="occlusion")
    assert "\n" not in str(caught.value)
    single = Tabular(network(labels=1), COLUMNS, ["low", "high"], name="risk")
    with pytest.raises(ModelError, match=r"risk gave \[1, 1\] for 1 inputs; with 2 labels"):
        explain(single, ROW, method="occlusion")


def test_the_fingerprint_knows_columns_labels_and_weights(model):
    assert Tabular(network(), COLUMNS, ["low", "high"], name="risk").fingerprint() == model.fingerprint()
    moved = [Column(name="age", mean=50.5, std=10.0, median=48.0, unit="years"), *COLUMNS[1:]]
    for other in (
        Tabular(network(), moved, ["low", "high"], name="risk"),
        Tabular(network(), COLUMNS, ["no", "yes"], name="risk"),
        Tabular(network(1), COLUMNS, ["low", "high"], name="risk"),
    ):
        assert other.fingerprint() != model.fingerprint()


def test_the_background_is_the_models_own_or_the_given_one(model):
    own = Tabular(network(), COLUMNS, ["low", "high"], background=OTHERS)
    expected = [[-1, 1, 0, 0, -1.6, 1, 0], [0.5, 0, 1, 0, -0.8, 0, 1]]
    np.testing.assert_allclose(own.background().numpy(), expected, atol=1e-6)
    assert torch.equal(own.background([ROW]), model.encode(ROW).row[None])
    with pytest.raises(UnknownNameError):
        model.background([{"age": 1, "size": 2}])


def test_a_row_is_saved_and_read_back_without_a_picture(model, tmp_path):
    found = explain(model, ROW, method="exact_shapley")
    assert found.picture is None
    assert found.regions is None
    loaded = type(found).load(found.save(tmp_path / "x"))
    assert np.array_equal(loaded.values, found.values)
    assert json.loads((tmp_path / "x" / "explanation.json").read_text("utf-8"))["features"][0]["value"] == "61 years"
