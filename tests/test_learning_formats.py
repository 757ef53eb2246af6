"""Texts with rationales: every format against what was worked out by hand, or by another way of counting."""

import json
import random
import re
from pathlib import Path

import pytest

import tiny
from pellucid.errors import InputError, UnknownNameError
from pellucid.learning import (
    BUILT_IN,
    Rationale,
    Task,
    find_task,
    read,
    read_eraser,
    read_hatexplain,
    read_jsonl,
    read_sst_trees,
)

FIXTURES = Path(__file__).parent / "fixtures" / "rationales"
PLAIN = FIXTURES / "lines" / "plain.jsonl"
PAIRS = FIXTURES / "lines" / "pairs_{split}.jsonl"


def shown(example: Rationale) -> tuple:
    """An example as its text, label and marks."""
    marks = None if example.rationale is None else "".join("01"[mark] for mark in example.rationale)
    return example.id, " ".join(example.words), example.label, marks


def lines(path: Path, *rows: object) -> Path:
    """A file of JSON lines; a str stands as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


# JSON lines


def test_plain_rows():
    assert [shown(each) for each in read_jsonl(PLAIN)] == [
        ("1", "The soup was cold.", "0", "0001"),
        ("2", "Kind staff, quick service!", "good", "1011"),
        ("third", "ice cream is fine", None, "101"),
        ("5", "no label here", None, None),
        ("6", "an unfriendly cat", "1", "010"),
        ("7/good", "The cats sleep.", "acceptable", "001"),
        ("7/bad", "The cats sleeps .", "unacceptable", "0110"),
    ]
    assert read_jsonl(PLAIN)[2].words == ("ice cream", "is", "fine")


def test_a_word_is_marked_when_any_of_its_pieces_is(tmp_path):
    """Against the tokenizer's own cut into words, which knows nothing of ``##``."""
    tokenizer, rng = tiny.wordpiece(), random.Random(0)
    text = "the anaesthetist's unfriendliness was unbelievable, wasn't it? preposterously so"
    encoding = tokenizer(text)
    words = [word for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    pieces = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    assert len(pieces) > len(words) + 2
    for _ in range(20):
        bits = [int(rng.random() < 0.2) for _ in pieces]
        marked = {word for word, bit in zip(encoding.word_ids(), bits, strict=True) if bit and word is not None}
        (found,) = read_jsonl(lines(tmp_path / "rows.jsonl", {"wordpieces": pieces, "rationale": bits}))
        assert found.words == tuple(words)
        assert {number for number, mark in enumerate(found.rationale or ()) if mark} == marked


def test_a_piece_of_two_hashes_continues_nothing(tmp_path):
    (found,) = read_jsonl(lines(tmp_path / "rows.jsonl", {"wordpieces": ["a", "##", "##b"], "rationale": [1, 0, 0]}))
    assert shown(found) == ("1", "a ##b", None, "10")


def test_a_word_is_marked_when_a_span_touches_it(tmp_path):
    rng, text = random.Random(1), "one  two, three\tfour."
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    for _ in range(50):
        start = rng.randrange(len(text))
        end = rng.randrange(start + 1, len(text) + 1)
        # Each marked character that is visible, to the last word that begins at it or before it.
        expected = {max(n for n, s in enumerate(starts) if s <= at) for at in range(start, end) if text[at].strip()}
        path = lines(tmp_path / "rows.jsonl", {"text": text, "spans": [[start, end]]})
        if expected:
            (found,) = read_jsonl(path)
            assert {number for number, mark in enumerate(found.rationale) if mark} == expected
        else:
            with pytest.raises(InputError, match="marks no word"):
                read_jsonl(path)


def test_evidence_and_bits_say_the_same(tmp_path):
    words = ["a", "b", "c", "d"]
    bits, evidence = read_jsonl(
        lines(
            tmp_path / "rows.jsonl",
            {"id": "x", "words": words, "rationale": [1, 0, 0, 1]},
            {"id": "y", "words": words, "evidence": [3, 0, 3]},
        )
    )
    assert bits.rationale == evidence.rationale == (True, False, False, True)
    assert bits.marked == 2


BAD_ROWS = {
    "short rationale": ({"words": ["a", "b"], "rationale": [1]}, "line 2 .*1 marks for 2 words"),
    "short pieces": ({"wordpieces": ["[CLS]", "a", "[SEP]"], "rationale": [1]}, "1 marks for 3 word pieces"),
    "bit": ({"words": ["a"], "rationale": [2]}, r"line 2 .*rationale\.0: .*\(got 2\)"),
    "evidence": ({"words": ["a", "b"], "evidence": [2]}, "no word 2; the 2 words are counted from 0"),
    "negative evidence": ({"words": ["a", "b"], "evidence": [-1]}, "no word -1"),
    "pair evidence": ({"good": ["a"], "bad": ["b"], "evidence_good": [1]}, "evidence_good: there is no word 1"),
    "evidence is no number": ({"words": ["a"], "evidence": ["0"]}, r"evidence\.0: "),
    "span outside": ({"text": "a b", "spans": [[2, 9]]}, r"span \[2, 9\] .* 3 characters"),
    "span of nothing": ({"text": "a b", "spans": [[1, 1]]}, r"span \[1, 1\]"),
    "span between words": ({"text": "a  b", "spans": [[1, 3]]}, r"span \[1, 3\] marks no word"),
    "spans without text": ({"words": ["a"], "spans": [[0, 1]]}, "spans count the characters of 'text'"),
    "two rationales": ({"text": "a", "spans": [[0, 1]], "rationale": [1]}, "holds rationale and spans"),
    "no text": ({"label": 1}, "it has none"),
    "two texts": ({"text": "a", "words": ["a"]}, "it has text and words"),
    "half a pair": ({"good": ["a"]}, "it has good"),
    "empty": ({"text": "  "}, "line 2 .* is empty"),
    "no words": ({"words": []}, "line 2 .* is empty"),
    "empty word": ({"words": ["a", " "]}, "word 1 of the list is empty"),
    "only special pieces": ({"wordpieces": ["[CLS]", "[SEP]"]}, "is empty"),
    "continued": ({"wordpieces": ["[CLS]", "##s", "[SEP]"]}, "'##s' continues a word"),
    "text is no text": ({"text": 3}, r"text: .*\(got 3\)"),
    "no object": ([1], r"line 2 .*must hold an object"),
    "no JSON": ("{", "line 2 of .* is not JSON"),
    "surrogate": ('{"text": "\\ud800"}', "lone surrogate"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, name):
    row, said = BAD_ROWS[name]
    path = lines(tmp_path / "rows.jsonl", {"text": "fine"}, row)
    with pytest.raises(InputError, match=said) as caught:
        read_jsonl(path)
    assert f"line 2 of {str(path)!r}" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_list_of_wrong_things_is_one_error(tmp_path):
    with pytest.raises(InputError) as caught:
        read_jsonl(lines(tmp_path / "rows.jsonl", {"words": ["a"] * 50, "rationale": [7] * 50}))
    assert str(caught.value).count("got 7") == 1


def test_a_bad_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="there are no examples in"):
        read_jsonl(lines(tmp_path / "empty.jsonl", "", "  "))
    with pytest.raises(InputError, match=r"two examples .* id 'x'"):
        read_jsonl(lines(tmp_path / "same.jsonl", {"id": "x", "text": "a"}, {"id": "x", "text": "b"}))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"text": "café"}'.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8: see byte 13"):
        read_jsonl(latin)


