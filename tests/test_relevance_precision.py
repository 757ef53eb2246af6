"""Networks of half precision, with tied weights, with checkpoints, and with weights that lie elsewhere."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pellucid
import tiny
from pellucid.errors import ModelError
from pellucid.relevance import trace
from pellucid.relevance.precision import widened
from pellucid.targets import Logit
from relevance_tools import classifier

HALVES = [torch.bfloat16, torch.float16]
TEXT = "the scan was clear and the patient felt well"


def decoder(dtype=torch.float32):
    module, tokenizer = tiny.decoder("llama")
    return copy.deepcopy(module).to(dtype).eval(), tokenizer


def prompt(tokenizer):
    return tokenizer(TEXT, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("composite", pellucid.composites())
def test_half_precision_is_traced_as_float32_with_the_same_weights(dtype, composite):
    module, tokenizer = decoder(dtype)
    ids = prompt(tokenizer)
    found = trace(module, ids, Logit(3), composite=composite)
    expected = trace(copy.deepcopy(module).float(), ids, Logit(3), composite=composite)
    assert found.input.dtype is torch.float32
    assert torch.equal(found.input, expected.input)
    assert {each.dtype for each in module.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", HALVES)
def test_rounded_weights_move_relevance_by_no_more_than_their_rounding(dtype):
    (half, tokenizer), (full, _) = decoder(dtype), decoder()
    ids = prompt(tokenizer)
    found, expected = (trace(each, ids, Logit(3), composite="attnlrp").input for each in (half, full))
    # Eight bits of a bfloat16, eleven of a float16, over the depth of the network.
    assert float((found - expected).norm() / expected.norm()) < 32 * torch.finfo(dtype).eps


def test_what_float16_loses_float32_carries():
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    module[2].weight.data *= 1e-5
    x = torch.rand(4, 8) * 1e-3
    expected = trace(module, x, Logit(1), composite="zplus").input
    half = copy.deepcopy(module).half()
    assert not trace(half, x.half(), Logit(1), composite="zplus", precision="network").input.all()
    found = trace(half, x.half(), Logit(1), composite="zplus").input
    # The weights themselves are below the smallest normal number of a float16.
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_tied_weights_stay_tied_and_the_network_is_left_alone():
    module, _ = decoder(torch.bfloat16)
    module.lm_head.weight = module.model.embed_tokens.weight
    before = {name: each.clone() for name, each in module.state_dict().items()}
    wide = widened(module)
    assert wide.lm_head.weight is wide.model.embed_tokens.weight
    assert wide.lm_head.weight.dtype is torch.float32
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert widened(wide) is wide


def test_a_network_that_cannot_be_copied_says_so():
    module = nn.Sequential(nn.Linear(3, 2)).half()
    module.lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied into float32 .* precision='network'"):
        trace(module, torch.ones(1, 3).half(), Logit(1))
    assert trace(module, torch.ones(1, 3).half(), Logit(1), precision="network").input.any()


@pytest.mark.parametrize("precision", ["float32", "network"])
def test_an_explanation_in_half_precision_is_near_that_of_float32(precision):
    explained = [
        pellucid.explain(
            pellucid.load((module, tokenizer)), TEXT, method="attnlrp", target=Logit(3), precision=precision
        )
        for module, tokenizer in (decoder(torch.bfloat16), decoder())
    ]
    half, full = (each.values for each in explained)
    limit = 0.05 if precision == "float32" else 0.2
    assert abs(half - full).max() < limit * abs(full).max()
    assert [each.settings["precision"] for each in explained] == [precision] * 2
    assert explained[0].fingerprint.dtype == "bfloat16"


def test_checkpoints_of_transformers_change_nothing():
    module, tokenizer = decoder()
    ids = prompt(tokenizer)
    expected = trace(module, ids, Logit(3), composite="attnlrp").input
    module.activation_checkpointing_enable({"use_reentrant": False})
    for each in module.modules():
        # Transformers recomputes in training mode alone, in which this network has no dropout.
        each.training = True
    found = trace(module, ids, Logit(3), composite="attnlrp").input
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("composite", ["attnlrp", "lrp-gamma", "backtrace-contrast"])
def test_checkpoints_in_half_precision(composite):
    class Recomputing(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    inner = classifier().bfloat16()
    x = torch.randn(3, 4, 6).bfloat16()
    found = trace(Recomputing(inner), x, Logit(1), composite=composite).input
    torch.testing.assert_close(found, trace(inner, x, Logit(1), composite=composite).input, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_lie_elsewhere_until_they_are_needed(dtype):
    from accelerate import cpu_offload

    module, tokenizer = decoder(dtype)
    ids = prompt(tokenizer)
    expected = trace(module, ids, Logit(3), composite="attnlrp", precision="network").input
    away = cpu_offload(copy.deepcopy(module), torch.device("cpu"))
    assert {each.device.type for each in away.parameters()} == {"meta"}
    if dtype is torch.bfloat16:
        with pytest.raises(ModelError, match=r"elsewhere until they are needed.*precision='network'"):
            trace(away, ids, Logit(3), composite="attnlrp")
    found = trace(away, ids, Logit(3), composite="attnlrp", precision="network").input
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert {each.device.type for each in away.parameters()} == {"meta"}


@pytest.mark.parametrize("package", ["torchao.dtypes", "bitsandbytes.nn", "optimum.quanto.nn"])
def test_a_quantised_weight_is_refused_by_name(package):
    held = type("Packed", (nn.Parameter,), {"__module__": package})
    module = nn.Sequential(nn.Linear(6, 2))
    module[0].weight = held(torch.zeros(2, 6))
    with pytest.raises(ModelError, match=r"'0\.weight' is quantised \(Packed\)"):
        trace(module, torch.ones(1, 6), Logit(1))


def test_a_weight_of_eight_bits_is_refused_by_name():
    module = nn.Sequential(nn.Linear(6, 2))
    module[0].weight = nn.Parameter(torch.zeros(2, 6).to(torch.float8_e4m3fn))
    with pytest.raises(ModelError, match=r"'0\.weight' is quantised \(torch\.float8_e4m3fn\)"):
        trace(module, torch.ones(1, 6), Logit(1))


def test_what_a_module_holds_beside_its_weights_is_no_hindrance():
    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.last = torch.full((3,), 2.0).bfloat16(), None
            self.inner = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).bfloat16()

        def forward(self, x):
            self.last = self.inner(x * self.scale)
            return self.last

    class Recorder:
        def __init__(self):
            self.seen = []

        def __call__(self, module, args, output):
            self.seen.append(output.dtype)

    module, recorder = Recording(), Recorder()
    x = torch.randn(2, 3).bfloat16()
    module(x)
    module.inner.register_forward_hook(recorder)
    found = trace(module, x, Logit(1), composite="attnlrp", keep=())
    assert found.input.dtype is torch.float32
    assert recorder.seen == [torch.float32]
    expected = trace(copy.deepcopy(module.inner).float(), 2 * x.float(), Logit(1), composite="attnlrp", keep=())
    torch.testing.assert_close(found.input, expected.input, rtol=1e-4, atol=1e-5)
