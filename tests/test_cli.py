"""The command line: what it prints where, and what every failure becomes."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from pydantic import BaseModel, ValidationError
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

import pellucid
from pellucid.audit.config import AuditConfig
from pellucid.audit.keys import open_keys
from pellucid.audit.ledger import Ledger
from pellucid.cli import app, options
from pellucid.cli.failures import ExitCode, failure, told
from pellucid.errors import ModelError, NumericalError, RecordError
from pellucid.methods import all_methods
from pellucid.metrics import all_metrics
from pellucid.models import NAMES
from pellucid.models.loading import DTYPES
from pellucid.models.pictures import IMAGE_KINDS
from pellucid.models.text import TEXT_KINDS
from pellucid.testing import TEXT, tiny_model

# typer itself takes pydantic to convert what stands on a command line, so only importing the commands is free of it.
HEAVY = ("torch", "transformers", "numpy", "jinja2", "pyarrow", "duckdb", "safetensors", "yaml")
PICTURE = min((Path(__file__).parent / "fixtures" / "fashion-mnist").glob("*.png"))
EXAMPLE = ("--text", TEXT, "--target", "high", "--method", "occlusion")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny language model, in a folder."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().module.save_pretrained(folder)
    tiny_model().tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny classifier over two labels, in a folder."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = tiny_model().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, id2label={0: "benign", 1: "malignant"}, label2id={"benign": 0, "malignant": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def run(*words, given=None):
    return CliRunner().invoke(app, [str(word) for word in words], input=given)


def explain(model, *words, given=None):
    return run("explain", "--model", model, *words, given=given)


def sentence(result, exit_code):
    """The one line of a failure: nothing on standard output, no traceback, the documented exit code."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith((".", "--help"))
    return line


def process(*words, entry=("-m", "pellucid"), **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | options
    return subprocess.run([sys.executable, *entry, *words], text=True, check=False, **options)


# The program as a whole


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = {*HEAVY, "pydantic", "rich"}
    ran = process(entry=("-c", f"import sys, pellucid.cli\nprint(sorted({heavy!r} & set(sys.modules)))"))
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_version_and_help_import_nothing_heavy():
    for words, expected in ((["--version"], pellucid.__version__), (["--help"], "explain")):
        ran = process(*words, entry=("-X", "importtime", "-m", "pellucid"))
        assert ran.returncode == 0
        assert expected in ran.stdout
        imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
        assert "pellucid.cli.app" in imported
        assert imported.isdisjoint(HEAVY)


def test_every_command_has_help_without_anything_heavy():
    commands = [["explain"], ["trace"], ["methods"], ["composites"], ["audit"]]
    commands += [["audit", name] for name in ("run", "demo", "verify", "replay", "report", "init")]
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom pellucid.cli import app\n"
        f"for words in {commands!r}:\n"
        "    ran = CliRunner().invoke(app, [*words, '--help'])\n"
        "    assert ran.exit_code == 0 and 'Usage' in ran.stdout, (words, ran.output)\n"
        f"assert not {set(HEAVY)!r} & set(sys.modules), sorted(sys.modules)\n"
    )
    ran = process(entry=("-c", code))
    assert ran.returncode == 0, ran.stderr


def test_the_console_script_and_the_module_are_one():
    script = Path(sys.executable).with_name("pellucid")
    ran = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout == process("--version").stdout == f"pellucid {pellucid.__version__}\n"


def test_without_a_command_the_help_is_shown():
    assert run().exit_code == 0
    assert "explain" in run().stdout