# ERASER


def test_eraser_with_a_file_for_each_document():
    assert [shown(each) for each in read_eraser(FIXTURES / "eraser", "test")] == [
        ("a1", "The soup was cold . The waiter was kind and quick .", "NEG", "011110000000"),
        (
            "a2",
            "A warm room . Nothing else was good . The soup was cold . The waiter was kind and quick .",
            "POS",
            "011000000" + "000000001000",
        ),
        ("train-7", "The train came late .", "NEG", None),
    ]


def test_eraser_with_the_documents_in_one_file():
    (found,) = read_eraser(FIXTURES / "listed", "train")
    assert shown(found) == ("e1", "A dog sleeps on the grass . A cat sleeps .", "contradiction", "01000000100")


def annotation(folder: Path, **values: object) -> Path:
    """A folder with one document of six words and one annotation."""
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "d").write_text("zero one two\nthree four five\n", "utf-8")
    evidence = {"docid": "d", "start_token": 1, "end_token": 3} | values
    lines(folder / "train.jsonl", {"annotation_id": "n1", "classification": "A", "evidences": [[evidence]]})
    return folder


def test_eraser_marks_what_any_group_covers(tmp_path):
    rng, count = random.Random(2), 40
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "d").write_text("\n".join(f"w{number}" for number in range(count)), "utf-8")
    for _ in range(20):
        pairs = [sorted(rng.sample(range(count + 1), 2)) for _ in range(rng.randint(1, 6))]
        pieces = [{"docid": "d", "start_token": a, "end_token": b} for a, b in pairs]
        cut = rng.randint(0, len(pieces))
        row = {"annotation_id": "n", "classification": "A", "evidences": [pieces[:cut], pieces[cut:]]}
        lines(tmp_path / "val.jsonl", row)
        (found,) = read_eraser(tmp_path, "val")
        covered = {position for a, b in pairs for position in range(a, b)}
        assert {number for number, mark in enumerate(found.rationale) if mark} == covered


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"end_token": 7}, r"annotation 'n1' \(line 1 of .*\[1, 7\) of 'd' .* 6 words"),
        ({"start_token": 3}, r"\[3, 3\)"),
        ({"start_token": -1}, r"\[-1, 3\)"),
        ({"text": "two three"}, "is 'one two' there, and its text says 'two three'"),
        ({"docid": "e"}, "names the document 'e', which is not"),
        ({"docid": "../train.jsonl"}, "which is not"),
        ({"start_token": "1"}, "start_token: "),
    ],
)
def test_bad_evidence(tmp_path, values, said):
    with pytest.raises(InputError, match=said):
        read_eraser(annotation(tmp_path, **values), "train")


