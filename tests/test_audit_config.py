"""The configuration of an audit: YAML and TOML, overrides, paths, and one sentence for every mistake."""

from pathlib import Path

import pytest

from pellucid.audit.config import AuditConfig, Generate, Outcome, Search, commented_example
from pellucid.errors import InputError, UnknownNameError

SMALL = "cases: cases.csv\ntemplate: 'Nodes: {nodes}.'\nchoices: [low, high]\nout: run\n"
GIVEN = {"cases": "cases.csv", "template": "Nodes: {nodes}.", "choices": "low,high", "out": "run"}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_commented_example_is_valid_and_holds_every_setting(tmp_path: Path) -> None:
    text = commented_example()
    config = AuditConfig.read(write(tmp_path / "audit.yaml", text))
    assert config.outcome == Outcome(column="recurrence", options={"yes": "high", "no": "low"})
    assert config.choices == ("low", "high")
    assert config.counterfactual == Search()
    assert config.wordings == {"menopause": {"Pre": "premenopausal", "Post": "postmenopausal"}}
    for name in [*AuditConfig.model_fields, *Generate.model_fields, *Search.model_fields, *Outcome.model_fields]:
        assert f"{name}:" in text, name
    settings = ("checks", "method", "token_method", "seed", "features", "full_checks_on", "missing", "absent", "model")
    fresh = AuditConfig.of(**GIVEN)
    assert {name: getattr(config, name) for name in settings} == {name: getattr(fresh, name) for name in settings}
    assert all(line == line.rstrip() for line in text.splitlines())
    config.check_names(["age", "menopause", "size", "grade", "nodes", "pr", "er", "hair"], [
        "id", "age", "menopause", "size", "grade", "nodes", "pr", "er", "hair", "recurrence",
    ])  # fmt: skip


def test_the_generated_alternative_of_the_example_is_valid_too(tmp_path: Path) -> None:
    text = commented_example().replace("choices: [low, high]", "#").replace("# generate:", "generate:")
    for name in ("max_new_tokens", "temperature", "seed"):
        text = text.replace(f"#   {name}", f"  {name}")
    text = text[: text.index("outcome:")] + text[text.index("out:") :]
    config = AuditConfig.read(write(tmp_path / "audit.yaml", text))
    assert config.generate == Generate()
    assert config.choices is None


def test_yaml_values_are_what_is_written(tmp_path: Path) -> None:
    text = SMALL.replace("[low, high]", "[no, yes]") + "wordings:\n  h: {yes: on, no: off, 05: null five, 1.0: one}\n"
    text += "store_text: yes\nlimit: 007\nsettings: {samples: 64, paired: true, rate: 0.5, name: abc}\n"
    config = AuditConfig.read(write(tmp_path / "a.yml", text))
    assert config.choices == ("no", "yes")
    assert config.wordings == {"h": {"yes": "on", "no": "off", "05": "null five", "1.0": "one"}}
    assert config.store_text is True
    assert config.limit == 7
    assert config.settings == {"samples": 64, "paired": True, "rate": 0.5, "name": "abc"}


def test_toml_says_the_same(tmp_path: Path) -> None:
    text = (
        'cases = "cases.csv"\ntemplate = "Nodes: {nodes}."\nchoices = ["low", "high"]\nout = "run"\n'
        'expected = "nodes"\n[outcome]\ncolumn = "cens"\n[outcome.options]\n1 = "high"\n0 = "low"\n'
        '[wordings.grade]\n1 = "good"\n'
    )
    config = AuditConfig.read(write(tmp_path / "a.toml", text))
    assert config.outcome == Outcome(column="cens", options={"1": "high", "0": "low"})
    assert config.expected == ("nodes",)
    same = (
        SMALL + "expected: [nodes]\noutcome: {column: cens, options: {1: high, 0: low}}\nwordings: {grade: {1: good}}\n"
    )
    assert AuditConfig.read(write(tmp_path / "a.yaml", same)) == config


def test_paths_are_relative_to_the_file_and_overrides_to_the_working_folder(tmp_path: Path) -> None:
    write(tmp_path / "prompt.txt", "\ufeffNodes: {nodes}.\n")
    (tmp_path / "tiny-model").mkdir()
    text = "cases: data/c.csv\ntemplate_file: prompt.txt\nchoices: low, high\nout: /absolute\nmodel: tiny-model\n"
    config = AuditConfig.read(write(tmp_path / "a.yaml", text), out=Path("elsewhere"))
    assert config.cases == tmp_path / "data" / "c.csv"
    assert config.out == Path("elsewhere")
    assert config.model == str(tmp_path / "tiny-model")
    assert config.template_text() == "Nodes: {nodes}."
    assert AuditConfig.read(tmp_path / "a.yaml").out == Path("/absolute")
    assert AuditConfig.read(write(tmp_path / "b.yaml", SMALL)).model == "smollm2"


