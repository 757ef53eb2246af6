"""The benchmark's text and language tasks: what comes with them, what is known of it, and tasks that people write."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import pellucid
import tiny
from pellucid import Choice
from pellucid.benchmark.tasks import find_task, task_names
from pellucid.benchmark.tasks.text import shipped_file
from pellucid.errors import InputError, TemplateError, UnknownNameError
from pellucid.models import TextClassifier
from pellucid.targets import Answer

ROOT = Path(__file__).parent.parent
SENTENCES = ("acceptability", "sst2", "sst2-lstm", "sst2-tiny")
LANGUAGE = ("clinical-choice", "context-questions", "gbsg2-choice")
INFERRED = {"male": "man", "female": "woman"}
"""What a record's answer is where it is not what the field says."""


@cache
def cases(name: str, split: str = "test"):
    return find_task(name).cases(split)


@cache
def script():
    path = ROOT / "scripts" / "draw_benchmark_data.py"
    spec = importlib.util.spec_from_file_location("draw_benchmark_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def task(folder: Path, text: str):
    file = folder / "mine.yaml"
    file.write_text(text, "utf-8")
    return find_task(str(file))


@pytest.mark.parametrize("name", SENTENCES + LANGUAGE)
def test_a_task_brings_enough_inputs_which_are_independent_and_always_the_same(name):
    test, tuning = cases(name), cases(name, "tuning")
    assert (len(test), len(tuning)) == (150, 60)
    both = [*test, *tuning]
    assert len({case.id for case in both}) == len({case.cluster for case in both}) == 210
    assert len({str(case.raw) for case in both}) == 210
    assert find_task(name).cases("test") == test


@pytest.mark.parametrize("name", SENTENCES + LANGUAGE)
def test_a_beginning_is_a_fair_sample(name):
    """Labels and lengths do not drift along the file."""
    measured = [len(str(case.raw)) for case in cases(name)]
    assert abs(np.corrcoef(np.arange(150), measured)[0, 1]) < 0.2
    labels = [case.label for case in cases(name)]
    for label in set(labels):
        share, first = labels.count(label) / 150, labels[:50].count(label) / 50
        assert abs(share - first) < 0.2


@pytest.mark.parametrize("name", ["sst2-tiny", "sst2-lstm"])
def test_marks_and_labels_are_those_of_the_model(name):
    found = find_task(name)
    model = found.load()
    for case in [*cases(name), *cases(name, "tuning")]:
        inputs = model.encode(case.raw)
        features = model.features(inputs, found.features)
        assert [feature.label for feature in features] == case.raw
        assert case.rationale is None or len(case.rationale) == len(features)
        assert set(model.owners(inputs, features).tolist()) >= set(range(len(features)))
        assert case.label in model.labels
    assert sum(case.rationale is None for case in cases(name)) < 15


def test_acceptability_marks_are_those_of_its_model():
    found = find_task("acceptability")
    model = found.load()
    for case in cases("acceptability"):
        assert len(case.rationale) == len(model.features(model.encode(case.raw), "word"))
        assert 0 < sum(case.rationale) < len(case.rationale)
        assert case.label in model.labels


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_finds_the_fields_that_are_marked(smollm2, name):
    for case in [*cases(name), *cases(name, "tuning")]:
        inputs = smollm2.encode(case.raw)
        features = smollm2.features(inputs, "field")
        assert len(inputs.row.ids) < 160
        assert case.rationale is None or len(case.rationale) == len(features)
        assert set(smollm2.owners(inputs, features).tolist()) >= set(range(len(features)))


def test_one_sentence_of_a_passage_holds_the_answer_and_others_come_near():
    near, places = [], set()
    for case in [*cases("context-questions"), *cases("context-questions", "tuning")]:
        sentences = [field.value for field in case.raw.fields]
        marked = [text for text, mark in zip(sentences, case.rationale, strict=True) if mark]
        rest = [text for text, mark in zip(sentences, case.rationale, strict=True) if not mark]
        answer = case.target.answer.strip()
        person = next(name for name in script().NAMES if re.search(rf"\b{name}\b", case.raw.text.split("\n")[1]))
        assert isinstance(case.target, Answer)
        assert 4 <= len(sentences) <= 8
        assert len(marked) == 1
        assert re.search(rf"\b{person}\b", marked[0])
        assert re.search(rf"\b{answer}\b", marked[0])
        assert not any(re.search(rf"\b{answer}\b", text) for text in rest)
        near.append(any(re.search(rf"\b{person}\b", text) for text in rest))
        places.add(case.rationale.index(True))
    assert all(near), "the person alone must not tell which sentence it is"
    assert places >= set(range(6))


def test_one_field_of_a_record_decides():
    fields = set()
    for case in [*cases("clinical-choice"), *cases("clinical-choice", "tuning")]:
        (decisive,) = (field for field, mark in zip(case.raw.fields, case.rationale, strict=True) if mark)
        fields.add(decisive.name)
        right = case.label.strip()
        if decisive.name == "age":
            assert right == ("an adult" if int(decisive.value.split()[0]) >= 18 else "a child")
        else:
            assert right == INFERRED.get(decisive.value, decisive.value)
        assert case.label in case.target.options
        assert 2 <= len(case.target.options) <= 3
    assert len(fields) == 8


def test_the_inputs_are_those_that_the_script_writes():
    for name, make, number in (("context", script().passage, 1), ("clinical", script().record, 2)):
        shipped = [line for split in ("test", "tuning") for line in shipped_file(name, split).read_text().splitlines()]
        for at in (1, 2, 150, 151, 210):
            drawn = make(at, np.random.default_rng([script().SEED, number, at]))
            assert json.loads(shipped[at - 1]) == drawn, "run scripts/draw_benchmark_data.py"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_model_reads_the_sentence_that_holds_the_answer(at):
    found = find_task("context-questions")
    case = found.cases("tuning")[at]
    explanation = pellucid.explain(
        plain_smollm2(),
        case.raw,
        method="occlusion",
        target=case.target,
        features=found.features,
        baseline=found.imputers[0],
    )
    assert explanation.values[0].argmax() == case.rationale.index(True)


@cache
def plain_smollm2():
    return find_task("context-questions").load()


def test_a_task_without_inputs_asks_for_them_and_is_never_quoted(tmp_path):
    with pytest.raises(InputError, match=r"the inputs of the task 'hatexplain' are not part of pellucid.*--data DIR"):
        find_task("hatexplain")
    folder = tmp_path / "rationales"
    folder.mkdir()
    rows = [
        {"id": number, "wordpieces": ["a", "qui", "##et", word], "label": number % 2, "rationale": [0, 0, 1, 0]}
        for number, word in enumerate(["day", "street", "lake"])
    ]
    write(folder / "hatexplain_binary_wordpiece_test.jsonl", *rows)
    found = find_task("hatexplain", tmp_path)
    assert not found.quotable
    drawn = {case.id: case for case in found.cases("test")}
    assert sorted(drawn) == ["test-0", "test-1", "test-2"]
    assert drawn["test-1"].raw == ["a", "quiet", "street"]
    assert drawn["test-1"].rationale == (False, True, False)
    assert drawn["test-1"].label == "toxic"


def test_a_folder_of_data_takes_the_place_of_the_shipped_inputs(tmp_path):
    folder = tmp_path / "rationales"
    folder.mkdir()
    pairs = [
        {"good": ["Cats", noun, "sleep."], "bad": ["Cats", noun, "sleeps."], "evidence_good": [2], "evidence_bad": [2]}
        for noun in ("here", "there", "inside", "outside", "today", "again")
    ]
    write(folder / "blimp_evidence_dev.jsonl", *pairs)
    found = find_task("acceptability", tmp_path).cases("tuning")
    assert len(found) == len({case.cluster for case in found}) == 6, "one side of each pair"
    assert {case.label for case in found} == {"acceptable", "unacceptable"}
    assert all((case.label == "acceptable") == (case.raw[2] == "sleep.") for case in found)
    with pytest.raises(UnknownNameError, match="no split is called 'test'"):
        find_task("acceptability", tmp_path).cases("test")


def test_names_are_known_and_others_refused(tmp_path):
    assert {*SENTENCES, *LANGUAGE, "hatexplain"} <= set(task_names())
    assert list(task_names()) == sorted(task_names())
    with pytest.raises(UnknownNameError, match="no task is called 'sst3'; did you mean 'sst2'"):
        find_task("sst3")
    with pytest.raises(InputError, match=r"there is no task file 'none.yaml'; known tasks are acceptability"):
        find_task("none.yaml")
    file = tmp_path / "mine.yaml"
    file.write_text("model: smollm2\ndata: x.jsonl\n", "utf-8")
    with pytest.raises(InputError, match="says itself where its data lie"):
        find_task(str(file), tmp_path)


FIELDS = """
name: triage
model: smollm2
data: cases_{split}.jsonl
features: field
template: "Pain: {pain}. Colour of the door: {door}. Urgent? Answer:"
absent: {pain: unknown}
target: {kind: choice, options: [Yes, No]}
quotable: no
"""


def test_a_person_may_write_a_task_of_fields(tmp_path):
    rows = [
        {"id": 7, "fields": {"door": "red", "pain": 9}, "rationale": ["pain"], "label": "Yes", "cluster": "anna"},
        {"fields": {"pain": None, "door": "blue"}, "target": {"kind": "answer", "answer": "No"}},
    ]
    write(tmp_path / "cases_test.jsonl", *rows)
    write(tmp_path / "cases_tuning.jsonl", rows[1])
    found = task(tmp_path, FIELDS)
    assert (found.name, found.title, found.model, found.features) == ("triage", "triage", "smollm2", "field")
    assert found.imputers == ("neutral", "delete")
    assert found.target == Choice(("Yes", "No"))
    assert not found.quotable
    first, second = found.cases("test")
    assert first.raw.text == "Pain: 9. Colour of the door: red. Urgent? Answer:"
    assert [field.absent for field in first.raw.fields] == ["unknown", "not recorded"]
    # In the order of the text, and not of the row.
    assert first.rationale == (True, False)
    assert (first.id, first.cluster, first.label) == ("7", "anna", "Yes")
    assert (second.id, second.cluster, second.label, second.rationale) == ("2", "2", None, None)
    assert second.target == Answer("No")
    assert second.raw.fields[0].missing
    assert len(found.cases("tuning")) == 1


def test_a_person_may_write_a_task_of_texts_with_a_model_of_their_own(tmp_path):
    model = TextClassifier(*tiny.encoder("bert"))
    model.module.save_pretrained(tmp_path / "net")
    model.tokenizer.save_pretrained(tmp_path / "net")
    write(
        tmp_path / "texts.jsonl",
        {"id": "a", "text": "the soup  was cold", "spans": [[10, 13]], "label": "LABEL_0", "cluster": 3},
        {"words": ["kind", "staff"], "evidence": [0]},
    )
    found = task(tmp_path, "model: net\ndata: texts.jsonl\nimputers: mask\n")
    assert (found.name, found.imputers, found.quotable) == ("mine", ("mask",), True)
    first, second = found.cases("test")
    assert first.raw == ["the", "soup", "was", "cold"]
    assert first.rationale == (False, False, True, False)
    assert (first.cluster, second.id, second.cluster) == ("3", "2", "2")
    assert list(found.cases("tuning")) == []
    loaded = found.load()
    assert len(loaded.features(loaded.encode(first.raw), "word")) == 4
    write(tmp_path / "texts.jsonl", {"text": "One here.  Two there."})
    (only,) = task(tmp_path, "model: net\ndata: texts.jsonl\nfeatures: sentence\n").cases("test")
    assert only.raw == "One here.  Two there."


def test_a_person_may_write_a_task_of_rows_or_pictures(tmp_path):
    columns = pellucid.load("wisconsin-mlp").columns
    values = {column.name: column.mean for column in columns}
    write(
        tmp_path / "x.jsonl",
        {"columns": values, "label": "benign", "rationale": [1] + [0] * (len(columns) - 1)},
        {"id": "p", "image": "a/b.png"},
        {"image": "c.png", "text": "What is it?", "cluster": "p"},
    )
    found = task(tmp_path, "model: wisconsin-mlp\ndata: x.jsonl\nfeatures: column\n")
    assert found.imputers == ("mean",)
    row, picture, both = found.cases("test")
    explained = pellucid.explain(found.load(), row.raw, method="occlusion", features="column", baseline="mean")
    assert np.abs(explained.values).max() < 1e-4, "the row is the mean"
    assert row.rationale == (True,) + (False,) * (len(columns) - 1)
    assert (picture.id, picture.raw) == ("p", str(tmp_path / "a/b.png"))
    assert both.raw == {"image": str(tmp_path / "c.png"), "text": "What is it?"}
    assert both.cluster == picture.cluster


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("model: x\n", InputError, r"the task '.*mine.yaml': data: Field required"),
        (
            "model: x\ndata: y\nfeature: word\n",
            UnknownNameError,
            "no setting of a task is called 'feature'; did you mean",
        ),
        ("model: x\ndata: y\ntarget: {kind: guess}\n", InputError, "mine.yaml', target: .*'guess'"),
        (
            "model: x\ndata: y\ntarget: {kind: choice, options: [Yes]}\n",
            InputError,
            "the task '.*mine.yaml', target: Choice: options: .*at least 2",
        ),
        ("- a\n- b\n", InputError, "must hold settings .*, not list"),
        ("model: [\n", InputError, "is not YAML"),
    ],
)
def test_a_file_that_is_no_task_is_refused(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        task(tmp_path, text)


@pytest.mark.parametrize(
    ("settings", "rows", "error", "message"),
    [
        ("", [], InputError, "there are no examples in '.*x.jsonl'"),
        ("features: field", [{"fields": {"a": "1"}}], InputError, "line 1 .* no template around them; add 'template'"),
        (
            "features: field\ntemplate: '{a} {b}'",
            [{"fields": {"a": "1"}}],
            TemplateError,
            "line 1 of .*: the template's field 'b' got no value",
        ),
        (
            "features: field\ntemplate: '{a}'",
            [{"fields": {"a": "1"}, "rationale": ["b"]}],
            InputError,
            "line 1 of .*: the rationale names 'b'; its fields are a",
        ),
        (
            "features: word\ntemplate: '{a}'",
            [{"fields": {"a": "1"}, "rationale": ["a"]}],
            InputError,
            "marks fields, and features of kind 'word' are scored; take 'field'",
        ),
        (
            "features: field\ntemplate: '{a}'",
            [{"id": 4, "fields": {"a": "1"}}, {"id": "4", "fields": {"a": "2"}}],
            InputError,
            "two cases of .* have the id '4'",
        ),
        (
            "features: field\ntemplate: '{a}'",
            [{"fields": {"a": "1"}}, {"text": "no fields"}],
            InputError,
            "line 2 .*fields: Field required",
        ),
        (
            "features: sentence",
            [{"words": ["a", "b"], "rationale": [0, 1]}],
            InputError,
            "marks words, and features of kind 'sentence' are scored; take 'word'",
        ),
        ("", [{"words": ["a", "b"], "rationale": [1]}], InputError, "line 1 .*1 marks for 2 words"),
        ("", [{"columns": {"a": 1}, "image": "b.png"}], InputError, "line 1 .* must hold either columns or an image"),
        ("", [{"columns": {"a": 1}, "text": "b"}], InputError, "line 1 .* holds columns and a text"),
        (
            "",
            [{"text": "a", "target": {"kind": "choice", "options": ["b"]}}],
            InputError,
            "line 1 .*, target: Choice",
        ),
    ],
)
def test_cases_that_do_not_fit_are_refused(tmp_path, settings, rows, error, message):
    write(tmp_path / "x.jsonl", *rows)
    found = task(tmp_path, f"model: smollm2\ndata: x.jsonl\n{settings}\n")
    with pytest.raises(error, match=message):
        found.cases("test")


def test_a_slash_in_an_id_joins_nothing_but_pairs(tmp_path):
    rows = [{"id": name, "text": "a dull film", "label": "negative"} for name in ("ward/1", "ward/2", "x/good")]
    write(tmp_path / "x.jsonl", *rows)
    found = task(tmp_path, "model: smollm2\ndata: x.jsonl\n").cases("test")
    assert [each.cluster for each in found] == ["ward/1", "ward/2", "x/good"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("data: x.jsonl\nimputers: [mask, mask, delete]", "'mask' is named twice"),
        ("data: x_{split}.jsonl\ntuning: y.jsonl", "leave one out"),
        ("data: '{split}/x.jsonl'", "put it into the file's name"),
        ("data: x.jsonl\ndata: y.jsonl", "'data' stands twice"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        task(tmp_path, f"model: smollm2\n{settings}\n")


@pytest.mark.parametrize("line", ["null", "[1]"])
def test_a_line_is_an_object(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"line 1 of .* must hold an object"):
        task(tmp_path, "model: smollm2\ndata: x.jsonl\n").cases("test")
