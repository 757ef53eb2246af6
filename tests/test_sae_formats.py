"""Autoencoders in four layouts: read as their own libraries read them, written so that nothing is lost."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pellucid.errors import InputError, PellucidError, RecordError, UnknownNameError
from pellucid.sae import SAE, Config, Origin
from pellucid.sae.formats import LAYOUTS, layout_of, read

PEERS = Path(__file__).parent / "fixtures/sae"
CHECKPOINTS = sorted(path.name for path in PEERS.iterdir() if path.is_dir())
ARCHITECTURES = {
    "dictionary-learning-batchtopk": "batchtopk",
    "dictionary-learning-jumprelu": "jumprelu",
    "dictionary-learning-maira2": "matryoshka",
    "dictionary-learning-topk": "topk",
    "sae-lens-batchtopk": "batchtopk",
    "sae-lens-jumprelu": "jumprelu",
    "sae-lens-layer-norm": "jumprelu",
    "sae-lens-matryoshka": "matryoshka",
    "sae-lens-standard": "jumprelu",
    "sae-lens-token-norm": "jumprelu",
    "sae-lens-topk": "topk",
    "sae-lens-topk-plain": "topk",
    "sparsify-topk": "topk",
}
D, N = 6, 20


def made(architecture="matryoshka", **others):
    """A small autoencoder of random weights, whose threshold leaves about a third of the latents."""
    generator = torch.Generator().manual_seed(3)
    prefixes = (5, 12, N) if architecture == "matryoshka" else ()
    config = Config(d_in=D, width=N, k=4, architecture=architecture, prefixes=prefixes, **others)
    weights = {
        "W_enc": torch.randn(N, D, generator=generator),
        "b_enc": 0.3 * torch.randn(N, generator=generator),
        "W_dec": torch.randn(N, D, generator=generator),
        "b_dec": torch.randn(D, generator=generator),
    }
    if architecture == "jumprelu":
        weights["threshold"] = torch.rand(N, generator=generator)
    elif architecture != "topk":
        weights["threshold"] = torch.tensor(0.7)
    origin = Origin(model="tiny", site="model.layers.3", corpus="letters", tokens=900, training={"steps": 4})
    return SAE(config, weights, origin)


def activations(count=50):
    return 2 * torch.randn(count, D, generator=torch.Generator().manual_seed(8)) + torch.arange(D) / 3


def close(found, truth, **tolerance):
    torch.testing.assert_close(found, truth, **tolerance)


# What the peers wrote.


def test_every_checkpoint_is_expected():
    assert sorted(ARCHITECTURES) == CHECKPOINTS


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_reads_as_the_peer_itself_did(name):
    sae, truth = SAE.load(PEERS / name), load_file(PEERS / name / "truth.safetensors")
    assert sae.config.architecture == ARCHITECTURES[name]
    # SAELens adds its epsilon elsewhere where it normalises tokens.
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if name.endswith("-norm") else {"rtol": 1e-6, "atol": 2e-6}
    x = truth["x"]
    close(sae(x), truth["reconstruction"], **tolerance)
    close(sae.decode(sae.encode(x), like=x), truth["reconstruction"], **tolerance)
    folded = name == "sae-lens-layer-norm"
    assert not folded or not torch.equal(sae.W_dec, load_file(PEERS / name / "sae_weights.safetensors")["W_dec"])
    close(sae.encode(x), truth["latents"], **tolerance)
    assert 0 < truth["latents"].count_nonzero() < truth["latents"].numel()


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("format", LAYOUTS)
def test_peers_checkpoints_survive_every_layout_that_can_hold_them(name, format, tmp_path):
    sae, x = SAE.load(PEERS / name), load_file(PEERS / name / "truth.safetensors")["x"]
    try:
        sae.save(tmp_path / "out", format)
    except InputError:
        assert format in ("sparsify", "dictionary-learning")
        assert format == "sparsify" or name.endswith("-norm")
        assert not (tmp_path / "out").exists()
        return
    back = SAE.load(tmp_path / "out")
    close(back(x), sae(x), rtol=1e-5, atol=1e-5)
    assert back.config.architecture == sae.config.architecture
    assert back.config.prefixes == sae.config.prefixes


def test_the_shape_of_maira2_is_read_with_its_groups_and_settings():
    sae = SAE.load(PEERS / "dictionary-learning-maira2")
    trainer = json.loads((PEERS / "dictionary-learning-maira2/config.json").read_text())["trainer"]
    assert trainer["group_fractions"] == [0.5, 0.25, 0.125, 0.0625, 0.0625]
    assert sae.config.prefixes == (24, 36, 42, 45, 48)
    # The library takes the mean over five groups of what it has already weighted by a fifth.
    assert sae.config.prefix_weights == pytest.approx([1 / 25] * 5)
    assert sae.config.k == trainer["k"] == 4
    assert sae.config.lr == trainer["lr"]
    assert sae.config.aux_weight == 1 / 32
    assert sae.origin.model == "tiny"
    assert sae.origin.site == "model.layers.1"


def test_saelens_matryoshka_keeps_its_widths():
    sae = SAE.load(PEERS / "sae-lens-matryoshka")
    assert sae.config.prefixes == (12, 24, 48)
    assert sae.threshold.shape == ()
    assert float(sae.threshold) > 0


def test_a_threshold_that_was_never_set_lets_every_positive_latent_pass(tmp_path):
    state = torch.load(PEERS / "dictionary-learning-maira2/ae.pt", weights_only=True)
    torch.save({**state, "threshold": torch.tensor(-1.0)}, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text((PEERS / "dictionary-learning-maira2/config.json").read_text())
    sae, x = SAE.load(tmp_path), load_file(PEERS / "dictionary-learning-maira2/truth.safetensors")["x"]
    close(sae.encode(x), torch.relu((x - state["b_dec"]) @ state["W_enc"] + state["b_enc"]))


def test_a_scale_beside_an_autoencoder_is_folded_and_one_that_is_missing_is_refused(tmp_path):
    source = PEERS / "sae-lens-topk"
    config = json.loads((source / "cfg.json").read_text()) | {"normalize_activations": "expected_average_only_in"}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    (tmp_path / "sae_weights.safetensors").write_bytes((source / "sae_weights.safetensors").read_bytes())
    with pytest.raises(InputError, match="activation_scaler"):
        SAE.load(tmp_path)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    truth = load_file(source / "truth.safetensors")
    sae = SAE.load(tmp_path)
    close(sae.encode(4 * truth["x"]), truth["latents"], rtol=1e-5, atol=1e-5)
    close(sae(4 * truth["x"]), 4 * truth["reconstruction"], rtol=1e-5, atol=1e-5)


# What we write.


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka", "jumprelu"])
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("format", LAYOUTS)
def test_round_trips(architecture, subtract, format, tmp_path):
    sae, x = made(architecture, subtract_decoder_bias=subtract), activations()
    if format == "sparsify" and architecture != "topk":
        with pytest.raises(InputError, match=f"this one is {architecture}"):
            sae.save(tmp_path / "out", format)
        return
    sae.save(tmp_path / "out", format)
    assert layout_of(tmp_path / "out") == LAYOUTS[format]
    back = SAE.load(tmp_path / "out")
    assert back.origin == sae.origin
    facts = {"subtract_decoder_bias", "decoder"}
    assert back.config.model_dump(exclude=facts) == sae.config.model_dump(exclude=facts)
    if back.config.subtract_decoder_bias == subtract:
        for name, value in sae.state_dict().items():
            if name != "threshold" or architecture != "topk":
                assert torch.equal(back.state_dict()[name], value), name
    else:
        assert format in ("sparsify", "dictionary-learning")
    close(back.encode(x), sae.encode(x), rtol=1e-5, atol=1e-5)
    close(back(x), sae(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["layer-norm", "token-norm"])
def test_normalisation_of_tokens_is_kept_or_refused(mode, tmp_path):
    sae, x = made("jumprelu", normalisation=mode), activations()
    for format in ("pellucid", "sae-lens"):
        sae.save(tmp_path / format, format)
        back = SAE.load(tmp_path / format)
        assert back.config.normalisation == mode
        close(back(x), sae(x), rtol=1e-5, atol=1e-5)
    for format in ("dictionary-learning", "sparsify"):
        with pytest.raises(InputError, match="write it as"):
            sae.save(tmp_path / format, format)


def test_saelens_reads_the_tensors_it_expects(tmp_path):
    sae = made()
    sae.save(tmp_path / "out", "sae-lens")
    tensors = load_file(tmp_path / "out/sae_weights.safetensors")
    config = json.loads((tmp_path / "out/cfg.json").read_text())
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {
        "W_enc": (D, N), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,), "threshold": (N,)
    }  # fmt: skip
    assert (config["architecture"], config["d_in"], config["d_sae"]) == ("jumprelu", D, N)
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert config["metadata"]["training_architecture"] == "matryoshka_batchtopk"
    x = activations()
    a = (x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    close(torch.relu(a) * (a > tensors["threshold"]), sae.encode(x), rtol=1e-5, atol=1e-5)


def test_dictionary_learning_reads_the_tensors_it_expects(tmp_path):
    made().save(tmp_path / "out", "dictionary-learning")
    state = torch.load(tmp_path / "out/ae.pt", weights_only=True)
    assert {name: tuple(each.shape) for name, each in state.items()} == {
        "W_enc": (D, N), "b_enc": (N,), "W_dec": (N, D), "b_dec": (D,), "k": (), "threshold": (), "group_sizes": (3,)
    }  # fmt: skip
    assert state["k"].dtype == torch.int32
    assert state["group_sizes"].tolist() == [5, 7, 8]
    trainer = json.loads((tmp_path / "out/config.json").read_text())["trainer"]
    assert trainer["dict_class"] == "MatryoshkaBatchTopKSAE"
    assert trainer["group_weights"] == pytest.approx([1.0] * 3)


def test_half_precision_is_read_as_single(tmp_path):
    made().bfloat16().save(tmp_path / "out")
    assert SAE.load(tmp_path / "out").W_enc.dtype == torch.float32


def test_a_file_of_the_folder_names_it(tmp_path):
    made().save(tmp_path / "out")
    assert SAE.load(tmp_path / "out/config.json").config == made().config


def test_saving_again_replaces_and_leaves_other_files_alone(tmp_path):
    made().save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    made("jumprelu").save(tmp_path)
    assert SAE.load(tmp_path).config.architecture == "jumprelu"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]


@pytest.mark.parametrize("format", LAYOUTS)
def test_the_current_folder_takes_an_autoencoder(format, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made("topk").save(".", format)
    # Not replaced by another one, which would leave every process in it nowhere.
    assert layout_of(Path("..", "here")).name == layout_of(Path.cwd()).name == format
    assert SAE.load(".").config.architecture == "topk"
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_two_layouts_do_not_share_a_folder(tmp_path):
    made().save(tmp_path / "out", "sae-lens")
    with pytest.raises(InputError, match="already holds an autoencoder in the layout 'sae-lens'"):
        made().save(tmp_path / "out")
    with pytest.raises(UnknownNameError, match="did you mean 'sae-lens'"):
        made().save(tmp_path / "out", "saelens")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pellucid.sae.formats.folders.save_file", full)
    with pytest.raises(RecordError, match=r"cannot be written \(No space left on device\)"):
        made().save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# Damage.


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_pickled_objects_are_refused_and_never_run(tmp_path, capsys):
    made().save(tmp_path / "out", "dictionary-learning")
    torch.save({"W_enc": Evil()}, tmp_path / "out/ae.pt")
    with pytest.raises(RecordError, match="pickled objects"):
        SAE.load(tmp_path / "out")
    (tmp_path / "out/ae.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RecordError, match="ae"):
        SAE.load(tmp_path / "out")
    assert capsys.readouterr().out == ""


def _without(name):
    def damage(folder):
        path = next(folder.glob("*.safetensors"), None)
        if path is None:
            state = torch.load(folder / "ae.pt", weights_only=True)
            state.pop(name)
            torch.save(state, folder / "ae.pt")
        else:
            tensors = load_file(path)
            tensors.pop(name)
            save_file(tensors, path)

    return damage


def _shortened(folder):
    path = next(each for each in folder.iterdir() if each.suffix in (".safetensors", ".pt"))
    path.write_bytes(path.read_bytes()[:100])


def _entry(name, value):
    def damage(folder):
        path = next(folder.glob("*.json"))
        document = json.loads(path.read_text())
        inner = document.get("trainer", document.get("config", document))
        if name in inner:
            inner[name] = value
        else:
            document[name] = value
        path.write_text(json.dumps(document))

    return damage


def _nan(folder):
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    tensors["b_dec"][0] = torch.nan
    save_file(tensors, path)


DAMAGES = {
    "no-encoder": ("pellucid", _without("W_enc"), RecordError, "no tensor 'W_enc'"),
    "no-threshold": ("sae-lens", _without("threshold"), RecordError, "no tensor 'threshold'"),
    "no-encoder-dl": ("dictionary-learning", _without("W_enc"), RecordError, "no encoder of a Matryoshka"),
    "no-bias": ("dictionary-learning", _without("b_dec"), RecordError, "no tensor 'b_dec'"),
    "short": ("pellucid", _shortened, RecordError, "cannot be read as safetensors"),
    "short-dl": ("dictionary-learning", _shortened, RecordError, "cannot be read as a torch file"),
    "width": ("pellucid", _entry("width", 21), RecordError, r"has the shape \[20, 6\], and its configuration says"),
    "d_sae": ("sae-lens", _entry("d_sae", 21), RecordError, "has the shape"),
    "no-d_sae": ("sae-lens", _entry("d_sae", None), RecordError, "no entry 'd_sae'"),
    "schema": ("pellucid", _entry("schema_version", 7), RecordError, "schema 7"),
    "gated": ("sae-lens", _entry("architecture", "gated"), InputError, "'gated' of SAELens"),
    "reshape": ("sae-lens", _entry("reshape_activations", "hook_z"), InputError, "hook_z"),
    "whitening": ("sae-lens", _entry("normalize_activations", "covariance_whitening"), InputError, "whitening"),
    "class": ("dictionary-learning", _entry("dict_class", "GatedAutoEncoder"), InputError, "'GatedAutoEncoder'"),
    "setting": ("pellucid", _entry("k", 99), RecordError, "k is 99"),
    "nan": ("pellucid", _nan, RecordError, "b_dec of the autoencoder has NaN"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_in_one_sentence(damage, tmp_path):
    format, act, kind, said = DAMAGES[damage]
    made().save(tmp_path / "out", format)
    act(tmp_path / "out")
    with pytest.raises(kind, match=said) as caught:
        SAE.load(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def _metadata(details):
    def damage(folder):
        path = folder / "cfg.json"
        document = json.loads(path.read_text())
        document["metadata"].pop("pellucid")
        document["metadata"]["training_architecture_details"] |= details
        path.write_text(json.dumps(document))

    return damage


def _trainer(**entries):
    def damage(folder):
        path = folder / "config.json"
        document = json.loads(path.read_text())
        document["trainer"] |= entries
        path.write_text(json.dumps(document))

    return damage


ODD = {
    "steps": ("dictionary-learning", _trainer(steps="abc", decay_start=3)),
    "decay_start": ("dictionary-learning", _trainer(steps=10, decay_start=[1])),
    "weights-number": ("dictionary-learning", _trainer(group_weights=4)),
    "weights-text": ("dictionary-learning", _trainer(group_weights="abc")),
    "normalisation": ("sae-lens", _entry("normalize_activations", [1])),
    "widths": ("sae-lens", _metadata({"matryoshka_widths": 4})),
    "k": ("sae-lens", _metadata({"k": [1]})),
}


@pytest.mark.parametrize("damage", ODD)
def test_entries_of_an_odd_type_name_the_file(damage, tmp_path):
    format, act = ODD[damage]
    made().save(tmp_path / "out", format)
    act(tmp_path / "out")
    with pytest.raises(RecordError, match=r"(config|cfg)\.json' ") as caught:
        SAE.load(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"transcode": True}, "transcoder"), ({"activation": "groupmax"}, "'groupmax'"), ({"k": None}, "no entry 'k'")],
)
def test_what_sparsify_has_and_we_have_not(entry, said, tmp_path):
    made("topk").save(tmp_path / "out", "sparsify")
    path = tmp_path / "out/cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    with pytest.raises(PellucidError, match=said):
        SAE.load(tmp_path / "out")


def test_an_empty_folder_and_one_of_folders(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="one of these pairs of files"):
        read(tmp_path)
    made().save(tmp_path / "trainer_0", "dictionary-learning")
    made().save(tmp_path / "trainer_1", "dictionary-learning")
    with pytest.raises(InputError, match=r"holds 2 autoencoders .* trainer_0, trainer_1"):
        read(tmp_path)
    (tmp_path / "cfg.json").write_text("not JSON")
    (tmp_path / "sae.safetensors").write_bytes(b"")
    with pytest.raises(RecordError, match="is not JSON"):
        read(tmp_path)


def test_checksums_beside_an_autoencoder_are_compared(tmp_path):
    made().save(tmp_path / "out")
    path = tmp_path / "out/model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "out/SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    SAE.load(tmp_path / "out")
    made("jumprelu").save(tmp_path / "out")
    with pytest.raises(RecordError, match="not the file that SHA256SUMS names"):
        SAE.load(tmp_path / "out")
    (tmp_path / "out/SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(RecordError, match="line 1"):
        SAE.load(tmp_path / "out")