@pytest.mark.parametrize(
    ("typed", "offered", "not_offered"),
    [
        ("pellucid explain --method kernel", "kernel_shap", "occlusion"),
        ("pellucid explain --method attn", "attnlrp", "reslrp"),
        ("pellucid trace --composite back", "backtrace-contrast", "attnlrp"),
        ("pellucid composites al", "alpha-beta", "zplus"),
        ("pellucid explain --model smol", "smollm2", "smollm3"),
        ("pellucid explain --features w", "word", "token"),
        ("pellucid audit run --dtype bf", "bfloat16", "float32"),
        ("pellucid audit ver", "verify", "replay"),
    ],
)
def test_completion_imports_nothing_heavy(typed, offered, not_offered):
    words = {"_PELLUCID_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    code = "import sys\nfrom pellucid.cli import app\ntry:\n    app(prog_name='pellucid')\nfinally:\n" + (
        f"    assert not {set(HEAVY)!r} & set(sys.modules)\n"
    )
    ran = process(entry=("-c", code), env=os.environ | words)
    assert ran.returncode == 0, ran.stderr
    assert offered in ran.stdout.split()
    assert not_offered not in ran.stdout


def test_completion_can_be_installed():
    assert "--install-completion" in run("--help").stdout


def test_what_completion_offers_is_what_there_is():
    built_in = {name for name, method in all_methods().items() if method.__module__.startswith("pellucid.")}
    assert set(options.method_names()) == built_in
    assert set(options.COMPOSITES) == set(pellucid.composites())
    assert set(options.MODELS) == set(NAMES)
    assert set(options.FEATURES) == {*TEXT_KINDS, *IMAGE_KINDS, "column", "latents"}
    assert set(options.DTYPES) == set(DTYPES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_behind_standard_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        ran = process("--version", stdout=full)
    assert ran.returncode == ExitCode.FILE
    assert ran.stderr == "Error: 'standard output' cannot be read or written: No space left on device.\n"


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = process("--version", stdout=writing)
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (ExitCode.READER_GONE, "")


# explain


def test_explain_draws_the_checks_first(model):
    ran = explain(model, *EXAMPLE)
    assert ran.exit_code == 0, ran.output
    assert ran.stderr == ""
    text = ran.stdout
    assert text.index("checked") < text.index("occlusion: log-probability of 'high'") < text.index("tumour")


def test_explain_json_is_the_librarys_own_result(model):
    ran = explain(model, *EXAMPLE, "--json")
    assert (ran.exit_code, ran.stderr) == (0, "")
    document = json.loads(ran.stdout)
    expected = pellucid.explain(
        pellucid.load(model), TEXT, method="occlusion", target=pellucid.Answer("high")
    ).to_json()
    changing = {"cost", "checks"}
    assert {k: v for k, v in document.items() if k not in changing} == {
        k: v for k, v in expected.items() if k not in changing
    }


def test_all_outputs_that_are_asked_for_are_made(model, tmp_path):
    page, archive = tmp_path / "page.html", tmp_path / "saved.zip"
    ran = explain(model, *EXAMPLE, "--json", "--html", page, "--save", archive)
    assert ran.exit_code == 0, ran.output
    assert ran.stderr.splitlines() == [f"Saved {archive}", f"Wrote {page}"]
    values = json.loads(ran.stdout)["values"]
    assert pellucid.Explanation.load(archive).values.tolist() == values
    text = page.read_text("utf-8")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "saved.zip"]


def test_a_page_alone_prints_nothing_and_quiet_nothing_at_all(model, tmp_path):
    page = tmp_path / "page.html"
    assert explain(model, *EXAMPLE, "--html", page).stdout == ""
    page.unlink()
    ran = run("--quiet", "explain", "--model", model, *EXAMPLE, "--html", page)
    assert (ran.exit_code, ran.output) == (0, "")
    assert page.exists()


@pytest.mark.parametrize(
    ("words", "kind", "names"),
    [
        (["--target", "high risk"], "answer", ["high risk"]),
        (["--tokens", "high risk"], "tokens", ["high", "risk"]),
        (["--contrast", "high, low"], "contrast", ["high rather than low"]),
        ([], "generated", None),
    ],
)
def test_targets(model, words, kind, names):
    ran = explain(model, "--text", TEXT, "--method", "occlusion", *words, "--json")
    document = json.loads(ran.stdout)
    assert document["target"]["kind"] == kind
    assert names is None or document["output_names"] == names