def test_overrides_replace_and_none_leaves_alone(tmp_path: Path) -> None:
    config = AuditConfig.read(write(tmp_path / "a.yaml", SMALL + "limit: 5\n"), seed=3, limit=None)
    assert (config.seed, config.limit) == (3, 5)
    changed = config.with_overrides(template_file=Path("t.txt"), generate=Generate(max_new_tokens=4), seed=None)
    assert changed.template is None
    assert changed.choices is None
    assert changed.generate == Generate(max_new_tokens=4)
    assert changed.seed == 3
    assert changed.with_overrides(choices="a, b").generate is None
    assert config.with_overrides() == config
    incomplete = write(tmp_path / "b.yaml", "cases: c.csv\n")
    assert AuditConfig.read(incomplete, template="{a}", choices=["x", "y"], out="o").choices == ("x", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SMALL + "metod: lime\n", "no setting of an audit is called 'metod'; did you mean 'method'?"),
        (SMALL + "counterfactual: {max_chages: 1}\n", "setting of counterfactual .*did you mean 'max_changes'"),
        (SMALL + "seed: -1\n", r"seed: .* \(got '-1'\)"),
        (SMALL + "seed: many\n", "seed: "),
        (SMALL + "checks: all\n", "checks: .*'none', 'free' or 'full'"),
        (SMALL + "limit: 0\n", "limit: "),
        (SMALL + "template_file: x.txt\n", "exactly one of template and template_file must be given, not template and"),
        (SMALL + "generate: {}\n", "exactly one of choices and generate"),
        ("cases: c.csv\ntemplate: x\nout: o\n", "exactly one of choices and generate must be given, not none"),
        ("template: x\nchoices: [a, b]\nout: o\n", "cases: Field required"),
        (SMALL.replace("[low, high]", "[low]"), "at least two different answers"),
        (SMALL.replace("[low, high]", "[low, low]"), "at least two different answers"),
        (SMALL + "outcome: {column: c, options: {1: big}}\n", "names 'big', which is not among the choices"),
        (SMALL + "expected: [a]\ndecoy: [a]\n", "'a' is both expected and a decoy"),
        (SMALL + "wordings: {a: {x: ''}}\n", "the wording of 'x' in column 'a' is empty"),
        (SMALL + "seed: 1\nseed: 2\n", "'seed' stands twice"),
        (SMALL + "wordings: {a: {x: u, x: v}}\n", "'x' stands twice"),
        (SMALL + "x: [\n", "is malformed"),
        (SMALL + "x: !!python/object/apply:os.system [ls]\n", "no setting of an audit is called 'x'"),
        ("- a\n- b\n", "must hold settings"),
        ("", "cases: Field required"),
        (b"cases: \xff\n", "not UTF-8"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        AuditConfig.read(write(tmp_path / "a.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_run_keeps_its_identity_where_only_places_differ(tmp_path: Path) -> None:
    config = AuditConfig.of(**GIVEN)
    write(tmp_path / "t.txt", "Nodes: {nodes}.\n")
    same = config.with_overrides(template_file=tmp_path / "t.txt", out="b", cases="d.csv", limit=3, title="x")
    assert same.identity() == config.identity()
    assert len(config.identity()) == 64
    for change in ({"seed": 1}, {"template": "N: {nodes}"}, {"choices": "high,low"}, {"store_text": True}):
        assert config.with_overrides(**change).identity() != config.identity()


def test_a_token_method_can_be_switched_off(tmp_path: Path) -> None:
    assert AuditConfig.read(write(tmp_path / "a.yaml", SMALL + "token_method: none\n")).token_method is None
    assert AuditConfig.of(**GIVEN).with_overrides(token_method="none").token_method is None
    assert AuditConfig.of(**GIVEN, token_method=None).token_method == "input_x_gradient"


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        AuditConfig.read(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match=r"\.yaml, \.yml or \.toml"):
        AuditConfig.read(write(tmp_path / "a.json", "{}"))
    with pytest.raises(InputError, match="malformed"):
        AuditConfig.read(write(tmp_path / "a.toml", "cases = \n"))
    with pytest.raises(UnknownNameError, match="did you mean 'choices'"):
        AuditConfig.of(**GIVEN, choises="x,y")
    gone = AuditConfig.of(**{**GIVEN, "template": None}, template_file=tmp_path / "gone.txt")
    with pytest.raises(InputError, match="No such file"):
        gone.template_text()
    write(tmp_path / "gone.txt", b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        gone.template_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"expected": "node"}, "no field is called 'node'; did you mean 'nodes'.*'expected' names it"),
        ({"decoy": "hair"}, "no field is called 'hair'"),
        ({"wordings": {"x": {"a": "b"}}}, "'wordings' names it"),
        ({"missing": {"x": "unknown"}}, "'missing' names it"),
        ({"absent": {"x": "unknown"}}, "'absent' names it"),
        ({"id_column": "idd"}, "no column is called 'idd'; did you mean 'id'"),
        ({"outcome": {"column": "y", "options": {"1": "low"}}}, "no column is called 'y'"),
    ],
)
def test_names_that_no_template_or_table_has(given: dict[str, object], message: str) -> None:
    config = AuditConfig.of(**GIVEN, **given)
    with pytest.raises(UnknownNameError, match=message):
        config.check_names(["nodes"], ["id", "nodes"])
    AuditConfig.of(**GIVEN).check_names(["nodes"], ["id", "nodes"])
    with pytest.raises(UnknownNameError, match="no column is called 'size'"):
        AuditConfig.of(**GIVEN).check_names(["nodes", "size"], ["id", "nodes"])