def test_evidence_whose_text_is_spaced_otherwise_is_the_same(tmp_path):
    (found,) = read_eraser(annotation(tmp_path, text="onetwo"), "train")
    assert found.marked == 2


def test_eraser_without_any_document(tmp_path):
    (tmp_path / "docs").mkdir()
    lines(tmp_path / "train.jsonl", {"annotation_id": "n1", "classification": "A", "evidences": []})
    with pytest.raises(InputError, match="names no document"):
        read_eraser(tmp_path, "train")


def test_eraser_splits(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no split is called 'dev'.* Known: test, val\."):
        read_eraser(FIXTURES / "eraser", "dev")
    lines(annotation(tmp_path) / "val.jsonl")
    with pytest.raises(InputError, match=r"no examples in .*val\.jsonl"):
        read_eraser(tmp_path, "val")


# HateXplain


def test_hatexplain():
    folder = FIXTURES / "hatexplain"
    assert [shown(each) for each in read_hatexplain(folder, "train")] == [
        ("p1", "you silly goose go home", "offensive", "01100"),
        ("p2", "a fine day", "normal", None),
    ]
    assert [shown(each) for each in read_hatexplain(folder / "dataset.json", "val")] == [
        ("p4", "awful rain", "hatespeech", None)
    ]
    assert [each.id for each in read_hatexplain(folder, "test")] == ["p5", "p1"]


def posts(folder: Path, split: list[str] | None = None, **values: object) -> Path:
    """A folder with one post."""
    post = {
        "annotators": [{"label": "offensive"}] * 3,
        "rationales": [[1, 0], [1, 0], [0, 1]],
        "post_tokens": ["silly", "goose"],
    } | values
    (folder / "dataset.json").write_text(json.dumps({"p": post}), "utf-8")
    divisions = {"train": ["p"] if split is None else split}
    (folder / "post_id_divisions.json").write_text(json.dumps(divisions), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rationales": [[1, 0], [1]]}, "post 'p' of .*: rationale 2 has 1 marks and the post has 2 words"),
        ({"rationales": [[1, 0], [1, 0], [3, 0]]}, r"post 'p' .*rationales\.2\.0"),
        ({"annotators": [{}]}, r"annotators\.0\.label"),
        ({"post_tokens": ["a", ""]}, "post 'p' of .*word 1 of the list is empty"),
        ({"split": ["q"]}, "post 'q' of .* is not there"),
        ({"split": []}, "no examples in the split 'train'"),
        ({"annotators": [{"label": label} for label in "abc"]}, "no examples in the split 'train'"),
    ],
)
def test_a_bad_post(tmp_path, values, said):
    with pytest.raises(InputError, match=said):
        read_hatexplain(posts(tmp_path, **values), "train")


def test_two_of_two_or_three_rationales_must_agree(tmp_path):
    rng = random.Random(3)
    for count in (2, 3):
        for _ in range(10):
            words = [f"w{number}" for number in range(12)]
            marks = [[rng.randint(0, 1) for _ in words] for _ in range(count)]
            posts(tmp_path, rationales=marks, post_tokens=words)
            (found,) = read_hatexplain(tmp_path, "train")
            pairs = [(first, second) for first in range(count) for second in range(first)]
            expected = [any(marks[a][at] and marks[b][at] for a, b in pairs) for at in range(len(words))]
            assert list(found.rationale or [False] * 12) == expected


