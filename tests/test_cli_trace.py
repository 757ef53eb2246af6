"""``pellucid trace`` and ``pellucid composites``: what they print, what they write, and what bad input gets."""

import dataclasses
import importlib
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

import pellucid
from pellucid.cli import app
from pellucid.cli.failures import ExitCode
from pellucid.methods import all_methods
from pellucid.methods.relevance import relevance_method
from pellucid.relevance import Composite, Kind, all_composites
from pellucid.relevance.catalogue import DEFAULT
from pellucid.report.heatmap import MINUS
from pellucid.report.layer_table import MOST_FEATURES, MOST_LAYERS, evenly, layers_renderable
from pellucid.testing import TEXT, tiny_model

PICTURE = min((Path(__file__).parent / "fixtures" / "fashion-mnist").glob("*.png"))
ROW = {
    "age": 52, "horTh": "yes", "menostat": "Post", "tsize": 30, "tgrade": "II", "pnodes": 5, "progrec": 10,
    "estrec": 20,
}  # fmt: skip
ASKED = ("--text", TEXT, "--label", "malignant")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of twelve narrow layers over two labels, in a folder."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = tiny_model().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=12, num_attention_heads=2,
        max_position_embeddings=32, id2label={0: "benign", 1: "malignant"}, label2id={"benign": 0, "malignant": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A tiny language model, in a folder."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().module.save_pretrained(folder)
    tiny_model().tokenizer.save_pretrained(folder)
    return str(folder)


def run(*words, **options):
    return CliRunner(**options).invoke(app, [str(word) for word in words])


def trace(model, *words):
    return run("trace", "--model", model, *words)


def sentence(result, exit_code):
    """The one line of a failure: nothing on standard output, no traceback, the documented exit code."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def process(*words):
    command = [sys.executable, "-m", "pellucid", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


# trace


def test_the_drawing_has_checks_features_account_and_layers_in_this_order(classifier):
    ran = trace(classifier, *ASKED, "--account")
    assert (ran.exit_code, ran.stderr) == (0, ""), ran.output
    text = ran.stdout
    places = [
        text.index(word)
        for word in ("checked", f"{DEFAULT['text']}: log-odds of 'malignant'", "where the relevance went")
    ]
    assert [*places, text.index("relevance by layer")] == sorted([*places, text.index("relevance by layer")])
    assert "8 of 12 layers" in text
    assert "where the relevance went" not in trace(classifier, *ASKED).stdout


def test_json_is_the_librarys_own_result(classifier):
    ran = trace(classifier, *ASKED, "--composite", "lrp-epsilon", "--json")
    assert (ran.exit_code, ran.stderr) == (0, "")
    document = json.loads(ran.stdout)
    model = pellucid.load(classifier)
    expected = pellucid.explain(model, TEXT, method="lrp-epsilon", target=pellucid.Margin(label="malignant")).to_json()
    changing = {"cost", "checks"}
    assert {k: v for k, v in document.items() if k not in changing} == {
        k: v for k, v in expected.items() if k not in changing
    }
    assert np.shape(document["layer_values"]) == (1, 12, 7)
    assert document["account"] == []


def test_an_account_is_in_the_document_on_demand(classifier):
    document = json.loads(trace(classifier, *ASKED, "--account", "--json").stdout)
    rows = document["account"]
    assert {"operation", "module", "in", "out", "absorbed", "leaked"} == set(rows[0])
    assert all(abs(row["in"] - row["out"] - row["absorbed"] - row["leaked"]) < 1e-6 for row in rows)
    assert {"linear", "layer_norm", "scaled_dot_product_attention"} <= {row["operation"] for row in rows}


@pytest.mark.parametrize("name", list(all_composites()))
def test_every_composite_traces(classifier, name):
    ran = trace(classifier, *ASKED, "--composite", name, "--checks", "none", "--json")
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    # The sum of a gradient over an embedding means nothing.
    method = "gradient" if name == "gradient" else relevance_method(pellucid.composite(name))()
    model, target = pellucid.load(classifier), pellucid.Margin(label="malignant")
    expected = pellucid.explain(model, TEXT, method=method, target=target, checks="none")
    assert document["method"] == name
    assert document["values"] == expected.values.tolist()


@pytest.mark.parametrize(
    ("modality", "words"),
    [
        ("text", ["CLASSIFIER", "--text", TEXT]),
        ("image", ["fashion-cnn", "--image", PICTURE]),
        ("tabular", ["gbsg2-mlp", *(word for item in ROW.items() for word in ("--column", "{}={}".format(*item)))]),
    ],
)
def test_the_default_composite_is_that_of_the_kind_of_input(classifier, monkeypatch, modality, words):
    for composite in (DEFAULT[modality], "zplus"):
        monkeypatch.setitem(DEFAULT, modality, composite)
        model, *rest = [classifier if word == "CLASSIFIER" else word for word in words]
        ran = trace(model, *rest, "--checks", "none", "--json")
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout)["method"] == composite


def test_each_token_of_an_answer_is_a_target_of_one_pass(language_model):
    document = json.loads(trace(language_model, "--text", TEXT, "--tokens", "high risk", "--json").stdout)
    assert document["output_names"] == ["high", "risk"]
    assert np.shape(document["values"]) == (2, 7)
    assert np.ptp(document["values"], axis=0).max() > 0


def test_a_page_and_an_archive_are_written(classifier, tmp_path):
    page, archive = tmp_path / "page.html", tmp_path / "saved.zip"
    ran = trace(classifier, *ASKED, "--account", "--html", page, "--save", archive)
    assert (ran.exit_code, ran.stdout) == (0, ""), ran.output
    assert ran.stderr.splitlines() == [f"Saved {archive}", f"Wrote {page}"]
    saved = pellucid.Explanation.load(archive)
    assert saved.account
    assert saved.layer_names[0] == "bert.encoder.layer.0"
    assert "bert.encoder.layer.11" in page.read_text("utf-8")


def test_layers_draws_every_layer(classifier):
    some, every = (trace(classifier, *ASKED, *words).stdout for words in ([], ["--layers"]))
    names = [f"bert.encoder.layer.{place} " for place in range(12)]
    assert sum(name in some for name in names) == MOST_LAYERS
    assert all(name in every for name in names)
    assert every.index(names[11]) < every.index(names[0]) < every.index("\n input")


def test_the_numbers_of_the_layer_table_are_those_of_the_explanation(classifier):
    explanation = pellucid.explain(
        pellucid.load(classifier),
        " ".join(TEXT.split() * 2),
        method="attnlrp",
        target=pellucid.Margin(label="malignant"),
    )
    console = Console(width=200, color_system=None, file=StringIO())
    console.print(layers_renderable(explanation, every=True))
    rows = [line.split() for line in console.file.getvalue().replace(MINUS, "-").splitlines()]
    numbers = {row[0]: [float(number) for number in row[1:]] for row in rows if row and ".layer." in row[0]}
    kept = np.sort(np.argsort(-np.abs(explanation.values[0]))[:MOST_FEATURES])
    assert len(numbers) == 12
    for place, name in enumerate(explanation.layer_names):
        np.testing.assert_allclose(numbers[name], explanation.layer_values[0, place, kept], rtol=6e-3, atol=5.1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 30, 31, 100])
def test_rows_are_spread_evenly(count):
    found = evenly(count, 8)
    assert found == sorted(set(found))
    assert (found[0], found[-1], len(found)) == (0, count - 1, min(count, 8))
    assert max(np.diff(found), default=1) - min(np.diff(found), default=1) <= 1


# What bad input gets

BAD = {
    "unknown composite": (
        (*ASKED, "--composite", "atnlrp"),
        "no composite is called 'atnlrp'; did you mean 'attnlrp'?",
    ),
    "a method's name": ((*ASKED, "--composite", "occlusion"), "no composite is called 'occlusion'"),
    "an account of gradients": (
        (*ASKED, "--composite", "gradient", "--account"),
        "only relevance can be accounted for",
    ),
    "an option of explain": ((*ASKED, "--baseline", "mask"), "No such option"),
    "unknown option": ((*ASKED, "--acount"), "No such option"),
    "empty text": (("--text", " "), "the text is empty"),
    "no text": ((), "exactly one of --text, --prompt-file, --template"),
    "unknown label": (("--text", TEXT, "--label", "maligant"), "did you mean 'malignant'"),
    "too long": (("--text", "tumour " * 70), "too long"),
    "no folder for the page": ((*ASKED, "--html", "nowhere/page.html"), "there is no folder 'nowhere'"),
    "another kind of input": (("--image", str(PICTURE)), "reads text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_2(classifier, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    words, expected = BAD[case]
    assert expected in sentence(trace(classifier, *words), 2)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_composite_is_told_before_a_model_is_looked_for(tmp_path):
    said = sentence(trace(tmp_path / "nowhere", *ASKED, "--composite", "atnlrp"), 2)
    assert "no composite is called 'atnlrp'" in said


class _Odd(nn.Module):
    """An activation by a function that is in no table."""

    def forward(self, x):
        return torch.special.erfcx(x)


@pytest.fixture
def odd(classifier, monkeypatch):
    """The classifier, with an operation that no composite has a rule for."""
    model = pellucid.load(classifier)
    model.module.bert.encoder.layer[3].intermediate.intermediate_act_fn = _Odd()
    monkeypatch.setattr("pellucid.models.load", lambda *_, **__: model)
    return classifier


def test_an_operation_without_a_rule_is_one_sentence_and_exit_3(odd):
    said = sentence(trace(odd, *ASKED), 3)
    assert "no rule for 'special_erfcx'" in said
    assert "bert.encoder.layer.3.intermediate.intermediate_act_fn" in said
    assert "with_rule" in said


def test_an_operation_without_a_rule_is_approximated_on_demand_and_listed(odd):
    ran = trace(odd, *ASKED, "--approximate", "--json")
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    (listed,) = document["settings"]["approximated"]
    assert listed.startswith("special_erfcx at ")
    assert "no rule is there for special_erfcx" in " ".join(trace(odd, *ASKED, "--approximate").stdout.split())


def test_the_program_itself_ends_with_the_documented_codes(tmp_path):
    misspelt = process("trace", "--model", "fashion-cnn", "--image", PICTURE, "--composite", "atnlrp")
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert misspelt.stderr.count("\n") == 1
    assert "did you mean 'attnlrp'" in misspelt.stderr
    nowhere = process("trace", "--model", tmp_path / "nowhere", "--text", "a")
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    assert "could not be loaded" in nowhere.stderr
    done = process("trace", "--model", "fashion-cnn", "--image", PICTURE, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["values"][0]) == 49


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_behind_standard_output_is_one_sentence():
    command = [sys.executable, "-m", "pellucid", "composites", "--json"]
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert ran.returncode == ExitCode.FILE
    assert ran.stderr == "Error: 'standard output' cannot be read or written: No space left on device.\n"


# composites


def test_composites_as_a_table_and_as_json():
    documents = json.loads(run("composites", "--json").stdout)
    assert [document["name"] for document in documents] == list(all_composites())
    keys = {field.name for field in dataclasses.fields(pellucid.Facts)} | {"carrier"}
    for document, composite in zip(documents, all_composites().values(), strict=True):
        assert set(document) == keys
        assert (document["carrier"], document["class_specific"]) == (composite.carrier, composite.facts.class_specific)
    shown = run("composites").stdout
    assert all(f" {name} " in shown for name in all_composites())
    assert "backtrace: The authors of DLBacktrace call its algorithm patent-pending" in shown


def test_the_rules_of_one_composite():
    shown = run("composites", "attnlrp").stdout
    assert all(repr(rule) in shown for rule in pellucid.composite("attnlrp").values())
    document = json.loads(run("composites", "attnlrp", "--json").stdout)
    assert {rule["key"] for rule in document["rules"]} > {str(kind) for kind in (Kind.LINEAR, Kind.ATTENTION)}
    assert {"key": "NewGELUActivation", "rule": "Ratio()"} in document["rules"]
    assert len(document["rules"]) == len(pellucid.composite("attnlrp"))
    assert "did you mean 'reslrp'" in sentence(run("composites", "resrlp"), 2)


@pytest.fixture
def plugin(monkeypatch):
    """A composite of another package, under an entry point."""
    known = pellucid.composite("lrp-0")
    facts = dataclasses.replace(known.facts, name="theirs", title="Theirs")
    theirs = Composite("theirs", known.carrier, dict(known), facts, fallback=known.fallback)
    entry = SimpleNamespace(load=lambda: theirs, value="their_package:theirs")
    # In its package a function of that name stands before the module.
    module = importlib.import_module("pellucid.relevance.catalogue")
    monkeypatch.setattr(module, "entry_points", lambda group: [entry])
    for cached in (all_composites, all_methods):
        cached.cache_clear()
    yield theirs
    monkeypatch.undo()
    for cached in (all_composites, all_methods):
        cached.cache_clear()


def test_a_plugged_in_composite_is_one_like_any_other(plugin, classifier):
    assert "Theirs" in run("composites").stdout
    traced = json.loads(trace(classifier, *ASKED, "--composite", "theirs", "--json").stdout)
    explained = json.loads(run("explain", "--model", classifier, *ASKED, "--method", "theirs", "--json").stdout)
    ours = json.loads(trace(classifier, *ASKED, "--composite", "lrp-0", "--json").stdout)
    assert traced["method"] == "theirs"
    assert traced["values"] == explained["values"] == ours["values"]


def test_a_plugged_in_composite_must_not_take_a_name(plugin):
    plugin.name = "attnlrp"
    assert "both define a composite 'attnlrp'" in sentence(run("composites"), 2)
