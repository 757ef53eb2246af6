"""A benchmark run from the first input to the verdict: equal to doing it by hand, resumable, nothing lost."""

import json
import shutil
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import pellucid
from pellucid.benchmark import attributing, entrants, gate, preparing, runner
from pellucid.benchmark.board import read_board
from pellucid.benchmark.budget import Budget
from pellucid.benchmark.query import query
from pellucid.benchmark.runner import Settings, run
from pellucid.benchmark.store import MANIFEST
from pellucid.benchmark.tasks import Case, Task
from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.facts import Facts
from pellucid.methods import AbstractGameMethod, Occlusion, budgets, make_method
from pellucid.metrics import Finding, all_metrics, make_metric
from pellucid.models import Column, Tabular
from pellucid.verdicts import kept

COLUMNS = 6
CASES = 16
METHODS = "occlusion,kernel_shap,gradient,input_x_gradient,exact_shapley"
METRICS = "srg,morf,auprc,sparseness,faithfulness_correlation"


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    with torch.no_grad():
        made[0].weight *= 2
    columns = [Column(name=f"x{number}") for number in range(COLUMNS)]
    rows = np.random.default_rng(1).normal(size=(9, COLUMNS)).tolist()
    return Tabular(made, columns, ["no", "yes"], name="tiny network", background=rows)


def cases(split, count=CASES):
    rows = np.random.default_rng(2 if split == "test" else 3).normal(size=(count, COLUMNS))
    return [
        Case(id=f"{split}-{number}", raw=row.tolist(), cluster=str(number // 2), rationale=tuple((row > 0).tolist()))
        for number, row in enumerate(rows)
    ]


def task(**changed):
    known = {
        "name": "tiny", "title": "a tiny table", "model": "tiny network", "load": network, "cases": cases,
        "features": "column", "imputers": ("mean", "median"), "source": "made up", "licence": "CC0",
    }  # fmt: skip
    return Task(**{**known, **changed})


def settings(**changed):
    known = {"methods": METHODS, "metrics": METRICS, "rows": 30, "seeds": 2, "tuning": 0, "curves": 2}
    return Settings(**{**known, **changed})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("results") / "tiny"
        outcome = run(task(), folder, settings())
        return folder, outcome, kept(network().fingerprint().weights)


def scores(folder):
    rows = query(folder, 'SELECT "case", entrant, seed, metric, score FROM scores ORDER BY ALL').rows
    return {row[:4]: row[4] for row in rows}


def test_every_input_has_every_row(finished):
    folder, outcome, _ = finished
    assert (outcome.done, outcome.new, outcome.of) == (CASES, CASES, CASES)
    found = query(folder, "SELECT entrant, count(*), count(DISTINCT seed) FROM attributions GROUP BY 1 ORDER BY 1").rows
    counted = {name: (rows, seeds) for name, rows, seeds in found}
    assert counted == {
        "constant": (CASES, 1), "exact_shapley": (CASES, 1), "gradient": (CASES, 1), "input_x_gradient": (CASES, 1),
        "inverted oracle": (CASES, 1), "inverted random": (5 * CASES, 5), "kernel_shap": (2 * CASES, 2),
        "occlusion": (CASES, 1), "oracle": (CASES, 1), "random": (5 * CASES, 5),
    }  # fmt: skip
    assert query(folder, "SELECT count(*) FROM failures").rows == [(0,)]


@pytest.mark.parametrize("method", ["occlusion", "input_x_gradient", "exact_shapley"])
@pytest.mark.parametrize("imputer", ["mean", "median"])
def test_scores_are_those_of_explaining_and_evaluating_by_hand(finished, method, imputer):
    model, found = network(), scores(finished[0])
    for number, case in enumerate(cases("test")[:3]):
        # The attribution is made under the first imputer, whichever one the metric uses.
        settings = {} if method == "input_x_gradient" else {"baseline": "mean"}
        explanation = pellucid.explain(model, case.raw, method=method, checks="none", seed=number, **settings)
        options = {"imputer": imputer, "seed": number, "steps": 10}
        expected = float(pellucid.metrics.srg(model, case.raw, explanation.values.sum(0), **options)[0])
        name = f"srg [{imputer}, column, log-odds, steps=10]"
        assert found[case.id, method, 0, name] == pytest.approx(expected, abs=1e-5)


def test_each_is_charged_what_it_would_have_spent_alone(finished):
    folder, _, _ = finished
    found = dict(query(folder, "SELECT entrant, max(rows) FROM costs GROUP BY entrant").rows)
    assert found["occlusion"] == COLUMNS + 2
    assert found["exact_shapley"] == 2**COLUMNS
    assert found["kernel_shap"] <= 30
    assert found["gradient"] == make_method("gradient").rows(COLUMNS)


def test_the_oracle_is_the_shapley_value(finished):
    folder, _, _ = finished
    sql = "SELECT \"case\", values FROM attributions WHERE entrant = '{}' ORDER BY 1"
    for one, other in zip(
        query(folder, sql.format("oracle")).rows, query(folder, sql.format("exact_shapley")).rows, strict=True
    ):
        np.testing.assert_allclose(one[1], other[1], atol=1e-12)


def test_a_run_that_ends_early_goes_on_to_the_same_results(finished, tmp_path):
    whole, _, _ = finished
    folder = tmp_path / "tiny"
    first = run(task(), folder, settings(budget=Budget(rows=1)))
    assert first.new == 1
    assert "the same command goes on" in first.sentence
    assert first.left == CASES - 1
    said = []
    second = run(task(), folder, settings(), said.append)
    assert (second.new, second.done) == (CASES - 1, CASES)
    assert any("Going on" in line for line in said)
    assert scores(folder) == scores(whole)


def test_parts_make_the_whole(finished, tmp_path):
    folder = tmp_path / "tiny"
    for part in range(3):
        outcome = run(task(), folder, settings(shard=(part, 3)))
    assert outcome.done == CASES
    assert scores(folder) == scores(finished[0])


def test_ctrl_c_loses_nothing_that_is_computed(finished, tmp_path, monkeypatch):
    folder, examined = tmp_path / "tiny", []
    whole = runner.Examiner.examine

    def interrupted(self, case, number, **options):
        if len(examined) == 3:
            raise KeyboardInterrupt
        examined.append(case.id)
        return whole(self, case, number, **options)

    monkeypatch.setattr(runner.Examiner, "examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(task(), folder, settings())
    assert [row[0] for row in query(folder, 'SELECT "case" FROM cases ORDER BY 1').rows] == sorted(examined)
    monkeypatch.undo()
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    assert run(task(), folder, settings()).new == CASES - 3
    assert scores(folder) == scores(finished[0])


def test_a_shard_that_was_not_finished_counts_for_nothing(finished, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    for path in (folder / "cases").glob("*.parquet"):
        path.unlink()
    assert query(folder, "SELECT count(*) FROM scores").rows == [(0,)]
    assert run(task(), folder, settings()).new == CASES
    assert scores(folder) == scores(finished[0])


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"methods": "occlusion"}, "methods"), ({"seeds": 3}, r"seeds \(2, not 3\)"), ({"cases": 5}, "data")],
)
def test_a_folder_holds_one_run(finished, changed, named):
    with pytest.raises(InputError, match=named):
        run(task(), finished[0], settings(**changed))