def test_a_normal_post_has_no_rationale(tmp_path):
    posts(tmp_path, annotators=[{"label": "normal"}, {"label": "normal"}, {"label": "offensive"}])
    assert [shown(each) for each in read_hatexplain(tmp_path, "train")] == [("p", "silly goose", "normal", None)]


def test_hatexplain_splits(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no split is called 'dev'.* Known: test, train, val\."):
        read_hatexplain(FIXTURES / "hatexplain", "dev")
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match=r"post_id_divisions\.json' cannot be read"):
        read_hatexplain(tmp_path, "train")
    (tmp_path / "post_id_divisions.json").write_text('{"train": ["p"]}')
    with pytest.raises(InputError, match="must hold an object of posts"):
        read_hatexplain(tmp_path, "train")


# Trees


def test_trees():
    assert [shown(each) for each in read_sst_trees(FIXTURES / "trees" / "train.txt")] == [
        ("1", "A sunny day", "positive", "010"),
        ("3", "The soup ( not nice terrible", "negative", "111101"),
        ("4", "lovely but far away", "negative", "0011"),
    ]


def drawn(rng: random.Random, words: int) -> list:
    """A random tree: [label, word] or [label, tree, tree]."""
    label = rng.choice([0, 1, 2, 2, 2, 3, 4])
    if words == 1:
        return [label, f"w{rng.randrange(100)}"]
    left = rng.randint(1, words - 1)
    return [label, drawn(rng, left), drawn(rng, words - left)]


def written(tree: list) -> str:
    return f"({tree[0]} {' '.join(part if isinstance(part, str) else written(part) for part in tree[1:])})"


def phrases(tree: list) -> list[list]:
    """A phrase and all within it."""
    return [tree, *(each for part in tree[1:] if isinstance(part, list) for each in phrases(part))]


def carton(tree: list) -> list[float]:
    """The sentiment of each word: of the outermost phrase around it that is stronger than all phrases within."""

    def values(phrase: list, given: float | None) -> list[float]:
        size = abs(phrase[0] - 2)
        if given is None and all(abs(each[0] - 2) < size for each in phrases(phrase)[1:]):
            given = (phrase[0] - 2) / 2
        if isinstance(phrase[1], str):
            return [given if given is not None else (phrase[0] - 2) / 2]
        return [value for part in phrase[1:] for value in values(part, given)]

    return values(tree, None)


def test_trees_against_the_definition(tmp_path):
    rng = random.Random(4)
    trees = [drawn(rng, rng.randint(1, 20)) for _ in range(300)]
    (tmp_path / "trees.txt").write_text("\n".join(map(written, trees)), "utf-8")
    found = {each.id: each for each in read_sst_trees(tmp_path / "trees.txt")}
    assert [int(name) for name in found] == [number for number, tree in enumerate(trees, 1) if tree[0] != 2]
    some = 0
    for name, each in found.items():
        tree = trees[int(name) - 1]
        expected = [value * (tree[0] - 2) > 0 for value in carton(tree)]
        assert list(each.rationale or [False] * len(expected)) == expected
        assert each.label == ("positive" if tree[0] > 2 else "negative")
        some += 0 < each.marked < len(each.words)
    assert some > 100


