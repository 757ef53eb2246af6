"""``method="best"``: a benchmark of this very model decides, else a trial; the explanation says which and why."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid.errors import InputError
from pellucid.methods import make_method
from pellucid.report import explanation_page
from pellucid.verdicts import Entry, Verdict, best_method, calibration, keep, kept
from pellucid.verdicts.calibration import calibrate

ROW = [1.0, -2.0, 0.5, 3.0]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    with torch.no_grad():
        network[0].weight *= 3
    columns = [pellucid.Column(name=f"x{number}") for number in range(4)]
    background = np.random.default_rng(0).normal(size=(8, 4)).tolist()
    return pellucid.Tabular(network, columns, ["no", "yes"], name="tiny", background=background)


def entry(method, score, p_value=None, **settings):
    known = {"low": score - 0.1, "high": score + 0.1, "p_value": p_value, "rows": 5.0}
    known["is_worse"] = p_value is not None and p_value < 0.05
    return Entry(method=method, settings=settings, score=score, **known)


def verdict(model, *entries, **changed):
    known = {
        "task": "tables", "model": "tiny", "weights": model.fingerprint().weights, "features": "column",
        "target": "Margin", "players": 4.0, "metric": "srg [mean, column, log-odds]", "inputs": 120, "enough": True,
        "date": "2026-01-01T00:00:00+00:00", "folder": "results/tables", "imputer": "mean", "rows": None,
        "entries": (*entries, entry("zplus", -0.5, 0.001)),
    }  # fmt: skip
    return Verdict(**{**known, **changed})


def test_a_benchmark_of_this_model_decides(model):
    keep(verdict(model, entry("lime", 0.9, samples=15), entry("occlusion", 0.8, 0.4), entry("gradient", 0.1, 0.001)))
    found = pellucid.explain(model, ROW, method="best")
    assert found.method == "lime"
    assert found.settings["samples"] == 15
    chosen = found.selection
    assert (chosen.source, chosen.inputs, chosen.enough) == ("benchmark", 120, True)
    assert "'tables'" in chosen.detail
    assert [each.method for each in chosen.candidates] == ["lime", "occlusion", "gradient", "zplus"]
    assert "not told apart" in chosen.candidates[1].reason
    assert "p = 0.001" in chosen.candidates[2].reason
    plain = pellucid.explain(model, ROW, method="lime", samples=15)
    np.testing.assert_array_equal(found.values, plain.values)
    assert found.checks["selection"].passed is None
    assert found.reliable == plain.reliable


def test_the_nearest_then_the_newest(model):
    far, near, newer = (
        verdict(model, entry(method, 0.9), task=task, players=players, date=f"2026-01-0{day}T00:00:00+00:00")
        for method, task, players, day in (
            ("lime", "a", 400.0, 9),
            ("occlusion", "b", 4.0, 1),
            ("gradient", "c", 4.0, 2),
        )
    )
    keep(far)
    keep(near)
    assert pellucid.explain(model, ROW, method="best").method == "occlusion"
    keep(newer)
    assert pellucid.explain(model, ROW, method="best").method == "gradient"
    # About the kind of target that is asked for.
    keep(verdict(model, entry("kernel_shap", 0.9), task="d", target="Logit", players=40.0))
    assert pellucid.explain(model, ROW, method="best").method == "gradient"
    assert pellucid.explain(model, ROW, method="best", target=pellucid.Logit("yes")).method == "kernel_shap"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": "0" * 64}, "no benchmark of this model"),
        ({"features": "word"}, "no benchmark of this model"),
        ({"inputs": 5, "enough": False}, "5 independent inputs"),
        ({"entries": (entry("gradient", 0.9),)}, "fewer than two methods"),
        ({"entries": (entry("gradient", 0.05), entry("lime", 0.01))}, "cannot be told from chance"),
    ],
)
def test_what_does_not_fit_decides_nothing(model, changed, said):
    keep(verdict(model, **{"entries": (entry("gradient", 0.9), entry("lime", 0.8)), **changed}))
    chosen = pellucid.explain(model, ROW, method="best", budget=400).selection
    assert chosen.source == "calibration"
    assert said in chosen.detail


def test_a_small_run_takes_nothing_from_a_large_one(model):
    keep(verdict(model, entry("lime", 0.9), entry("occlusion", 0.8)))
    keep(verdict(model, entry("gradient", 0.9), inputs=4, enough=False, date="2026-02-01T00:00:00+00:00"))
    keep(verdict(model, entry("gradient", 0.04), date="2026-02-02T00:00:00+00:00"))
    assert pellucid.explain(model, ROW, method="best").method == "lime"
    assert len(kept(model.fingerprint().weights)) == 2


def test_a_method_runs_with_the_sample_that_it_was_ranked_with(model):
    keep(verdict(model, entry("banzhaf", 0.9), rows=12))
    assert pellucid.explain(model, ROW, method="best").settings["samples"] <= 12
    keep(verdict(model, entry("banzhaf", 0.9), rows=None))
    assert pellucid.explain(model, ROW, method="best").settings["samples"] > 12


def test_the_same_imputer_is_nearer(model):
    keep(verdict(model, entry("lime", 0.9), imputer="mean", task="mean"))
    keep(verdict(model, entry("occlusion", 0.9), imputer="median", task="median"))
    assert pellucid.explain(model, ROW, method="best", baseline="mean").method == "lime"
    assert pellucid.explain(model, ROW, method="best", baseline="median").method == "occlusion"
    other = pellucid.explain(model, ROW, method="best", baseline="marginal")
    assert "here marginal does" in other.selection.detail


def test_a_broken_file_is_no_verdict(model, cache):
    keep(verdict(model, entry("lime", 0.9)))
    (cache / "verdicts" / "broken.json").write_text("{")
    assert [each.task for each in kept(model.fingerprint().weights)] == ["tables"]


def test_a_method_that_does_not_run_here_is_passed_over(model):
    keep(verdict(model, entry("rollout", 0.95), entry("occlusion", 0.9)))
    found = pellucid.explain(model, ROW, method="best")
    assert found.method == "occlusion"
    (passed,) = [each for each in found.selection.candidates if each.method == "rollout"]
    assert "does not run here" in passed.reason
    assert "p =" not in found.selection.candidates[1].reason
    broken = (entry("rollout", 0.95), entry("gae", 0.9))
    keep(verdict(model, entries=broken, date="2026-03-01T00:00:00+00:00"))
    with pytest.raises(InputError, match="no method of the benchmark"):
        pellucid.explain(model, ROW, method="best")


def test_a_trial_finds_what_is_faithful(model):
    found = pellucid.explain(model, ROW, method="best")
    chosen = found.selection
    assert chosen.source == "calibration"
    assert not chosen.enough
    scores = {each.method: each.score for each in chosen.candidates}
    assert scores[found.method] == max(each for each in scores.values() if each is not None)
    # The reference is the Shapley value, which exact enumeration gives.
    assert scores["exact_shapley"] == pytest.approx(1)
    assert scores["gradient"] < 0.9
    assert "1 of the inputs" in chosen.detail


@pytest.mark.parametrize("imputer", ["mean", "marginal"])
@pytest.mark.parametrize("budget", [500, 3000])
def test_a_trial_keeps_to_its_budget(model, imputer, budget):
    questions = [pellucid.games.ask(model, ROW, seed=number, imputer=imputer) for number in range(2)]
    before = model.meter.rows
    _, chosen = calibrate(questions, budget)
    assert any("not tried" in each.reason for each in chosen.candidates)
    assert model.meter.rows - before <= budget


def test_a_budget_that_pays_for_nothing_is_refused(model):
    question = pellucid.games.ask(model, ROW, imputer="marginal")
    with pytest.raises(InputError, match=r"a budget of 50 rows pays for no trial on 4 features; give at least \d+"):
        calibrate([question], 50)


def test_one_flat_input_does_not_decide(model, monkeypatch):
    gains = {"a": [0.9, 0.9, 0.9, 0.0005], "b": [0.5, 0.5, 0.5, 0.004]}
    ceilings = np.array([1.0, 1.0, 1.0, 0.001])
    trials = [calibration.Trial(make_method(name), gains[key], 1.0, "") for name, key in (("lime", "a"), ("rise", "b"))]
    questions = [pellucid.games.ask(model, ROW)] * 4
    method, chosen = calibration._chosen(trials, questions, ceilings, "")
    assert method.facts.name == "lime"
    assert chosen.candidates[0].score == pytest.approx(2.7005 / 3.001)


def test_a_batch_is_explained_by_one_method(model):
    rows = np.random.default_rng(1).normal(size=(9, 4)).tolist()
    found = pellucid.explain_batch(model, rows, method="best")
    assert len({each.method for each in found}) == 1
    assert found[0].selection.inputs == 9
    best = found[0].selection.candidates[0]
    assert best.low is not None
    assert best.low <= best.score <= best.high
    again = pellucid.explain(model, rows[4], method=found[4].method)
    np.testing.assert_array_equal(found[4].values, again.values)


def test_it_is_saved_and_shown(model, tmp_path):
    found = pellucid.explain(model, ROW, method="best")
    found.save(tmp_path / "e.zip")
    assert pellucid.Explanation.load(tmp_path / "e.zip").selection == found.selection
    page = explanation_page(found)
    assert f"Why <bdi>{found.method}</bdi>, and what was rejected" in page
    assert "what was rejected" not in explanation_page(pellucid.explain(model, ROW, method="occlusion"))


def test_bad_settings(model):
    with pytest.raises(InputError, match="budget"):
        pellucid.explain(model, ROW, method="best", samples=5)
    with pytest.raises(InputError, match="at least 1"):
        best_method([pellucid.games.ask(model, ROW)], 0)
    with pytest.raises(InputError, match="latents"):
        pellucid.explain(model, ROW, method="best", sae="folder")