def test_choices_explain_the_preferred_one(model):
    document = json.loads(
        explain(model, "--text", TEXT, "--method", "occlusion", "--choices", "low, high", "--json").stdout
    )
    assert document["target"]["options"] == ["low", "high"]
    assert document["target"]["chosen"] in ("low", "high")


def test_a_classifier_has_labels(classifier):
    ran = explain(classifier, "--text", TEXT, "--method", "occlusion", "--label", "malignant", "--json")
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert (document["target"]["kind"], document["output_names"]) == ("margin", ["malignant"])


def test_settings_are_json_or_text(model):
    words = ["--method", "integrated_gradients", "--set", "steps=7", "--set", "baseline=zero"]
    ran = explain(model, "--text", TEXT, "--target", "high", *words, "--json")
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert document["settings"]["steps"] == 7
    assert document["baseline"].startswith("zero")


def test_seed_checks_baseline_and_features_reach_the_library(model):
    words = ["--seed", 5, "--checks", "none", "--baseline", "pad", "--features", "token"]
    document = json.loads(explain(model, *EXAMPLE, *words, "--json").stdout)
    assert document["seed"] == 5
    assert document["checks"]["level"] == "none"
    assert document["baseline"].startswith("pad")
    assert {feature["kind"] for feature in document["features"]} == {"token"}


def test_top_draws_the_strongest_only(model):
    values = json.loads(explain(model, *EXAMPLE, "--json").stdout)["values"][0]
    words = TEXT.split()
    order = sorted(range(len(words)), key=lambda index: -abs(values[index]))
    drawn = explain(model, *EXAMPLE, "--top", 2).stdout
    rows = [row.split()[0] for row in drawn.splitlines() if "│" in row]
    assert rows == [words[index] for index in sorted(order[:2])]
    assert "the 2 strongest of 7 features" in drawn


def test_a_template_gives_fields(model, tmp_path):
    template = tmp_path / "template.txt"
    template.write_text("the tumour is {size} and {count} nodes are positive\n")
    words = ["--template", template, "--field", "size=large", "--field", "count=", "--absent", "size=small"]
    ran = explain(model, *words, "--target", "high", "--method", "occlusion", "--json")
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert document["feature_names"] == ["size", "count"]
    assert [feature["value"] for feature in document["features"]] == ["large", "not recorded"]
    neutral = pellucid.Template(template.read_text().rstrip("\n"), absent={"size": "small"})(size="large", count=None)
    expected = pellucid.explain(pellucid.load(model), neutral, method="occlusion", target=pellucid.Answer("high"))
    assert document["values"] == expected.to_json()["values"]


@pytest.mark.parametrize("words", [["--text", "-"], ["--prompt-file", "-"]])
def test_standard_input_is_read(model, words):
    rest = ["--target", "high", "--method", "occlusion", "--json"]
    ran = explain(model, *words, *rest, given=f"\ufeff{TEXT}\r\n".encode())
    assert json.loads(ran.stdout)["values"] == json.loads(explain(model, "--text", TEXT, *rest).stdout)["values"]


