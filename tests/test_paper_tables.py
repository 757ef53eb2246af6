"""The redone tables of a paper: what is better is marked in the metric's direction, and printed numbers as such."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from paper_published import TABLES  # noqa: E402
from paper_tables import SUBJECTS  # noqa: E402
from paper_tables_page import against, cell, corrected, page  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "paper_tables.json"


def column(differences, higher_is_better, name="morf"):
    """A column in which a method's score is its difference to that of ``backtrace``, which has 0."""
    rows = {"backtrace": {"mean": 0.0, "low": -0.1, "high": 0.1, "values": [0.0], "defined": 1}}
    for label, (value, p) in differences.items():
        ends = {"mean": value, "low": value - 0.1, "high": value + 0.1}
        rows[label] = {**ends, "values": [value], "defined": 1, "difference": ends, "p": p, "wins": 0.5}
    return {"column": name, "metric": "morf [mask]", "higher_is_better": higher_is_better, "rows": rows}


@pytest.mark.parametrize("higher", [True, False])
def test_better_is_bold_and_worse_in_italics_in_the_direction_of_the_metric(higher):
    given = column({"up": (0.5, 0.001), "down": (-0.5, 0.001), "near": (0.5, 0.9)}, higher)
    p = corrected(given["rows"])
    marks = {label: cell(given, label, p.get(label)) for label in given["rows"]}
    assert [label for label, text in marks.items() if text.startswith("**")] == ["up" if higher else "down"]
    assert [label for label, text in marks.items() if text[0] == "*" != text[1]] == ["down" if higher else "up"]
    assert "not told apart: `near`" in against(given, p)


def test_many_methods_need_a_smaller_p():
    p = corrected(column({f"m{index}": (1.0, 0.03) for index in range(5)}, True)["rows"])
    assert p == pytest.approx({f"m{index}": 0.15 for index in range(5)})


def test_a_control_has_no_winner():
    given = column({"up": (0.5, 0.001)}, None, "complexity")
    assert "*" not in cell(given, "up", 0.001)
    assert "nobody wins" in against(given, {"up": 0.001})


def test_what_the_paper_printed_is_marked_and_few_inputs_are_no_claim():
    subject = {
        "task": "a task", "model": "m", "table": "text", "features": [3, 9], "imputer": "mask", "inputs": 5,
        "clusters": 5, "columns": [column({}, True, "delta")], "seconds": {"backtrace": 0.1}, "failed": {"lime": "No."},
    }  # fmt: skip
    text = page({"sst2": subject})
    assert "not measured by us" in text
    assert "53.48" in text
    assert "Not enough for a claim: 5 independent inputs" in text
    assert "`lime` has no row: No." in text
    assert "Lending Club" not in text


def test_every_subject_has_a_table_of_the_paper_and_its_method():
    assert {subject.table for subject in SUBJECTS.values()} == set(TABLES)
    assert all("backtrace" in subject.methods for subject in SUBJECTS.values())


@pytest.mark.skipif(not RESULTS.exists(), reason="the benchmark was not run")
def test_the_page_is_that_of_the_results():
    written = (ROOT / "docs" / "benchmarks-papers.md").read_text("utf-8")
    assert written == page(json.loads(RESULTS.read_text("utf-8"))), "run: python benchmarks/paper_tables.py --page"
