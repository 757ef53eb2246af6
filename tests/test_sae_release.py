"""Releases: what is packed, that it can be checked, and that nothing foreign gets in."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pellucid import sae
from pellucid.cli import app
from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.sae import releasing
from pellucid.sae.evaluation.records import Densities, Evaluation, Quality
from pellucid.sae.events.digest import digest
from pellucid.sae.formats.sums import sums_of
from pellucid.sae.interpretation.results import INTERPRETATIONS, Interpretation
from pellucid.sae.interpretation.scoring import Verdict, score

D, WIDTH = 6, 12


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(WIDTH, D, generator=generator) for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.zeros(WIDTH), "b_dec": torch.zeros(D), "threshold": torch.tensor(0.5)}
    config = sae.Config(d_in=D, width=WIDTH, k=2, architecture="matryoshka", prefixes=(4, WIDTH))
    origin = sae.Origin(model="some/model", site="model.layers.3", corpus="a | b\n<c>", tokens=1234)
    return sae.SAE(config, weights, origin)


def evaluated(model, **changes):
    known = {"tokens": 99, "fvu": 0.25, "l0": 2.0, "alive": 11, "dead_share": 1 / 12}
    quality = Quality(**{name: 0.0 for name in Quality.model_fields} | known)
    densities = Densities(edges=(-2.0, -1.0, 0.0), counts=(5, 6), dead=1, median=0.1, above_tenth=5)
    fields = {
        "sae": digest(model), "store": "0" * 64, "site": "model.layers.3", "model": "some/model", "corpus": "letters",
        "selector": {}, "held_out": False, "architecture": "matryoshka", "width": WIDTH, "d_in": D, "all": quality,
        "modalities": {}, "densities": densities, "similarity": None,
    }  # fmt: skip
    return Evaluation(**fields | changes)


@pytest.fixture
def beside(model, tmp_path):
    """(folder of interpretations, file of an evaluation)."""
    folder, file = tmp_path / "run", tmp_path / "judged.json"
    folder.mkdir()
    truth = [True] * 4 + [False] * 4
    good = score(truth, [Verdict(each) for each in truth], ["random"] * 8)
    lines = [
        Interpretation(latent=3, explanation="a, phrase", explainer="someone", judges={"detection": "a judge"},
                       scores={"detection": good}, events=40),
        Interpretation(latent=1, explanation="", reason="too few", events=2),
    ]  # fmt: skip
    (folder / INTERPRETATIONS).write_text("".join(f"{each.model_dump_json()}\n" for each in lines))
    file.write_text(evaluated(model).model_dump_json())
    return folder, file


def released(model, beside, out, **options):
    return sae.release(model, out, interpretations=beside[0], evaluation=beside[1], **options)


@pytest.mark.parametrize("format", ["pellucid", "sae-lens", "dictionary-learning"])
def test_a_release_is_whole_and_reads_as_what_was_packed(model, beside, tmp_path, format):
    found = released(model, beside, tmp_path / "out", format=format)
    x = torch.randn(30, D, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(sae.SAE.load(found.folder)(x), model(x))
    lines = (found.folder / "SHA256SUMS").read_text().splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    names = {path.name for path in found.folder.iterdir()}
    assert sums.keys() == names - {"SHA256SUMS"}
    assert {"README.md", "scores.csv", "evaluation.json", INTERPRETATIONS} < names
    assert all(hashlib.sha256((found.folder / name).read_bytes()).hexdigest() == each for name, each in sums.items())
    assert releasing.verify(found.folder) == found
    assert found.interpretations == 1
    assert found.bytes == sum(path.stat().st_size for path in found.folder.iterdir())


def test_scores_are_a_table(model, beside, tmp_path):
    found = released(model, beside, tmp_path / "out")
    with (found.folder / "scores.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["latent"], first["explanation"], first["detection_accuracy"]) == ("1", "", "")
    assert (second["latent"], second["explanation"], second["detection_accuracy"]) == ("3", "a, phrase", "1.0")
    assert float(second["detection_accuracy_low"]) < 1


def test_the_card_says_what_is_known_and_no_more(model, beside, tmp_path):
    text = (
        released(model, beside, tmp_path / "out", format="sae-lens", license="mit").folder / "README.md"
    ).read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "mit", "library_name": "saelens", "base_model": "some/model",
        "tags": ["sparse-autoencoder", "interpretability", "matryoshka"],
    }  # fmt: skip
    assert "| nested prefixes | 4, 12 |" in body
    assert "| variance unexplained | 0.2500 |" in body
    assert "NOT held out" in body
    assert "| corpus | a \\| b &lt;c> |" in body
    assert "SAE.load_from_disk" in body
    bare = sae.SAE(model.config, model.state_dict())
    text = (sae.release(bare, tmp_path / "bare").folder / "README.md").read_text()
    assert "license" not in text
    assert "Where it comes from" not in text
    assert "How well" not in text
    assert "stand for" not in text


def test_what_was_changed_is_found(model, beside, tmp_path):
    folder = released(model, beside, tmp_path / "out").folder
    (folder / "scores.csv").write_text("latent\n")
    with pytest.raises(RecordError, match=r"scores\.csv .* is not the file"):
        releasing.verify(folder)
    sae.SAE.load(folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(RecordError, match=r"config\.json .* is not the file"):
        sae.SAE.load(folder)


def test_what_is_missing_or_too_much_is_found(model, beside, tmp_path):
    folder = released(model, beside, tmp_path / "out").folder
    (folder / "more.txt").write_text("?")
    with pytest.raises(RecordError, match="not among its checksums"):
        releasing.verify(folder)
    (folder / "more.txt").unlink()
    (folder / "evaluation.json").unlink()
    with pytest.raises(RecordError, match=r"evaluation\.json .* cannot be read"):
        releasing.verify(folder)
    with pytest.raises(InputError, match="is no release"):
        releasing.verify(tmp_path)


def test_checksums_lead_out_of_no_folder(model, tmp_path):
    folder = sae.release(model, tmp_path / "out").folder
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    with pytest.raises(RecordError, match="line 1"):
        releasing.verify(folder)


def test_what_is_of_another_autoencoder_is_refused(model, beside, tmp_path):
    other = evaluated(model, sae="f" * 64)
    beside[1].write_text(other.model_dump_json())
    with pytest.raises(InputError, match="is of another autoencoder"):
        released(model, beside, tmp_path / "out")
    beyond = Interpretation(latent=WIDTH, explanation="x")
    (beside[0] / INTERPRETATIONS).write_text(f"{beyond.model_dump_json()}\n")
    with pytest.raises(InputError, match=f"latent {WIDTH}, and this autoencoder has {WIDTH}"):
        sae.release(model, tmp_path / "out", interpretations=beside[0])
    beside[1].write_text("{}")
    with pytest.raises(RecordError, match="the evaluation"):
        sae.release(model, tmp_path / "out", evaluation=beside[1])
    assert not (tmp_path / "out").exists()


def _of(folder, found):
    (folder / "run.json").write_text(json.dumps({"sources": {"sae": found}}))


def test_interpretations_of_another_autoencoder_are_refused(model, beside, tmp_path):
    _of(beside[0], "f" * 64)
    with pytest.raises(InputError, match=r"interpretations .* are of another autoencoder \(f{12}"):
        released(model, beside, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    _of(beside[0], digest(model))
    first = released(model, beside, tmp_path / "out").folder
    weights = {name: 2 * value for name, value in model.state_dict().items()}
    other = sae.SAE(model.config, weights, model.origin)
    with pytest.raises(InputError, match=r"interpretations in the release .* are of another autoencoder"):
        sae.release(other, tmp_path / "more", interpretations=first)
    assert sae.release(model, tmp_path / "more", interpretations=first).interpretations == 1


def _summed_again(folder):
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text(sums_of(folder, names))


def test_verify_compares_what_was_packed_with_what_is_there(model, beside, tmp_path):
    folder = released(model, beside, tmp_path / "out").folder
    tensors = load_file(folder / "model.safetensors")
    save_file({name: 2 * value for name, value in tensors.items()}, folder / "model.safetensors")
    _summed_again(folder)
    with pytest.raises(RecordError, match=r"is another .* than the one that was packed"):
        releasing.verify(folder)
    (folder / "release.json").unlink()
    _summed_again(folder)
    with pytest.raises(RecordError, match="nothing tells which autoencoder its interpretations are of"):
        releasing.verify(folder)


def test_a_layout_that_rounds_is_verified_too(model, beside, tmp_path):
    config = model.config.model_copy(update={"subtract_decoder_bias": False})
    weights = dict(model.state_dict()) | {"b_dec": torch.linspace(0.1, 0.7, D)}
    shifted = sae.SAE(config, weights, model.origin)
    beside[1].write_text(evaluated(shifted).model_dump_json())
    _of(beside[0], digest(shifted))
    found = released(shifted, beside, tmp_path / "out", format="dictionary-learning")
    assert digest(sae.SAE.load(found.folder)) != digest(shifted)
    assert releasing.verify(found.folder) == found


def test_the_current_folder_takes_a_release_or_nothing(model, tmp_path, monkeypatch):
    here, replace = tmp_path / "here", Path.replace
    here.mkdir()
    monkeypatch.chdir(here)

    def full(path, target):
        if Path(target).name == "SHA256SUMS" and Path(target).parent == Path():
            raise OSError(28, "No space left on device")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(RecordError, match=r"'\.' cannot be written \(No space left"):
            sae.release(model, ".")
    assert list(here.iterdir()) == []
    found = sae.release(model, ".")
    assert "# here\n" in Path("README.md").read_text()
    # Not replaced by another one, which would leave every process in it nowhere.
    assert releasing.verify(Path.cwd()).files == found.files
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_failure_leaves_nothing(model, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        sae.release(model, tmp_path / "there")
    with pytest.raises(UnknownNameError):
        sae.release(model, tmp_path / "out", format="onnx")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(releasing, "write_atomically", full)
    with pytest.raises(RecordError, match="No space left"):
        sae.release(model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def run(*words):
    return CliRunner().invoke(app, ["sae", "release", *map(str, words)])


def test_the_command(model, beside, tmp_path):
    model.save(tmp_path / "sae")
    result = run(
        tmp_path / "sae", "--interpretations", beside[0], "--evaluation", beside[1], "--format", "sae-lens",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["interpretations"] == 1
    checked = run(tmp_path / "out", "--verify")
    assert "every file is the one of the checksums" in checked.stdout
    (tmp_path / "out/README.md").write_text("changed")
    for words, code in (
        ((tmp_path / "out", "--verify"), 1),
        ((tmp_path / "sae",), 2),
        ((tmp_path / "out", "--verify", "--out", "x"), 2),
    ):
        failed = run(*words)
        assert failed.exit_code == code
        assert failed.stderr.startswith("Error: ")
        assert len(failed.stderr.splitlines()) == 1
