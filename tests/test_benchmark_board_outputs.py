"""A leaderboard as Markdown and CSV, and the papers of those that took part."""

import csv
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from benchmark_runs import Run
from pellucid.benchmark.board import read_board
from pellucid.benchmark.citing import bibliography, citations, papers, taking_part
from pellucid.benchmark.csv_output import board_csv
from pellucid.benchmark.markdown import board_markdown
from pellucid.benchmark.peers import PEERS
from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.methods import all_methods
from pellucid.metrics import all_metrics
from pellucid.report.heatmap import MINUS

SOURCE = Path(__file__).parent.parent / "src" / "pellucid"
SRG, MORF = "srg [mask, word, log-odds]", "morf [mask, word, log-odds]"


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    scores = {
        name: generator.normal(size=20) / 10 + shift
        for name, shift in {
            "kernel_shap": 1.0,
            "captum:lime": 0.5,
            "occlusion": 0.2,
            "random": 0.0,
            "oracle": 2,
        }.items()
    }
    scores["occlusion"][:9] = np.nan
    run = Run({SRG: scores, MORF: scores})
    run.manifest["gate"] = [
        {"name": SRG, "findings": [["fine", True, ""]]},
        {"name": MORF, "findings": [["oracle beats random", False, "p = 0.4."], ["fine", True, ""]]},
    ]
    for case in range(20):
        run.cost("kernel_shap", case, rows=128, seconds=0.25, memory=2**20)
    run.entrant("kernel_shap").update(settings={"samples": 9}, tuned=True, baseline="mask")
    return run.write(tmp_path / "results")


def test_csv_has_a_row_for_each_entrant_under_each_metric(folder):
    board = read_board(folder)
    rows = list(csv.DictReader(StringIO(board_csv([board]))))
    found = {row["entrant"]: row for row in rows if row["metric"] == SRG}
    assert set(found) == {"kernel_shap", "captum:lime", "random", "oracle"}
    for each in board.tables[0].standings:
        row = found[each.entrant]
        assert [float(row[name]) for name in ("mean", "low", "high")] == [each.mean, each.low, each.high]
        assert row["rank"] == ("" if each.rank is None else str(each.rank))
    best, other = found["kernel_shap"], found["captum:lime"]
    assert (best["difference"], best["rows"], best["settings"], best["tuned"]) == ("", "128.0", "samples=9", "true")
    assert (best["same_imputer"], other["same_imputer"], other["rows"], other["kind"]) == ("true", "false", "", "peer")
    assert float(other["difference_low"]) < float(other["difference"]) < float(other["difference_high"]) < 0
    (withheld,) = (row for row in rows if row["metric"] == MORF)
    assert (withheld["valid"], withheld["entrant"], withheld["mean"]) == ("false", "", "")
    assert {row["task"] for row in rows} == {"toy"}


def test_markdown_says_what_matters_first_and_withholds_what_is_not_valid(folder):
    board = read_board(folder)
    text = board_markdown(board)
    assert text.index("Not enough for a claim: 20 independent inputs") < text.index(f"## {SRG}")
    section = text[text.index(f"## {MORF}") :].split("\n## ")[0]
    assert "- oracle beats random: p = 0.4." in section
    assert "|" not in section
    best = board.tables[0].standings[0]
    assert f"| 1 | `kernel_shap` (its own imputer) | {best.mean:.3f} [{best.low:.3f}, {best.high:.3f}] |" in text
    assert f"- `occlusion`: 9 of 20 inputs, not ranked: not ranked under {SRG}: the score is undefined there." in text
    assert "| `kernel_shap` | 128 | 0 | 0.25 | 1 MiB | samples=9 (tuned) |" in text
    assert "- `shap:partition`: SHAP is not installed" in text


def test_every_markdown_table_has_as_many_cells_in_each_row(folder):
    for block in re.findall(r"(?:^\|.*\n)+", board_markdown(read_board(folder)), re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_pipe_or_a_line_break_does_not_break_a_table(folder, tmp_path):
    run = Run({SRG: {"a": [1.0, 2.0], "b": [0.0, 1.0]}})
    run.cost("a", 0)
    run.entrant("a")["settings"] = {"pattern": "x|y\nz"}
    assert r"| pattern=x\|y z |" in board_markdown(read_board(run.write(tmp_path / "other")))


def test_one_input_has_no_interval(tmp_path):
    text = board_markdown(read_board(Run({SRG: {"a": [1.0], "b": [0.25]}}).write(tmp_path)))
    assert "| 1 | `a` | 1.000 | - |" in text
    assert f"| 2 | `b` | 0.250 | - | {MINUS}0.750 | 1.000 |" in text


def test_citations_are_the_entries_of_the_papers_each_once():
    text = citations([SRG, "kernel_shap", "captum:kernel_shap", "srg"])
    assert text.splitlines()[:3] == [
        "% srg: blucher2024",
        "% kernel_shap: lundberg2017, covert2021",
        "% captum:kernel_shap: kokhlikyan2020, lundberg2017",
    ]
    assert re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE) == [
        "blucher2024",
        "covert2021",
        "kokhlikyan2020",
        "lundberg2017",
    ]
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("gae", ("chefer2021iccv",)),
        ("transatt", ("chefer2021cvpr",)),
        ("reslrp", ("reslrp2026",)),
        ("attnlrp", ("achtibat2024",)),
        ("path_integral", ("geukesfoppen2026", "sundararajan2017")),
        ("owen", ("owen1977", "winter1989")),
        ("auroc", ("hanley1982",)),
        ("expnet_relevance", ("jethwani2022", "covert2024")),
        ("lime:text", ("ribeiro2016",)),
    ],
)
def test_papers_come_from_docstrings_and_sources(name, keys):
    assert papers(name) == keys


@pytest.mark.parametrize("name", [*all_methods(), *all_metrics(), *(peer.facts.name for peer in PEERS)])
def test_everything_that_takes_part_can_be_cited(name):
    assert papers(name)


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'kernel_shap'"):
        citations(["kernel_shop"])


def test_who_takes_part(folder, tmp_path):
    assert (
        taking_part(folder) == taking_part(folder.parent) == ["kernel_shap", "captum:lime", "occlusion", "srg", "morf"]
    )
    assert citations(taking_part(folder))
    with pytest.raises(InputError, match="no results"):
        taking_part(tmp_path / "nothing")
    (folder / "run.json").write_text('{"version": 1}', "utf-8")
    with pytest.raises(RecordError, match="does not say who took part"):
        taking_part(folder)


# The bibliography


def test_the_bibliography_is_whole_and_in_order():
    text = (SOURCE / "references.bib").read_text("utf-8")
    keys = re.findall(r"^@\w+\{(.*),$", text, re.MULTILINE)
    assert keys == sorted(set(keys))
    assert keys == list(bibliography())
    assert text.splitlines()[0].startswith("%")
    for key, entry in bibliography().items():
        assert entry.count("{") == entry.count("}"), key
        assert re.search(r"\btitle\s*= \{", entry), key
        assert re.search(r"\byear\s*= \{\d{4}\}", entry), key


def test_every_key_in_brackets_is_known():
    named = {
        (path.name, key)
        for path in SOURCE.rglob("*.py")
        for group in re.findall(r"\[([^\[\]\n]+)\]", path.read_text("utf-8"))
        for part in re.split("[;,]", group)
        for key in re.findall(r"^\s*([a-z]+[12][0-9]{3}[a-z]*)\b", part)
    }
    assert ("owen.py", "winter1989") in named
    assert sorted(each for each in named if each[1] not in bibliography()) == []