def test_a_deep_tree_is_read(tmp_path):
    depth = 5000
    (tmp_path / "deep.txt").write_text("(3 (2 a) " * depth + "(4 b)" + ")" * depth, "utf-8")
    (found,) = read_sst_trees(tmp_path / "deep.txt")
    assert found.rationale == (False,) * depth + (True,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("(3 (2 a) (3 b)", "1 brackets are not closed"),
        ("(3 a))", r"'\)' stands outside"),
        ("(3 a) b", "'b' stands outside"),
        ("(3 a) (3 b)", "it has 2 roots"),
        ("(5 a)", "and there is '5'"),
        ("((3 a))", "and there is nothing"),
        ("(3 a b)", "one holds '3 a b'"),
        ("(3 (3 a) b)", "one holds '3 b'"),
        ("(3)", "one holds '3'"),
        ("a", "'a' stands outside"),
    ],
)
def test_a_bad_tree(tmp_path, line, said):
    (tmp_path / "bad.txt").write_text(f"(3 fine)\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=f"line 2 of .*{said}"):
        read_sst_trees(tmp_path / "bad.txt")


def test_trees_without_a_sentiment(tmp_path):
    (tmp_path / "neutral.txt").write_text("(2 (2 a) (2 b))\n", "utf-8")
    with pytest.raises(InputError, match="there are no examples"):
        read_sst_trees(tmp_path / "neutral.txt")


# Any format


@pytest.mark.parametrize(
    ("path", "split", "expected"),
    [
        (FIXTURES / "eraser", "val", read_eraser(FIXTURES / "eraser", "val")),
        (FIXTURES / "listed", "train", read_eraser(FIXTURES / "listed", "train")),
        (FIXTURES / "hatexplain", "val", read_hatexplain(FIXTURES / "hatexplain", "val")),
        (FIXTURES / "hatexplain" / "dataset.json", "val", read_hatexplain(FIXTURES / "hatexplain", "val")),
        (FIXTURES / "trees", "test", read_sst_trees(FIXTURES / "trees" / "test.txt")),
        (FIXTURES / "trees" / "{split}.txt", "test", read_sst_trees(FIXTURES / "trees" / "test.txt")),
        (FIXTURES / "trees" / "test.txt", None, read_sst_trees(FIXTURES / "trees" / "test.txt")),
        (FIXTURES / "lines", "plain", read_jsonl(PLAIN)),
        (PLAIN, None, read_jsonl(PLAIN)),
        (PAIRS, "dev", read_jsonl(FIXTURES / "lines" / "pairs_dev.jsonl")),
    ],
)
def test_the_format_is_found(path, split, expected):
    assert read(path, split=split) == expected
    assert read(str(path), split=split) == expected


def test_the_format_may_be_named(tmp_path):
    trees = tmp_path / "trees.data"
    trees.write_text("(3 fine)\n", "utf-8")
    assert read(trees, "sst-trees")[0].words == ("fine",)
    with pytest.raises(UnknownNameError, match="no format of rationales is called 'erase'; did you mean 'eraser'"):
        read(trees, "erase")
    with pytest.raises(InputError, match=r"of no known format; .* ends with \.jsonl"):
        read(trees)
    with pytest.raises(InputError, match="of no known format"):
        read(tmp_path)
    with pytest.raises(InputError, match="there is nothing at"):
        read(tmp_path / "none.jsonl")


def test_splits():
    with pytest.raises(
        UnknownNameError, match=r"no split is called 'tset'; did you mean 'test'\? Known: test, train\."
    ):
        read(FIXTURES / "trees", split="tset")
    with pytest.raises(UnknownNameError, match=r"Known: dev, train\. They are the files .*pairs_{split}\.jsonl"):
        read(PAIRS, split="test")
    with pytest.raises(InputError, match="is a single file, so it has no split 'test'"):
        read(PLAIN, split="test")
    for path in (FIXTURES / "eraser", FIXTURES / "trees", PAIRS):
        with pytest.raises(InputError, match="name one, such as split='test'"):
            read(path)


# Tasks


def task_file(folder: Path, text: str, name: str = "task.yaml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


TASK = """
name: pairs
model: minilm-acceptability
data: rows_{split}.jsonl
labels: {acceptable: yes, unacceptable: no}
splits: {train: a, test: b}
licence: invented
quotable: false
"""


def many(folder: Path, count: int = 60) -> Task:
    rows = [{"id": f"r{number}", "text": f"text {number}", "label": number % 2} for number in range(count)]
    for row in rows[:20]:
        row["evidence"] = [1]
    lines(folder / "rows_a.jsonl", *rows)
    lines(folder / "rows_b.jsonl", {"text": "none marked", "label": 7})
    text = TASK.replace("{acceptable: yes, unacceptable: no}", "{0: even, 1: odd}")
    return find_task(str(task_file(folder, text)))


def test_a_task_is_read(tmp_path):
    task = find_task(str(task_file(tmp_path, TASK)))
    assert (task.name, task.model, task.format, task.features) == ("pairs", "minilm-acceptability", None, "word")
    assert task.data == tmp_path / "rows_{split}.jsonl"
    assert task.labels == {"acceptable": "yes", "unacceptable": "no"}
    assert task.quotable is False
    document = {"name": "n", "model": "m", "data": "d.jsonl", "labels": {"0": 1}}
    (tmp_path / "m").mkdir()
    other = Task.read(task_file(tmp_path, json.dumps(document), "task.json"))
    assert (other.labels, other.model, other.quotable) == ({"0": "1"}, str(tmp_path / "m"), True)


def test_examples_are_a_sample(tmp_path):
    task = many(tmp_path)
    whole = task.examples("train")
    assert len(whole) == 60
    assert [each.id for each in whole] != [f"r{number}" for number in range(60)]
    assert {each.id for each in whole} == {f"r{number}" for number in range(60)}
    for each in whole:
        assert each.label == ("odd" if int(each.id[1:]) % 2 else "even")
    for limit in (1, 7, 60, 100):
        assert task.examples("train", limit=limit) == whole[:limit]
    assert task.examples("train", seed=1) != whole
    assert {each.id for each in task.examples("train", marked=True)} == {f"r{number}" for number in range(20)}
    assert len(task.examples("train", marked=True, limit=12)) == 12


def test_a_sample_does_not_depend_on_what_else_is_there(tmp_path):
    few = [each.id for each in many(tmp_path, 30).examples("train")]
    more = [each.id for each in many(tmp_path, 60).examples("train")]
    assert [name for name in more if name in few] == few


def test_examples_that_cannot_be_had(tmp_path):
    task = many(tmp_path)
    with pytest.raises(UnknownNameError, match=r"no split is called 'dev'.* Known: test, train\."):
        task.examples("dev")
    with pytest.raises(InputError, match="limit must be at least 1, not 0"):
        task.examples("train", limit=0)
    with pytest.raises(InputError, match="no class for the label '7' of example '1'; its labels are 0, 1"):
        task.examples("test")
    with pytest.raises(InputError, match="no text of the split 'test' of the task 'pairs' has a rationale"):
        task.examples("test", marked=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nmodel: y\n", "data: Field required"),
        ("name: x\nmodel: y\ndata: z\nlabel: {}\n", r"setting of a task is called 'label'; did you mean 'labels'"),
        ("name: x\nmodel: y\ndata: z\nformat: xml\n", "format: .*got 'xml'"),
        ("name: x\nmodel: y\ndata: z\nlabels: 3\n", "labels: "),
        ("- a\n", "must hold settings"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_task(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        find_task(str(task_file(tmp_path, text)))


def test_the_built_in_tasks(tmp_path):
    folder = tmp_path / "rationales"
    folder.mkdir()
    lines(
        folder / "sst2_tree_rationales_dev.jsonl", {"tokens": ["a", "fine", "day"], "label": 1, "rationale": [0, 1, 0]}
    )
    lines(
        folder / "hatexplain_binary_wordpiece_dev.jsonl",
        {"wordpieces": ["[CLS]", "good", "morn", "##ing", "[SEP]"], "label": 0, "rationale": [0, 0, 0, 0, 0]},
    )
    lines(
        folder / "blimp_evidence_dev.jsonl",
        {"good": ["He", "is"], "bad": ["He", "are"], "evidence_good": [1], "evidence_bad": [1]},
    )
    found = {name: find_task(name, tmp_path).examples("dev") for name in BUILT_IN}
    assert [shown(each) for each in found["sst2"]] == [("1", "a fine day", "positive", "010")]
    assert [shown(each) for each in found["hatexplain"]] == [("1", "good morning", "normal", None)]
    assert {shown(each) for each in found["acceptability"]} == {
        ("1/good", "He is", "acceptable", "01"),
        ("1/bad", "He are", "unacceptable", "01"),
    }
    assert [name for name in BUILT_IN if not find_task(name, tmp_path).quotable] == ["hatexplain"]


def test_a_task_that_is_not_there(tmp_path):
    with pytest.raises(UnknownNameError, match="no task is called 'sst'; did you mean 'sst2'"):
        find_task("sst", tmp_path)
    with pytest.raises(InputError, match="the data of the task 'sst2' are not part of pellucid"):
        find_task("sst2")
    with pytest.raises(InputError, match="says itself where its data lie"):
        find_task(str(task_file(tmp_path, TASK)), tmp_path)
    with pytest.raises(UnknownNameError, match=r"no split is called 'dev'.* None is known"):
        find_task("sst2", tmp_path).examples("dev")
    with pytest.raises(InputError, match=r"a task is a \.json, \.yaml, \.yml file"):
        Task.read(task_file(tmp_path, "", "task.toml"))
