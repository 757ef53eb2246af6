"""The result type: files that are whole or refused, and other libraries' forms of it."""

import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import pellucid
import tiny
from peers import shap
from pellucid import Check, Checks, Explanation, Template, Tokens
from pellucid.account import Entry
from pellucid.errors import InputError, PellucidError, RecordError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def explanation():
    model = pellucid.load(tiny.decoder("llama", tiny.CHATML))
    prompt = Template("Age: {age}. Note: {note}.")(age="52", note="<script>alert('x')</script> \u202eevil")
    return pellucid.explain(
        model, prompt, method="kernel_shap", features="word", target=Tokens("high risk"), samples=60, seed=1
    )


def same(one, other):
    assert one.model_dump(mode="json") == other.model_dump(mode="json")
    for name in ("values", "base_values", "full_values", "standard_error", "layer_values"):
        a, b = getattr(one, name), getattr(other, name)
        if name == "layer_values" and a is None:
            assert b is None
            continue
        assert a.dtype == b.dtype == np.float32
        assert a.tobytes() == b.tobytes()
        assert a.shape == b.shape


@pytest.fixture(scope="module")
def traced(explanation):
    """The same with relevance at three layers and an account of it."""
    layers = np.random.default_rng(0).normal(size=(2, 3, len(explanation.features))).astype(np.float32)
    fields = {name: getattr(explanation, name) for name in Explanation.model_fields}
    account = (
        Entry.of("linear", "layers.0.mlp", arrived=2.0, handed_on=1.5, absorbed=0.25),
        Entry(operation="exp", module="", in_=float("inf"), out=0.0, absorbed=0.0, leaked=float("nan")),
    )
    return Explanation(
        **fields
        | {
            "layer_values": layers,
            "layer_names": ("embedding", "layers.0", "layers.1"),
            "account": account,
            "notice": "Patented by \u202e<b>someone</b>.",
        }
    )


@pytest.mark.parametrize("name", ["folder", "file.zip"])
def test_what_is_saved_is_loaded_bit_by_bit(explanation, tmp_path, name):
    path = explanation.save(tmp_path / name)
    same(Explanation.load(path), explanation)
    same(Explanation.load(str(path)), explanation)
    once = sorted(file.read_bytes() for file in path.iterdir()) if path.is_dir() else [b""]
    explanation.save(path)
    assert once == (sorted(file.read_bytes() for file in path.iterdir()) if path.is_dir() else [b""])


@pytest.mark.parametrize("name", ["folder", "file.zip"])
def test_layers_account_and_notice_are_saved_too(traced, tmp_path, name):
    loaded = Explanation.load(traced.save(tmp_path / name))
    same(loaded, traced)
    assert loaded.layer_names == ("embedding", "layers.0", "layers.1")
    assert loaded.notice == traced.notice
    assert loaded.account[0] == traced.account[0]
    assert np.isnan([loaded.account[1].in_, loaded.account[1].leaked]).all()


def test_json_holds_layers_and_the_account_under_its_own_words(traced):
    document = json.loads(json.dumps(traced.to_json(), allow_nan=False))
    np.testing.assert_array_equal(np.float32(document["layer_values"]), traced.layer_values)
    assert document["account"] == [
        {"operation": "linear", "module": "layers.0.mlp", "in": 2.0, "out": 1.5, "absorbed": 0.25, "leaked": 0.25},
        {"operation": "exp", "module": "", "in": None, "out": 0.0, "absorbed": 0.0, "leaked": None},
    ]
    assert document["notice"] == traced.notice


def test_layers_go_along_with_the_features(traced):
    coarse = traced.sum_to("sentence")
    assert coarse.layer_values.shape == (2, 3, len(coarse.features))
    assert coarse.layer_values.dtype == np.float32
    for layer in range(3):
        alone = traced.model_copy(update={"values": traced.layer_values[:, layer]}).sum_to("sentence")
        np.testing.assert_allclose(coarse.layer_values[:, layer], alone.values, atol=1e-6)
    part = traced.keeping([3, 1])
    np.testing.assert_array_equal(part.layer_values, traced.layer_values[:, :, [3, 1]])
    np.testing.assert_array_equal(part.values, traced.values[:, [3, 1]])
    np.testing.assert_array_equal(part.standard_error, traced.standard_error[:, [3, 1]])
    assert part.features == (traced.features[3], traced.features[1])
    assert part.account == traced.account


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layer_values": np.zeros((2, 2, 1), np.float32)}, "layer_values has shape .* 2 targets, 3 layers and"),
        ({"layer_names": ("one",)}, "layer_values has shape .* 2 targets, 1 layers and"),
        ({"layer_values": None}, "layer_names names 3 layers, and there are no layer_values"),
    ],
)
def test_layers_of_another_shape_are_refused(traced, change, sentence):
    fields = {name: getattr(traced, name) for name in Explanation.model_fields}
    with pytest.raises(ValueError, match=sentence):
        Explanation(**fields | change)


