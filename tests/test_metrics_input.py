"""What metrics refuse before the model is asked, how they are called, and what a seed decides."""

import inspect
import math

import jaxtyping
import numpy as np
import pytest
import torch

from oracles import metrics_end_to_end as oracle
from pellucid import explain, metrics
from pellucid.errors import InputError, UnknownNameError
from pellucid.methods import make_method
from pellucid.metrics import MaxSensitivity, Srg, evaluate, explaining
from pellucid.targets import Choice, Margin

ROWS = [
    {"age": 61, "grade": "III", "nodes": 9, "size": 14},
    {"age": 40, "grade": "I", "nodes": 0, "size": 33},
    {"age": 55, "grade": "II", "nodes": 2, "size": 21},
]


@pytest.fixture
def as_a_user_calls():
    """No shape checks by jaxtyping, which only tests have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def drawn(count, players, seed=0):
    return list(np.random.default_rng(seed).normal(size=(count, players)))


# Bad input


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0, 3.0], "has 3 scores and the input 4 features of kind 'column'"),
        ([1.0] * 5, "has 5 scores and the input 4 features"),
        ([1.0, 2.0, math.nan, 4.0], "the attribution holds nan at position 2; every number must be finite"),
        ([1.0, math.inf, 3.0, 4.0], "holds inf at position 1"),
        ([], "one input was given, with values"),
        (np.array([]), "has 0 scores"),
        (np.ones((2, 4)), "one input was given, with values"),
        (torch.ones(1, 4), "one input was given, with values"),
        ([[1.0, 2.0, 3.0, 4.0]], "one input was given, with values"),
    ],
)
@pytest.mark.parametrize("metric", ["srg", "infidelity", "completeness", "auroc", "complexity"])
def test_values_that_are_none_are_refused_before_the_model_is_asked(values, message, metric, as_a_user_calls):
    model = oracle.table().model
    before = model.meter.snapshot()
    with pytest.raises(InputError, match=message) as error:
        getattr(metrics, metric)(model, ROWS[0], values, target=Margin("high"), rationale=[True] * 4)
    assert model.meter == before
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"raws": []}, "there is no input to score"),
        ({"given": drawn(2, 4)}, "'mine' has 2 entries for 3 inputs"),
        ({"given": drawn(4, 4)}, "'mine' has 4 entries for 3 inputs"),
        ({"rationales": [[True] * 4]}, "'rationales' has 1 entries for 3 inputs"),
        ({"labels": ["low"]}, "'labels' has 1 entries for 3 inputs"),
        ({"given": [np.ones((2, 4))] * 3}, r"'mine' has shape \[2, 4\]; give one number for each feature"),
        ({"given": [np.ones(4), np.ones(4), np.ones(3)], "raws": ROWS[2:] * 3}, "'mine' has 3 scores"),
    ],
)
def test_lists_that_do_not_fit_are_refused(changed, message, as_a_user_calls):
    model = oracle.table().model
    given, raws = changed.pop("given", drawn(3, 4)), changed.pop("raws", ROWS)
    with pytest.raises(InputError, match=message):
        evaluate(model, raws, {"mine": given}, [Srg()], target=Margin("high"), **changed)


@pytest.mark.parametrize(
    ("metric", "settings"),
    [
        ("srg", {"steps": 0}),
        ("srg", {"stpes": 3}),
        ("srg", {"sign": "both"}),
        ("morf", {"scale": "odds"}),
        ("comprehensiveness", {"bins": ()}),
        ("comprehensiveness", {"bins": (0.5, 1.5)}),
        ("log_odds", {"scale": "probability"}),
        ("aopc", {"steps": 0}),
        ("aopc", {"limits": "exact"}),
        ("naopc", {"limits": "all"}),
        ("naopc", {"width": 0}),
        ("naopc", {"steps": 3}),
        ("soft_ns", {"retained": 1.0}),
        ("soft_nc", {"draws": 0}),
        ("soft_nc", {"scale": "target"}),
        ("road", {"shares": ()}),
        ("monotonicity", {"reading": "all"}),
        ("monotonicity", {"steps": 2}),
        ("monotonicity_correlation", {"sign": "signed"}),
        ("faithfulness_correlation", {"share": 0.0}),
        ("sensitivity_n", {"subsets": 2}),
        ("infidelity", {"draws": 0}),
        ("infidelity", {"perturbation": "binary"}),
        ("mprt", {"steps": 0}),
        ("max_sensitivity", {"radius": 0.0}),
        ("relative_stability", {"of": "logits"}),
        ("token_f1", {"k": 0}),
        ("iou_f1", {"threshold": 0.3}),
        ("relevance_mass", {"sign": "signed"}),
        ("dummy", {"contexts": 0}),
        ("symmetry", {"most_pairs": 0}),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(metric, settings, as_a_user_calls):
    model = oracle.table().model
    before = model.meter.snapshot()
    with pytest.raises(InputError, match=rf"^{metric} \(settings: .*{next(iter(settings))}") as error:
        getattr(metrics, metric)(model, ROWS[0], [1.0, 2.0, 3.0, 4.0], target=Margin("high"), **settings)
    assert model.meter == before
    assert "\n" not in str(error.value)


def test_names_that_do_not_exist_are_refused():
    model = oracle.table().model
    before = model.meter.snapshot()
    call = {"model": model, "raw": ROWS[0], "values": [1.0, 2.0, 3.0, 4.0]}
    with pytest.raises(UnknownNameError, match="'mask'"):
        metrics.srg(**call, target=Margin("high"), imputer="mask")
    with pytest.raises(UnknownNameError, match="'hihg'"):
        metrics.srg(**call, target=Margin("hihg"))
    with pytest.raises(UnknownNameError, match="'word'"):
        metrics.srg(**call, target=Margin("high"), features="word")
    with pytest.raises(InputError, match="seed"):
        metrics.srg(**call, target=Margin("high"), seed=-1)
    assert model.meter == before


@pytest.mark.parametrize("metric", ["mprt", "random_logit", "max_sensitivity", "relative_stability"])
def test_the_method_is_needed_and_must_be_one(metric, as_a_user_calls):
    model = oracle.table().model
    call, target = getattr(metrics, metric), Margin("low")
    before = model.meter.snapshot()
    with pytest.raises(InputError, match=r"runs the method again; give it as method="):
        call(model, ROWS[0], [1.0, 2.0, 3.0, 4.0], target=target)
    for bad in ("occlusion", type(make_method("occlusion")), 3):
        with pytest.raises(InputError, match="give the method itself"):
            call(model, ROWS[0], [1.0, 2.0, 3.0, 4.0], target=target, method=bad)
    if metric in ("mprt", "random_logit"):
        assert model.meter == before


# How they are called


def test_one_input_or_several_and_any_kind_of_numbers(as_a_user_calls):
    model, values = oracle.table().model, drawn(3, 4)
    expected = metrics.srg(model, ROWS, values, target=Margin("high"))
    assert expected.shape == (3,)
    assert expected.dtype == torch.float64
    for one in (
        values[0],
        values[0].tolist(),
        tuple(values[0].tolist()),
        torch.tensor(values[0]),
        torch.tensor(values[0], requires_grad=True),
        list(values[0].astype(np.float32)),
    ):
        torch.testing.assert_close(metrics.srg(model, ROWS[0], one, target=Margin("high")), expected[:1])
    whole = np.stack(values)
    torch.testing.assert_close(metrics.srg(model, ROWS, whole, target=Margin("high")), expected)
    assert metrics.srg(model, ROWS[:1], values[:1], target=Margin("high")).shape == (1,)


def test_an_order_of_whole_numbers_is_an_attribution(as_a_user_calls):
    model = oracle.table().model
    found = metrics.srg(model, ROWS[0], [4, 1, 2, 3], target=Margin("high"))
    torch.testing.assert_close(found, metrics.srg(model, ROWS[0], [4.0, 1.0, 2.0, 3.0], target=Margin("high")))


def test_targets_of_several_columns_are_summed():
    """A choice names one option; its options are one target each, and their attributions a matrix."""
    model = oracle.table().model
    choice = Choice(("low", "high"), "high")
    explanation = explain(model, ROWS[0], method="exact_shapley", target=choice, checks="none")
    plain = metrics.completeness(model, ROWS[0], explanation)
    assert float(plain) == pytest.approx(0, abs=1e-5)
    matrix = explain(model, ROWS[0], method="exact_shapley", target=choice.all, checks="none")
    assert matrix.values.shape == (2, 4)
    assert float(metrics.completeness(model, ROWS[0], matrix)) == pytest.approx(0, abs=1e-5)


def test_a_function_shows_its_settings():
    signature = inspect.signature(metrics.srg)
    assert list(signature.parameters)[:3] == ["model", "raw", "values"]
    assert signature.parameters["steps"].default == 20
    assert signature.parameters["seed"].default == 0
    assert "settings" not in signature.parameters
    assert "blucher2024" in metrics.srg.__doc__
    assert "Returns:" in metrics.srg.__doc__
    for name, metric in metrics.all_metrics().items():
        assert getattr(metrics, name).metric is metric
        assert set(metric.model_fields) <= set(inspect.signature(getattr(metrics, name)).parameters)


# Seeds


@pytest.mark.parametrize("name", metrics.all_metrics())
def test_a_seed_decides_everything_and_no_global_state_is_touched(name):
    case = oracle.picture() if "picture" in metrics.all_metrics()[name].facts.needs else oracle.table()
    said = case.model.predicted(case.model.encode(case.raw))
    values = [1.0, 1.0, -2.0, 1.0, *[1.0] * (case.players - 4)]
    options = {
        "target": Margin(said), "rationale": [True, False] * (case.players // 2), "label": said,
        "method": make_method("input_x_gradient"), "features": case.features,
    }  # fmt: skip
    np.random.seed(5)
    torch.manual_seed(6)
    first = getattr(metrics, name)(case.model, case.raw, values, seed=11, **options)
    np.random.seed(7)
    torch.manual_seed(8)
    states = torch.get_rng_state().clone(), str(np.random.get_state())
    again = getattr(metrics, name)(case.model, case.raw, values, seed=11, **options)
    torch.testing.assert_close(first, again, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == str(np.random.get_state())


def test_each_input_has_a_seed_of_its_own():
    model, ties = oracle.table().model, [[1.0, 1.0, 1.0, 1.0]] * 8
    found = metrics.morf(model, ROWS[:1] * 8, ties, target=Margin("high"), seed=3)
    single = [
        float(metrics.morf(model, ROWS[0], ties[0], target=Margin("high"), seed=3 + number)) for number in range(8)
    ]
    assert found.tolist() == pytest.approx(single)
    assert len(set(single)) > 1


def test_a_metric_reruns_its_method_only_if_it_needs_to():
    calls = []

    class Counting:
        def attribute(self, question):
            calls.append(question)
            return make_method("input_x_gradient").attribute(question)

    model = oracle.table().model
    metrics.srg(model, ROWS[0], [1.0, 2.0, 3.0, 4.0], method=Counting())
    assert not calls
    evaluate(model, ROWS, {"mine": drawn(3, 4)}, [MaxSensitivity(draws=2)], methods={"mine": explaining(Counting())})
    assert len(calls) == 6
