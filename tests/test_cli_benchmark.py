"""``pellucid benchmark`` and ``pellucid cite`` as a person types them."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pellucid.benchmark.tasks import task_names
from pellucid.cli.app import app
from pellucid.cli.benchmark import TASKS

ASKED = ("--task", "wisconsin", "--methods", "occlusion,gradient,lime", "--metrics", "srg,sparseness", "--tune", "0",
         "--cases", "9", "--seeds", "2", "--curves", "1", "--budget", "none")  # fmt: skip


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def sentence(ran, code):
    """The one sentence that an error is told by."""
    assert ran.exit_code == code, ran.output
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("results")
        patch.setenv("PELLUCID_CACHE", str(folder / "cache"))
        ran = run("benchmark", "run", *ASKED, "--out", folder)
        assert ran.exit_code == 0, ran.output
        again = run("benchmark", "run", *ASKED, "--out", folder, "--json")
    return folder, ran, again


def test_a_run_says_what_it_does_and_writes_the_leaderboard(results):
    folder, ran, again = results
    assert "9 of 9 inputs have results" in ran.stdout
    assert "not enough for a claim" in ran.stdout
    assert "The first input took" in ran.stderr
    for ending in ("html", "md", "csv"):
        assert (folder / f"leaderboard.{ending}").stat().st_size > 1000
    page = (folder / "leaderboard.html").read_text("utf-8")
    assert "<script" not in page
    assert "@" in page
    # The same command finds everything done.
    assert json.loads(again.stdout)[0] | {"seconds": 0} == {
        "folder": str(folder / "wisconsin"), "done": 9, "clusters": 9, "new": 0, "left": 0, "of": 9, "rows": 0,
        "seconds": 0,
    }  # fmt: skip


def test_the_report_in_every_form(results, tmp_path):
    folder, _, _ = results
    ran = run("benchmark", "report", folder, "--csv", tmp_path / "a.csv", "--markdown", tmp_path / "a.md")
    assert ran.exit_code == 0, ran.output
    assert "occlusion" in ran.stdout
    assert not (tmp_path / "a.html").exists()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text("utf-8"))))
    assert {"occlusion", "gradient", "lime", "random", "oracle"} <= {row["entrant"] for row in rows}
    (board,) = json.loads(run("benchmark", "report", folder, "--json").stdout)
    assert board["task"] == "wisconsin"
    assert board["enough"] is False


def test_queries(results):
    folder, _, _ = results
    sql = "SELECT entrant, count(*) AS n FROM attributions WHERE kind = 'method' GROUP BY 1 ORDER BY 1"
    found = json.loads(run("benchmark", "query", folder, sql, "--json").stdout)
    assert found == [{"entrant": "gradient", "n": 9}, {"entrant": "lime", "n": 18}, {"entrant": "occlusion", "n": 9}]
    assert "occlusion" in run("benchmark", "query", folder, sql).stdout
    assert "The tables are" in sentence(run("benchmark", "query", folder, "SELECT x FROM y"), 2)
    sql = "SELECT 1.5 AS number, DATE '2024-05-01' AS day, [1.25, NULL] AS many, NULL AS nothing"
    (row,) = json.loads(run("benchmark", "query", folder, sql, "--json").stdout)
    assert row == {"number": 1.5, "day": "2024-05-01", "many": [1.25, None], "nothing": None}
    assert "named 'a'" in sentence(run("benchmark", "query", folder, "SELECT 1 AS a, 2 AS a", "--json"), 2)


def test_a_query_names_a_broken_shard_as_a_report_does(results, tmp_path):
    folder = shutil.copytree(results[0], tmp_path / "broken")
    next((folder / "wisconsin" / "scores").glob("*.parquet")).write_bytes(b"nothing")
    said = sentence(run("benchmark", "query", folder, "SELECT 1"), 1)
    assert said == sentence(run("benchmark", "report", folder), 1)
    assert "run the benchmark again" in said


def test_citations(results):
    folder, _, _ = results
    found = run("cite", folder).stdout
    assert "{ribeiro2016," in found
    assert "{blucher2024," in found
    assert "{achtibat2024," in run("cite", "attnlrp").stdout
    assert "atnlrp" in sentence(run("cite", "atnlrp"), 2)


def test_the_names_that_completion_knows_are_the_tasks():
    assert sorted(TASKS) == sorted(task_names())


def test_tasks_are_listed():
    found = {each["name"]: each for each in json.loads(run("benchmark", "tasks", "--json").stdout)}
    assert set(found) == set(task_names())
    assert found["wisconsin"]["features"] == "column"
    # Without its data a task says what it needs.
    assert "--data" in found["hatexplain"]["title"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "ssst2"), "did you mean 'sst2'"),
        (("--task", "wisconsin", "--methods", "oclusion"), "did you mean 'occlusion'"),
        (("--task", "wisconsin", "--metrics", "srgg"), "did you mean 'srg'"),
        (("--task", "wisconsin", "--budget", "soon"), "10m"),
        (("--task", "wisconsin", "--shard", "5/4"), "1/4"),
        (("--task", "wisconsin", "--metrics", "auprc"), "rationale"),
        (("--task", "hatexplain"), "--data"),
        (("--task", "wisconsin-boosting", "--methods", "gradient"), "needs gradients"),
        (("--task", "missing.yaml"), "missing.yaml"),
    ],
)
def test_bad_input_gets_one_sentence(words, said, tmp_path):
    assert said in sentence(run("benchmark", "run", *words, "--out", tmp_path / "out"), 2)


def test_folders_that_do_not_fit(results, tmp_path):
    folder, _, _ = results
    changed = [*ASKED, "--rows", "60", "--out", folder]
    assert "other rows (null, not 60)" in sentence(run("benchmark", "run", *changed), 2)
    assert "no results" in sentence(run("benchmark", "report", tmp_path), 2)
    manifest = json.loads((folder / "wisconsin" / "run.json").read_text("utf-8"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text(json.dumps(manifest | {"version": 0}))
    assert "version 0" in sentence(run("benchmark", "report", tmp_path), 1)
    assert "version 0" in sentence(run("benchmark", "query", tmp_path, "SELECT 1"), 1)


def test_best_by_this_benchmark(results, tmp_path, monkeypatch):
    folder, _, _ = results
    monkeypatch.setenv("PELLUCID_CACHE", str(folder / "cache"))
    row = Path(__file__).parent / "fixtures" / "wisconsin.csv"
    with row.open(encoding="utf-8") as file:
        values = next(csv.DictReader(file))
    kept = {name: value for name, value in values.items() if name not in ("row", "label", "diagnosis", "target")}
    (tmp_path / "row.json").write_text(json.dumps(kept))
    ran = run("explain", "--model", "wisconsin-mlp", "--row", tmp_path / "row.json", "--method", "best", "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["selection"]["source"] == "benchmark"
    assert found["method"] == found["selection"]["candidates"][0]["method"]
    assert {each["method"] for each in found["selection"]["candidates"]} == {"occlusion", "gradient", "lime"}