def test_another_version_is_refused(finished, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(RecordError, match="version 99"):
        run(task(), folder, settings())
    with pytest.raises(RecordError, match="version 99"):
        read_board(folder)


class Moody(AbstractGameMethod):
    """Explains inputs whose first column is positive."""

    facts = Facts(name="moody", title="Moody", family="perturbation", modalities=("tabular",))

    def rows(self, players):
        return players + 2

    def estimate(self, game, generator):
        found = Occlusion().estimate(game, generator)
        if float(found.full_values[0]) < 0.5:
            raise ZeroDivisionError("not today")
        return found


def test_a_method_that_raises_on_some_inputs_is_listed(tmp_path, monkeypatch):
    known = dict(entrants.all_methods())
    monkeypatch.setattr(entrants, "all_methods", lambda: known | {"moody": Moody})
    folder = tmp_path / "tiny"
    run(task(), folder, settings(methods="moody,occlusion,gradient", curves=0))
    failed = query(folder, "SELECT DISTINCT entrant, error, sentence FROM failures").rows
    assert failed == [("moody", "ZeroDivisionError", "not today")]
    (failed_on,) = query(folder, "SELECT count(*) FROM failures").rows[0]
    assert 0 < failed_on < CASES
    board = read_board(folder)
    (listed,) = [each for each in board.failures if each.entrant == "moody"]
    assert (listed.inputs, listed.of) == (failed_on, CASES)


def test_a_method_that_is_too_dear_for_the_inputs_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(budgets, "MOST_EVALUATIONS", 40)
    folder = tmp_path / "tiny"
    run(task(), folder, settings(methods="exact_shapley,occlusion,gradient", cases=2))
    found = query(folder, "SELECT DISTINCT entrant, sentence FROM failures").rows
    assert [name for name, _ in found] == ["exact_shapley"]
    assert "64 evaluations" in found[0][1]


def test_a_metric_that_fails_the_gate_shows_no_number(tmp_path, monkeypatch):
    broken = (Finding("deterministic for a seed", False, "it is not."),)
    whole = gate.promises_kept
    for room in (preparing, runner):
        monkeypatch.setattr(
            room, "promises_kept", lambda metric: broken if metric.facts.name == "srg" else whole(metric)
        )
    folder = tmp_path / "tiny"
    run(task(), folder, settings())
    board = read_board(folder)
    assert {each.metric: each.valid for each in board.tables}["srg"] is False
    assert all(not each.standings for each in board.tables if each.metric == "srg")
    assert any(each.standings for each in board.tables if each.metric == "morf")


def test_the_gate_looks_at_the_task_too():
    generator = np.random.default_rng(0)
    noise = {name: generator.normal(size=40) for name in ("oracle", "random", "inverted oracle")}
    found = gate.on_the_task(make_metric("srg"), noise)
    assert [each.passed for each in found][:2] == [False, False]
    good = {"oracle": noise["oracle"] + 3, "random": noise["random"], "inverted oracle": noise["oracle"] - 3}
    assert all(each.passed for each in gate.on_the_task(make_metric("srg"), good))
    assert gate.on_the_task(make_metric("srg"), {name: each[:5] for name, each in good.items()}) == []
    assert gate.on_the_task(make_metric("auprc"), noise) == []
    # Low is good.
    assert not gate.on_the_task(make_metric("morf"), good)[0].passed


def test_metrics_that_do_not_fit(tmp_path):
    bare = task(cases=lambda split: [case.__class__(case.id, case.raw, case.cluster) for case in cases(split)])
    with pytest.raises(InputError, match="auprc does not fit the task: it needs a rationale"):
        run(bare, tmp_path, settings(metrics="srg,auprc"))
    with pytest.raises(UnknownNameError, match="did you mean 'srg'"):
        run(bare, tmp_path, settings(metrics="srgg"))
    with pytest.raises(InputError, match="none of the metrics"):
        run(bare, tmp_path, settings(metrics="plausibility"))


def test_names_of_methods():
    with pytest.raises(UnknownNameError, match="did you mean 'occlusion'"):
        entrants.choose("oclusion", "tabular")
    with pytest.raises(InputError, match="rollout"):
        entrants.choose("rollout", "tabular")
    chosen = entrants.choose("rollout,occlusion", "tabular")
    assert [each.name for each in chosen.entrants] == ["occlusion"]
    assert chosen.absent[0][0] == "rollout"
    names = {each.name for each in entrants.choose("relevance", "text").entrants}
    assert "attnlrp" in names
    assert "occlusion" not in names


@pytest.mark.parametrize("players", [3, 7, 20])
@pytest.mark.parametrize("rows", [60, 200])
def test_whoever_draws_gets_the_same_budget(players, rows):
    for entrant in entrants.choose("pellucid", "tabular").entrants:
        if entrant.budget is None:
            continue
        price = budgets.DIFFERENTIATED if entrant.facts.family == "gradient" else 1
        if entrant.kind(**{entrant.budget: 4}).rows(players) * price > rows:
            with pytest.raises(InputError, match="--rows"):
                entrant.method(players, rows)
        else:
            assert entrant.method(players, rows).rows(players) * price <= rows


def test_settings_are_tuned_on_inputs_that_are_not_scored(tmp_path):
    folder = tmp_path / "tiny"
    run(task(), folder, settings(methods="lime,occlusion,gradient", tuning=4))
    manifest = json.loads((folder / MANIFEST).read_text())
    trials = [each for each in manifest["tuning"] if each["entrant"] == "lime"]
    assert len(trials) == 3
    best = max(trials, key=lambda each: each["score"])
    assert best["chosen"]
    assert sum(each["chosen"] for each in trials) == 1
    (lime,) = [each for each in manifest["entrants"] if each["name"] == "lime"]
    assert lime["tuned"]
    assert lime["settings"] == best["settings"]
    assert manifest["tuning_cases"] == 4


def test_the_verdict_is_kept_and_best_takes_it(finished, monkeypatch, tmp_path):
    _, _, verdicts = finished
    (verdict,) = verdicts
    assert verdict.task == "tiny"
    assert verdict.entries[0].method in ("exact_shapley", "kernel_shap")
    assert [each.score for each in verdict.entries] == sorted((each.score for each in verdict.entries), reverse=True)
    # Exact Shapley values are the oracle.
    (exact,) = [each for each in verdict.entries if each.method == "exact_shapley"]
    assert exact.score == pytest.approx(1)
    assert verdict.inputs == CASES // 2
    assert not verdict.enough


def test_random_state_is_left_and_results_do_not_depend_on_it():
    question = pellucid.games.ask(network(), cases("test")[0].raw, imputer="mean")
    chosen = entrants.choose("kernel_shap,occlusion,gradient", "tabular").entrants
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = attributing.attribute_all(question, chosen, (0, 1), 30)
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    np.random.seed(2)
    again = pellucid.games.ask(network(), cases("test")[0].raw, imputer="mean")
    second = attributing.attribute_all(again, chosen, (0, 1), 30)
    for one, other in zip(first.attributed, second.attributed, strict=True):
        np.testing.assert_array_equal(one.attribution.values, other.attribution.values)


def test_query_reads_results_and_nothing_else(finished, tmp_path):
    folder, _, _ = finished
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(InputError, match="disabled"):
        query(folder, f"SELECT * FROM read_csv('{secret}')")
    with pytest.raises(InputError, match="disabled"):
        query(folder, f"COPY scores TO '{tmp_path / 'out.csv'}'")
    with pytest.raises(InputError, match="The tables are scores"):
        query(folder, "SELECT nothing FROM nowhere")
    with pytest.raises(InputError, match="no results"):
        query(tmp_path, "SELECT 1")
    assert query(folder, "SELECT DISTINCT task FROM scores").rows == [("tiny",)]
    assert query(folder.parent, "SELECT DISTINCT task FROM scores").rows == [("tiny",)]


def test_shards_are_readable_by_anyone(finished):
    folder, _, _ = finished
    (path, *_) = sorted((folder / "scores").glob("*.parquet"))
    table = pq.read_table(path)
    assert set(table.column_names) == {"case", "cluster", "entrant", "kind", "seed", "metric", "score"}
    assert set(table["kind"].to_pylist()) == {"method", "reference"}


def test_all_metrics_of_default_exist():
    from pellucid.benchmark.panel import DEFAULT

    assert set(DEFAULT) <= set(all_metrics())


def test_another_target_or_background_is_another_run(finished):
    folder, _, _ = finished
    for changed in ({"target": pellucid.Logit("yes")}, {"background": ([0.0] * COLUMNS,)}):
        with pytest.raises(InputError, match="holds a run with other data"):
            run(task(**changed), folder, settings())


def test_inputs_that_are_scored_tune_nothing(tmp_path):
    with pytest.raises(InputError, match=r"the tuning input 'test-0' is the same as 'test-0', which is scored"):
        run(task(cases=lambda split: cases("test")), tmp_path, settings(methods="lime,occlusion", tuning=2))


def test_a_bad_input_fails_alone_wherever_it_stands(tmp_path):
    bad = Case(id="bad", raw=[1.0], cluster="bad")
    for place in (0, 1):
        known = cases("test", 4)
        known.insert(place, bad)
        folder = tmp_path / str(place)
        outcome = run(task(cases=lambda split, known=known: known), folder, settings(methods="occlusion,gradient"))
        assert outcome.done == 5
        failed = query(folder, 'SELECT DISTINCT "case", entrant FROM failures ORDER BY 2').rows
        assert failed == [("bad", "gradient"), ("bad", "occlusion")]
    with pytest.raises(InputError, match="case 'bad': "):
        run(task(cases=lambda split: [bad]), tmp_path / "none", settings(methods="occlusion", metrics="srg"))


def test_a_row_is_a_row_whether_the_imputer_draws_or_not():
    question = pellucid.games.ask(network(), cases("test")[0].raw, imputer="marginal")
    draws = question.game.imputer.draws
    assert draws == 9
    chosen = entrants.choose("kernel_shap,lime,smoothgrad,occlusion", "tabular").entrants
    # 2^6 coalitions would be enumerated.
    rows = budgets.default_rows(COLUMNS, draws) // 2
    found = {each.entrant.name: each for each in attributing.attribute_all(question, chosen, (0,), rows).attributed}
    for name in ("kernel_shap", "lime"):
        assert rows / 2 < found[name].price.rows <= rows
    assert found["smoothgrad"].price.rows * budgets.DIFFERENTIATED <= rows + 6
    assert found["smoothgrad"].method.samples > draws
    # The whole input is the same in every draw: it is computed once.
    assert found["occlusion"].price.rows == (COLUMNS + 1) * draws + 1
    assert found["occlusion"].price.tokens > 0


def test_who_is_asked_again_pays_for_what_others_asked_before():
    question = pellucid.games.ask(network(), cases("test")[0].raw, imputer="mean")
    chosen = entrants.choose("occlusion,captum:feature_ablation", "tabular").entrants
    ours, theirs = attributing.attribute_all(question, chosen, (0,), 40).attributed
    assert ours.price.rows == COLUMNS + 2
    assert theirs.price.rows >= COLUMNS + 1
    assert theirs.price.tokens >= theirs.price.rows
    np.testing.assert_allclose(ours.attribution.values, theirs.attribution.values, atol=1e-6)


def test_what_cannot_be_tuned_does_not_say_so(tmp_path):
    def bare(split):
        return [Case(case.id, case.raw, case.cluster, rationale=(True,) * COLUMNS) for case in cases(split)]

    # Where everything is marked, AUPRC is undefined or the same for all.
    run(task(cases=bare), tmp_path, settings(methods="lime,occlusion", metrics="sparseness", tuning=2, cases=2))
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert not any(each["tuned"] for each in manifest["entrants"])
    assert manifest["tuning"] == []


def test_a_part_that_is_done_has_not_spent_its_budget(tmp_path):
    outcome = run(task(), tmp_path, settings(methods="occlusion,gradient", shard=(0, 4)))
    assert outcome.left == 0
    assert "budget" not in outcome.sentence
    assert outcome.clusters == 4


def test_an_interrupted_run_has_been_through_the_gate(tmp_path, monkeypatch):
    whole, examined = runner.Examiner.examine, []

    def interrupted(self, case, number, **options):
        if len(examined) == 13:
            raise KeyboardInterrupt
        examined.append(case.id)
        return whole(self, case, number, **options)

    monkeypatch.setattr(runner.Examiner, "examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(task(cases=lambda split: cases(split, 20)), tmp_path, settings())
    board = read_board(tmp_path)
    assert {each.name: each.valid for each in board.tables if each.metric == "srg"} == dict.fromkeys(
        ("srg [mean, column, log-odds, steps=10]", "srg [median, column, log-odds, steps=10]"), True
    )


class Raising(Moody):
    """Explains an input once."""

    facts = Facts(name="raising", title="Raising", family="perturbation", modalities=("tabular",))
    runs: ClassVar[int] = 0

    def estimate(self, game, generator):
        type(self).runs += 1
        if type(self).runs > 1:
            raise ValueError("once only")
        return Occlusion().estimate(game, generator)


def test_what_a_method_raises_when_a_metric_runs_it_again_is_its_failure(tmp_path, monkeypatch):
    known = dict(entrants.all_methods())
    monkeypatch.setattr(entrants, "all_methods", lambda: known | {"raising": Raising})
    run(task(), tmp_path, settings(methods="raising,occlusion", metrics="max_sensitivity", cases=1, curves=0))
    failed = query(tmp_path, "SELECT entrant, metric, error, sentence FROM failures").rows
    assert [row[0] for row in failed] == ["raising"]
    assert failed[0][1].startswith("max_sensitivity")
    assert failed[0][2:] == ("ValueError", "once only")


@pytest.mark.parametrize("text", ["1,5h", "soon", "0m", "", "10", "-3m"])
def test_budgets_that_are_none(text):
    with pytest.raises(InputError, match="is no budget"):
        Budget.parse(text)


def test_budgets():
    assert Budget.parse("1,500rows") == Budget(rows=1500)
    assert Budget.parse("1.5h") == Budget(seconds=5400.0)