def test_no_standard_error_stays_none(explanation, tmp_path):
    bare = explanation.model_copy(update={"standard_error": None})
    assert Explanation.load(bare.save(tmp_path / "bare")).standard_error is None


def edited(path, change):
    document = json.loads((path / "explanation.json").read_text("utf-8"))
    change(document)
    (path / "explanation.json").write_text(json.dumps(document), "utf-8")


CHANGES = {
    "another schema": lambda document: document.update(schema_version=2),
    "another type": lambda document: document.update(type="os.system"),
    "an unknown target": lambda document: document["target"].update(kind="builtins.eval"),
    "an unknown key": lambda document: document.update(__class__="subprocess.Popen"),
    "a feature more": lambda document: document["features"].append(document["features"][0]),
    "a target less": lambda document: document["output_names"].pop(),
    "no method": lambda document: document.pop("method"),
    "values in the document": lambda document: document.update(values=[[1.0]]),
    "a wrong kind of feature": lambda document: document["features"][0].update(kind="soul"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_document_is_refused(explanation, tmp_path, change):
    path = explanation.save(tmp_path / "e")
    edited(path, change)
    with pytest.raises(RecordError, match="does not hold an explanation of schema 1"):
        Explanation.load(path)


@pytest.mark.parametrize("file", ["explanation.json", "tensors.safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 7, 40, -1, -200])
def test_a_truncated_file_is_refused(explanation, tmp_path, file, kept):
    path = explanation.save(tmp_path / "e")
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[:kept])
    with pytest.raises(RecordError):
        Explanation.load(path)


def test_every_truncation_of_an_archive_is_refused(explanation, tmp_path):
    content = explanation.save(tmp_path / "e.zip").read_bytes()
    for kept in range(0, len(content), 211):
        (tmp_path / "cut.zip").write_bytes(content[:kept])
        with pytest.raises(RecordError):
            Explanation.load(tmp_path / "cut.zip")


def test_a_flipped_byte_in_an_archive_is_refused(explanation, tmp_path):
    """An archive carries a checksum of each file; a folder's tensors do not, which is what a signed record is for."""
    content = bytearray(explanation.save(tmp_path / "e.zip").read_bytes())
    place = content.index(b'"method"')
    content[place + 12] ^= 1
    (tmp_path / "e.zip").write_bytes(content)
    with pytest.raises(RecordError):
        Explanation.load(tmp_path / "e.zip")


@pytest.mark.parametrize("content", [b"[]", b"null", b"1", b"\xff\xfe", b"{", b'{"type": NaN}'])
def test_a_document_of_another_shape_is_refused(explanation, tmp_path, content):
    path = explanation.save(tmp_path / "e")
    (path / "explanation.json").write_bytes(content)
    with pytest.raises(RecordError):
        Explanation.load(path)


def test_what_is_not_there_or_no_archive_is_refused(explanation, tmp_path):
    for missing in (tmp_path / "nothing", tmp_path / "nothing.zip"):
        with pytest.raises(InputError, match="no explanation is saved"):
            Explanation.load(missing)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RecordError, match="not an explanation archive"):
        Explanation.load(tmp_path / "other.zip")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(PellucidError):
        Explanation.load(tmp_path / "folder.zip")
    path = explanation.save(tmp_path / "half")
    (path / "tensors.safetensors").unlink()
    with pytest.raises(InputError):
        Explanation.load(path)
    shutil.rmtree(path)


def test_json_holds_no_nan_and_no_infinity(explanation):
    error = np.full_like(explanation.standard_error, np.nan)
    base = np.full_like(explanation.base_values, -np.inf)
    odd = explanation.model_copy(update={"standard_error": error, "base_values": base})
    document = json.loads(json.dumps(odd.to_json(), allow_nan=False))
    assert document["base_values"] == [None] * len(base)
    assert document["standard_error"][0][0] is None
    assert document["feature_names"] == explanation.feature_names
    np.testing.assert_array_equal(np.float32(document["values"]), explanation.values)


def test_a_check_that_is_not_finite_holds_none_and_can_be_saved(explanation, tmp_path):
    check = Check(
        name="x", value=float("nan"), threshold=float("inf"), passed=False, decisive=True, detail="It is not."
    )
    assert (check.value, check.threshold) == (None, None)
    changed = explanation.model_copy(update={"checks": Checks(level="free", items=(check,))})
    assert Explanation.load(changed.save(tmp_path / "e")).reliable is False


def test_reliable_needs_a_decisive_reason():
    def checks(*outcomes):
        return Checks(
            items=tuple(
                Check(name=str(number), value=1.0, threshold=1.0, passed=passed, decisive=decisive, detail=f"{number}.")
                for number, (passed, decisive) in enumerate(outcomes)
            )
        )

    assert checks().reliable is None
    assert checks((True, False), (None, True)).reliable is None
    assert checks((True, False), (True, True)).reliable is True
    assert checks((True, True), (False, False)).reliable is False
    assert checks((True, True), (False, False)).reasons == ["1."]
    with pytest.raises(pellucid.errors.UnknownNameError):
        checks((True, True))["no such"]


def test_shap_takes_it_and_plots_from_it(explanation):
    several = explanation.to_shap()
    assert isinstance(several, shap.Explanation)
    assert several.values.shape == explanation.values.T.shape
    np.testing.assert_array_equal(several[:, 1].values, explanation.values[1])
    assert list(several.feature_names) == explanation.feature_names
    one = explanation.model_copy(
        update={
            "values": explanation.values[:1],
            "base_values": explanation.base_values[:1],
            "output_names": explanation.output_names[:1],
        }
    ).to_shap()
    assert one.values.shape == (len(explanation.features),)
    assert float(one.base_values + one.values.sum()) == pytest.approx(float(explanation.full_values[0]), abs=1e-4)


def test_frame_has_a_row_for_each_target_and_feature(explanation):
    frame = explanation.to_frame()
    assert len(frame) == explanation.values.size
    second = frame[frame.target == explanation.output_names[1]]
    np.testing.assert_allclose(second.value, explanation.values[1])
    assert list(second.feature) == explanation.feature_names


def test_notebook_view_holds_no_script(explanation):
    bundle = explanation._repr_mimebundle_()
    assert "<script" not in bundle["text/html"].lower()
    assert "\u202e" not in bundle["text/html"] + bundle["text/plain"]
    assert repr(explanation).startswith("Explanation(kernel_shap, 2 x ")


def test_without_template_keeps_only_what_the_person_wrote():
    model = pellucid.load(tiny.decoder("llama", tiny.CHATML))
    whole = pellucid.explain(
        model, "Yes no", method="smoothgrad", features="token+template", target=Tokens("high"), samples=2
    )
    part = whole.without_template()
    kept = [place for place, feature in enumerate(whole.features) if feature.role == "input"]
    assert 0 < len(kept) < len(whole.features)
    np.testing.assert_array_equal(part.values, whole.values[:, kept])
    np.testing.assert_array_equal(part.standard_error, whole.standard_error[:, kept])
    assert "".join(part.data) == "Yes no"


def test_shapes_that_disagree_are_refused(explanation):
    fields = {name: getattr(explanation, name) for name in Explanation.model_fields}
    with pytest.raises(ValueError, match="base_values has shape"):
        Explanation(**fields | {"base_values": np.zeros(5, np.float32)})


def test_the_published_schemas_are_those_of_the_code():
    spec = importlib.util.spec_from_file_location("write_schemas", ROOT / "scripts" / "write_schemas.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, schema in script.schemas().items():
        published = (script.FOLDER / name).read_text("utf-8")
        assert published == script.text(schema), f"{name} is out of date: run python scripts/write_schemas.py"
        assert json.loads(published)["type"] == "object"


@pytest.mark.parametrize("name", ["explanation", "traced"])
def test_a_saved_document_has_the_keys_that_the_schema_names(request, name):
    explanation = request.getfixturevalue(name)
    schema = json.loads((ROOT / "docs" / "schema" / "explanation.schema.json").read_text("utf-8"))
    document = explanation.model_dump(mode="json")
    assert set(document) == set(schema["properties"])
    assert set(schema["required"]) <= set(document)
    jsonschema.validate(document, schema)