def test_a_prompt_file_is_read(model, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(TEXT + "\n", "utf-8")
    rest = ["--target", "high", "--method", "occlusion", "--json"]
    ran = explain(model, "--prompt-file", path, *rest)
    assert json.loads(ran.stdout)["values"] == json.loads(explain(model, "--text", TEXT, *rest).stdout)["values"]


def test_hostile_text_is_escaped_in_json_and_in_the_page(model, tmp_path):
    page = tmp_path / "page.html"
    ran = explain(model, *EXAMPLE, "--text", "<script>alert(1)</script> \u202etumour 🙂", "--json", "--html", page)
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.isascii()
    assert "🙂" in "".join(json.loads(ran.stdout)["feature_names"])
    assert "<script" not in page.read_text("utf-8")


# What bad input gets

BAD = {
    "unknown method": ((*EXAMPLE, "--method", "oclusion"), "did you mean 'occlusion'"),
    "unknown feature": ((*EXAMPLE, "--features", "letter"), "no kind of feature is called 'letter'"),
    "unknown dtype": ((*EXAMPLE, "--dtype", "float8"), "no dtype is called 'float8'"),
    "unknown device": ((*EXAMPLE, "--device", "toaster"), "'toaster' is not a device"),
    "unknown option": ((*EXAMPLE, "--methud", "lime"), "No such option"),
    "unknown checks": ((*EXAMPLE, "--checks", "some"), "'some'"),
    "unknown baseline": ((*EXAMPLE, "--baseline", "silence"), "no baseline is called 'silence'"),
    "unknown setting": ((*EXAMPLE, "--set", "sampels=3"), "sampels"),
    "a setting of explain itself": ((*EXAMPLE, "--set", "seed=3"), "seed"),
    "bad setting": ((*EXAMPLE, "--method", "kernel_shap", "--set", "samples=many"), "'many'"),
    "setting without =": ((*EXAMPLE, "--set", "samples"), "NAME=VALUE"),
    "setting twice": ((*EXAMPLE, "--set", "a=1", "--set", "a=2"), "twice"),
    "negative seed": ((*EXAMPLE, "--seed", "-1"), "'--seed': Input should be greater than or equal to 0"),
    "seed no number": ((*EXAMPLE, "--seed", "x"), "'--seed': Input should be a valid integer"),
    "empty text": (("--text", "  "), "the text is empty"),
    "NUL": (("--text", "a\0b"), "NUL"),
    "no text": ((), "exactly one of --text, --prompt-file, --template"),
    "two texts": ((*EXAMPLE, "--prompt-file", "x"), "--text and --prompt-file were given"),
    "missing prompt file": (("--prompt-file", "nowhere.txt"), "'nowhere.txt' cannot be read: No such file"),
    "folder as prompt file": (("--prompt-file", "."), "'.' cannot be read"),
    "too long": (("--text", "tumour " * 70), "it is 6 too long"),
    "two targets": ((*EXAMPLE, "--tokens", "low"), "--target and --tokens were given"),
    "one choice": (("--text", TEXT, "--choices", "low"), "at least 2"),
    "three in a contrast": (("--text", TEXT, "--contrast", "a,b,c"), "takes 2 answers"),
    "field without template": ((*EXAMPLE, "--field", "a=1"), "--template FILE"),
    "no fields": ((*EXAMPLE, "--features", "field"), "no field"),
    "no folder for the page": ((*EXAMPLE, "--html", "nowhere/page.html"), "there is no folder 'nowhere'"),
    "no folder for the archive": ((*EXAMPLE, "--save", "nowhere/saved.zip"), "there is no folder 'nowhere'"),
    "system without chat": ((*EXAMPLE, "--system", "Be brief."), "no chat template"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_2(model, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    words, expected = BAD[case]
    assert expected in sentence(explain(model, *words), 2)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_one_sentence_and_exit_3(tmp_path):
    assert "could not be loaded" in sentence(explain(str(tmp_path / "nowhere"), *EXAMPLE), ModelError.exit_code)


def test_a_missing_device_is_one_sentence_and_exit_3(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "'cuda' is not there" in sentence(explain(model, *EXAMPLE, "--device", "cuda"), 3)


def test_a_file_in_another_encoding_is_refused(model, tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes("Tumorgröße".encode("latin-1"))
    assert "is not UTF-8: see byte 7" in sentence(explain(model, "--prompt-file", path), 2)
    assert "standard input is not UTF-8" in sentence(explain(model, "--text", "-", given=b"\xff"), 2)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("the tumour is {size}", ["--field", "sise=large", "--field", "size=small"], "no field 'sise'"),
        ("the tumour is {size}", [], "'size' got no value"),
        ("the tumour is {size", ["--field", "size=large"], "malformed"),
        ("the tumour is {size}", ["--field", "size=large", "--absent", "sise=x"], "'sise'"),
        ("the tumour is {size}", ["--field", "size"], "NAME=VALUE"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(model, tmp_path, text, fields, expected):
    template = tmp_path / "template.txt"
    template.write_text(text)
    assert expected in sentence(explain(model, "--template", template, *fields), 2)


def test_a_disk_that_fills_is_one_sentence_that_names_the_file(model, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    page = tmp_path / "page.html"
    line = sentence(explain(model, *EXAMPLE, "--html", page), ExitCode.FILE)
    assert line == f"Error: {str(page)!r} cannot be read or written: No space left on device."
    assert list(tmp_path.iterdir()) == []


def test_unknown_commands_are_one_sentence():
    assert "Did you mean 'explain'" in sentence(run("explian"), 2)
    assert "pellucid audit --help" in sentence(run("audit"), 2).replace("root", "pellucid")
    assert "--nonsense" in sentence(run("--nonsense"), 2)


class _Bad(BaseModel):
    number: int


def _invalid():
    with pytest.raises(ValidationError) as caught:
        _Bad(number="many")
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected", "exit_code"),
    [
        (NumericalError("the model returned NaN."), "the model returned NaN.", 3),
        (RecordError("broken."), "broken.", 1),
        (_invalid(), "number: Input should be a valid integer", 2),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "'/x' cannot be read or written: Permission", 4),
        (OSError("no reason"), "a file cannot be read or written: no reason.", 4),
        (MemoryError(), "the memory is used up; use a smaller model", 3),
        (torch.OutOfMemoryError("CUDA out of memory"), "the memory is used up", 3),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory is used up", 3),
        (KeyboardInterrupt(), "interrupted", 130),
        (ZeroDivisionError("a\nb\x1b[2J"), "unexpected ZeroDivisionError: a", 70),
    ],
)
def test_every_failure_has_a_sentence_and_a_code(error, expected, exit_code, monkeypatch):
    def broken(*given):
        raise error

    assert expected in failure(error).sentence
    monkeypatch.setattr("pellucid.methods.all_methods", broken)
    line = sentence(run("methods"), exit_code)
    assert expected in line
    assert "\x1b" not in line


def test_debug_shows_the_traceback_and_keeps_the_code(monkeypatch):
    def broken():
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr("pellucid.methods.all_methods", broken)
    ran = run("--debug", "methods")
    assert ran.exit_code == 70
    assert "Traceback" in ran.stderr
    assert "in broken" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("Error: unexpected ZeroDivisionError")
    assert "Traceback" not in run("methods").stderr


def test_ending_on_purpose_is_no_failure():
    with pytest.raises(SystemExit) as ended, told(debug=False):
        raise SystemExit(7)
    assert ended.value.code == 7


# methods


def test_methods_as_a_table_and_as_json():
    documents = json.loads(run("methods", "--json").stdout)
    assert [document["name"] for document in documents] == list(all_methods())
    keys = {field.name for field in dataclasses.fields(pellucid.Facts)}
    assert {"class_specific", "conserving", "notice"} < keys
    assert all(set(document) == keys for document in documents)
    shown = run("methods").stdout
    assert all(name in shown for name in all_methods())


# metrics and models


def test_metrics_as_a_table_and_as_json():
    documents = json.loads(run("metrics", "--json").stdout)
    assert [document["name"] for document in documents] == list(all_metrics())
    keys = {field.name for field in dataclasses.fields(pellucid.MetricFacts)}
    assert all(set(document) == keys for document in documents)
    srg = documents[0]
    assert (srg["name"], srg["higher_is_better"], srg["range"]) == ("srg", True, [None, None])
    shown = run("metrics").stdout
    assert all(name in shown for name in all_metrics())


def test_models_as_a_table_and_as_json():
    documents = json.loads(run("models", "--json").stdout)
    assert [document["name"] for document in documents] == list(NAMES)
    assert all(Path(document["path"]).is_file() and document["summary"].endswith(".") for document in documents)
    shown = run("models").stdout
    assert all(name in shown for name in NAMES)


# pictures and table rows


def test_a_picture_is_explained():
    ran = explain("fashion-cnn", "--image", str(PICTURE), "--method", "occlusion", "--json")
    document = json.loads(ran.stdout)
    assert len(document["values"][0]) == 49
    assert document["features"][0]["kind"] == "patch"
    assert (
        "3 strongest of 49"
        in explain("fashion-cnn", "--image", str(PICTURE), "--method", "occlusion", "--top", "3").stdout
    )


def test_a_table_row_is_explained(tmp_path):
    row = {"age": 52, "menostat": "Post", "tsize": 30, "tgrade": "II", "pnodes": 5, "progrec": 10, "estrec": 20}
    (tmp_path / "row.json").write_text(json.dumps(row))
    words = ["--row", str(tmp_path / "row.json"), "--column", "horTh=yes", "--column", "pnodes=9", "--json"]
    document = json.loads(explain("gbsg2-mlp", *words, "--method", "exact_shapley").stdout)
    found = {feature["label"]: feature["value"] for feature in document["features"]}
    assert (found["pnodes"], found["horTh"], found["age"]) == ("9 nodes", "yes", "52 years")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["fashion-cnn", "--text", "a coat"], "reads image: give --image, not --text"),
        (["fashion-cnn"], "reads image: give --image"),
        (["fashion-cnn", "--image", "/nowhere.png"], "there is no picture at"),
        (["fashion-cnn", "--image", __file__], "cannot be read as a picture"),
        (["fashion-cnn", "--image", "PICTURE", "--features", "word"], "kind of feature"),
        (["fashion-cnn", "--image", "PICTURE", "--baseline", "mask"], "baseline"),
        (["gbsg2-mlp", "--column", "age=52"], "no value for menostat"),
        (["gbsg2-mlp", "--column", "nodes=52"], "no column is called"),
        (["gbsg2-mlp", "--row", __file__], "is not JSON"),
        (["smollm2", "--image", "PICTURE"], "reads text: give --text"),
    ],
)
def test_input_of_another_kind_is_refused(words, found):
    model, *rest = [str(PICTURE) if word == "PICTURE" else word for word in words]
    assert found in sentence(explain(model, *rest, "--method", "occlusion"), 2)


# audit


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the audit's own functions are called with, in place of running them."""
    seen = SimpleNamespace(config=None, keys=None, replay=None, ok=True)

    def run_audit(config, keys_folder):
        seen.config, seen.keys = config, keys_folder
        report = tmp_path / "report.html"
        return SimpleNamespace(lines=["20 cases", "fine"], report=report, to_json=lambda: {"cases": 20})

    def replay(*given):
        seen.replay = given
        return SimpleNamespace(ok=seen.ok, lines=["1 record, equal"], to_json=lambda: {"ok": seen.ok})

    for name, functions in {
        "run": {"run_audit": run_audit, "write_report": lambda folder: folder / "report.html"},
        "replay": {"replay": replay},
    }.items():
        module = ModuleType(f"pellucid.audit.{name}")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


def test_audit_run_builds_the_configuration(calls, tmp_path):
    words = ["--template", "t.txt", "--choices", "low,high", "--expected", "nodes,size", "--decoy", "hair"]
    words += ["--method", "lime", "--model", "m", "--out", "o", "--limit", 3, "--id-column", "id", "--checks", "none"]
    words += ["--seed", 4, "--device", "cpu", "--dtype", "float64", "--store-text", "--title", "T", "--keys", tmp_path]
    words += ["--set", "samples=64", "--baseline", "delete", "--outcome-column", "dead", "--outcome", "1=high"]
    ran = run("audit", "run", "cases.csv", *words)
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines() == ["20 cases", "fine", f"Report: {tmp_path / 'report.html'}"]
    assert calls.keys == tmp_path
    assert calls.config == AuditConfig(
        cases="cases.csv", template_file="t.txt", choices=("low", "high"), expected=("nodes", "size"), decoy=("hair",),
        method="lime", model="m", out="o", limit=3, id_column="id", checks="none", seed=4, device="cpu",
        dtype="float64", store_text=True, title="T", settings={"samples": 64}, imputer="delete",
        outcome={"column": "dead", "options": {"1": "high"}},
    )  # fmt: skip


def test_the_command_line_takes_the_place_of_the_file(calls, tmp_path):
    assert run("audit", "init", tmp_path / "audit.yaml").exit_code == 0
    # The example names an outcome, which needs choices.
    words = ["--config", tmp_path / "audit.yaml", "--max-new-tokens", 5]
    assert "outcome" in sentence(run("audit", "run", *words), 2)
    ran = run("audit", "run", "--config", tmp_path / "audit.yaml", "--limit", 2, "--json")
    assert json.loads(ran.stdout) == {"cases": 20}
    assert calls.config.limit == 2
    assert calls.config.cases == tmp_path / "cases.csv"
    assert calls.config.store_text is False


def test_a_generated_answer_can_be_audited(calls):
    words = ["cases.csv", "--template", "t.txt", "--max-new-tokens", 5, "--out", "o"]
    assert run("audit", "run", *words).exit_code == 0
    assert calls.config.generate.max_new_tokens == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "an audit needs CASES and --out DIR, or --config FILE"),
        (["c.csv", "--out", "o"], "template"),
        (["c.csv", "--out", "o", "--template", "t", "--choices", "low"], "at least two different answers"),
        (["c.csv", "--out", "o", "--template", "t"], "choices and generate"),
        (["--config", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
        (["c.csv", "--out", "o", "--outcome-column", "dead"], "go together"),
        (["c.csv", "--out", "o", "--limit", "0"], "'--limit': Input should be greater"),
    ],
)
def test_a_bad_audit_is_one_sentence(calls, words, expected):
    assert expected in sentence(run("audit", "run", *words), 2)


def test_the_demo_is_the_one_that_is_shipped(calls, tmp_path):
    ran = run("audit", "demo", "--out", tmp_path / "demo")
    assert ran.exit_code == 0, ran.output
    assert calls.config.out == tmp_path / "demo"
    assert calls.config.cases.name == "cases.csv"
    assert calls.config.cases.is_file()
    assert "{" in calls.config.template_text()


def test_init_does_not_overwrite(tmp_path):
    path = tmp_path / "audit.yaml"
    assert run("audit", "init", path).exit_code == 0
    assert AuditConfig.read(path).model == "smollm2"
    path.write_text("mine")
    assert "--force" in sentence(run("audit", "init", path), 2)
    assert path.read_text() == "mine"
    assert run("audit", "init", path, "--force").exit_code == 0
    assert AuditConfig.read(path).model == "smollm2"
    assert "no folder" in sentence(run("audit", "init", tmp_path / "nowhere" / "audit.yaml"), 2)
    assert ".yaml" in sentence(run("audit", "init", tmp_path / "audit.toml"), 2)


@pytest.fixture
def ledger(tmp_path):
    """A ledger without records, and the copy of its public key that lies elsewhere."""
    keys, folder = open_keys(tmp_path / "keys"), tmp_path / "ledger"
    Ledger.open(folder, keys.signer).close()
    elsewhere = tmp_path / "elsewhere.pem"
    elsewhere.write_bytes(keys.signer.public.pem)
    return folder, elsewhere


def test_verify_says_what_holds_and_what_is_not_proven(ledger):
    folder, elsewhere = ledger
    ran = run("audit", "verify", folder)
    assert (ran.exit_code, ran.stderr) == (0, "")
    first, *others = ran.stdout.splitlines()
    assert first.startswith("The ledger holds: 0 records")
    assert len([line for line in others if line.startswith("Not proven: ")]) == 2
    document = json.loads(run("audit", "verify", folder, "--public-key", elsewhere, "--json").stdout)
    assert (document["ok"], document["key_source"], document["sentence"][:16]) == (True, "given", "The ledger holds")


def test_verify_ends_with_1_where_it_does_not_hold(ledger):
    folder, _ = ledger
    head = folder / "head.json"
    head.write_bytes(head.read_bytes().replace(b'"count":0', b'"count":1'))
    ran = run("audit", "verify", folder)
    assert ran.exit_code == 1
    assert ran.stdout.startswith("The ledger does NOT hold: ")
    ran = run("audit", "verify", folder, "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["ok"] is False


def test_verify_without_a_ledger_or_key_is_one_sentence(ledger, tmp_path):
    assert "there is no ledger" in sentence(run("audit", "verify", tmp_path / "nowhere"), 2)
    assert "public key" in sentence(run("audit", "verify", ledger[0], "--public-key", tmp_path / "nowhere"), 2)


def test_replay_ends_with_1_on_a_difference(calls, tmp_path):
    ran = run("audit", "replay", tmp_path, "--cases", "c.csv", "--record", 7, "--keys", "k")
    assert (ran.exit_code, ran.stdout) == (0, "1 record, equal\n")
    assert calls.replay == (tmp_path, Path("c.csv"), "7", Path("k"))
    calls.ok = False
    ran = run("audit", "replay", tmp_path, "--json")
    assert (ran.exit_code, json.loads(ran.stdout)) == (1, {"ok": False})


def test_the_report_is_written_again(calls, tmp_path):
    assert run("audit", "report", tmp_path).stdout == f"Report: {tmp_path / 'report.html'}\n"
    assert json.loads(run("audit", "report", tmp_path, "--json").stdout) == {"report": str(tmp_path / "report.html")}


def test_an_audit_from_cases_to_replay(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cases.csv").write_text("id,size,count\na,large,six\nb,small,no\n")
    Path("prompt.txt").write_text("the tumour is {size} and {count} nodes are positive\n")
    words = ["--template", "prompt.txt", "--choices", "low,high", "--method", "exact_shapley", "--model", model]
    ran = run("audit", "run", "cases.csv", *words, "--id-column", "id", "--out", "out", "--keys", "keys", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["cases"] == 2
    assert run("audit", "verify", "out").stdout.startswith("The ledger holds: 2 records")
    assert "--cases" in sentence(run("audit", "replay", "out", "--keys", "keys"), 2)
    again = run("audit", "replay", "out", "--keys", "keys", "--cases", "cases.csv", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["ok"] is True
    Path("out/report.html").unlink()
    assert run("audit", "report", "out").stdout == f"Report: {Path('out/report.html')}\n"
    assert Path("out/report.html").read_text("utf-8").rstrip().endswith("</html>")
    records = Path("out/records.jsonl")
    records.write_bytes(records.read_bytes().replace(b'"case":"b"', b'"case":"c"'))
    ran = run("audit", "verify", "out", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)["first_broken"]["index"]) == (1, 1)
    assert "nothing is replayed" in sentence(run("audit", "replay", "out", "--keys", "keys"), 1)


def test_examples_in_the_documentation_name_options_that_exist():
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    lines = [line for block in page.split("```")[1::2] for line in block.replace("\\\n", " ").strip().splitlines()]
    assert len(lines) >= 9
    for line in lines:
        words = line.split()[1:]
        command = words[:2] if words[0] in ("audit", "benchmark", "learn", "sae") else words[:1]
        help_text = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--help"]).stdout
        assert "Usage" in help_text
        for option in (word for word in words if word.startswith("--")):
            assert f" {option} " in help_text, (line, option)
