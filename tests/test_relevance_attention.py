"""Attention and norms under the coefficient composites, against loops and against their own operations."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oracles import coefficient as oracle
from pellucid import Logit
from pellucid.relevance import trace
from relevance_tools import Net, backed, layer, near, randn

MASKS = ["none", "causal", "bool", "float", "bool_heads"]


def masked(kind, heads, queries, keys):
    """(the arguments, allowed [head, query, key], added [head, query, key])."""
    allowed = torch.ones(heads, queries, keys, dtype=torch.bool)
    added = torch.zeros(heads, queries, keys, dtype=torch.float64)
    if kind == "causal":
        return {"is_causal": True}, allowed.tril(), added
    if kind == "bool":
        mask = torch.tensor([[True, False, True, True], [True] * 4, [False, False, True, False]])
        return {"attn_mask": mask}, allowed & mask, added
    if kind == "bool_heads":
        mask = torch.rand(1, heads, queries, keys, generator=torch.Generator().manual_seed(3)) > 0.3
        mask[..., 0] = True
        return {"attn_mask": mask}, allowed & mask[0], added
    if kind == "float":
        mask = randn(heads, queries, keys, seed=4)
        return {"attn_mask": mask[None]}, allowed, added + mask
    return {}, allowed, added


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("kind", MASKS)
def test_fused_attention_against_loops(kind, scale):
    queries, keys, dim, heads = (3, 4, 2, 2)
    q, k, v = (
        randn(1, heads, queries, dim, seed=1),
        randn(1, heads, keys, dim, seed=2),
        randn(1, heads, keys, 3, seed=3),
    )
    options, allowed, added = masked(kind, heads, queries, keys)

    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=scale, **options)

    halved, r = backed(f, (q, k, v), "attnlrp")
    held, _ = backed(f, (q, k, v), "cp-lrp")
    assert not held[0].any()
    assert not held[1].any()
    for head in range(heads):
        loops = oracle.Attention(*(each[0, head] for each in (q, k, v)), scale or dim**-0.5, allowed[head], added[head])
        near(loops.output, f(q, k, v)[0, head])
        near(held[2][0, head], loops.held(r[0, head]))
        for found, expected in zip(halved, loops.halved(r[0, head]), strict=True):
            near(found[0, head], expected)


def test_a_query_that_may_look_at_nothing_has_nothing_to_hand_on():
    q, k, v = (randn(1, 1, 2, 3, seed=seed) for seed in (1, 2, 3))
    mask = torch.tensor([[False, False], [True, False]])

    def f(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).sum((1, 2))

    for rules in ("attnlrp", "cp-lrp"):
        of_q, of_k, of_v = trace(Net(f), (q, k, v), Logit(0), composite=rules).input
        assert not of_q[..., 0, :].any()
        assert not of_v[..., 1, :].any()
        near(of_q.sum() + of_k.sum() + of_v.sum(), v[0, 0, 0, 0] / (2 if rules == "attnlrp" else 1))


def eager(q, k, v, mask=None, groups=1):
    """What the fused kernel computes, by the operations that a network would write."""
    k, v = (each.repeat_interleave(groups, 1) for each in (k, v))
    scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
    return torch.matmul(torch.softmax(scores if mask is None else scores + mask, -1), v)


ROLES = [each for n in (1, 2, 3) for each in itertools.combinations("qkv", n)]


@pytest.mark.parametrize("roles", ROLES)
def test_fused_attention_is_eager_attention_whichever_of_its_operands_are_constants(roles):
    given = {"q": randn(2, 4, 3, 5, seed=1), "k": randn(2, 2, 6, 5, seed=2), "v": randn(2, 2, 6, 5, seed=3)}

    def both(attend):
        return lambda *traced: attend(**given | dict(zip(roles, traced, strict=True)))

    def fused(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    for rules in ("attnlrp", "reslrp", "lrp-0"):
        if rules == "lrp-0" and "v" not in roles:
            continue
        x = tuple(given[role] for role in roles)
        found, _ = backed(both(fused), x, rules)
        expected, _ = backed(both(lambda q, k, v: eager(q, k, v, groups=2)), x, rules)
        for one, other in zip(found, expected, strict=True):
            near(one, other)


def test_a_mask_that_depends_on_the_input_is_a_summand_of_the_scores():
    q, k, v, mask = (randn(1, 1, 3, 3, seed=seed) for seed in range(4))

    def fused(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, mask * 1.0)

    for rules in ("attnlrp", "cp-lrp"):
        found, _ = backed(fused, (q, k, v, mask), rules)
        expected, _ = backed(lambda q, k, v, mask: eager(q, k, v, mask * 1.0), (q, k, v, mask), rules)
        for one, other in zip(found, expected, strict=True):
            near(one, other)


# Norms


def flat(*shape):
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


NORMS = {
    "layer": (lambda: nn.LayerNorm(4), (2, 3, 4), lambda i: i.reshape(-1, 4), (4,)),
    "layer_two_dims": (lambda: nn.LayerNorm((2, 3), eps=0.1), (2, 2, 3), lambda i: i.reshape(-1, 6), (2, 3)),
    "layer_bare": (lambda: nn.LayerNorm(4, elementwise_affine=False), (3, 4), lambda i: i, ()),
    "rms": (lambda: nn.RMSNorm(4), (2, 4), lambda i: i, (4,)),
    "rms_eps": (lambda: nn.RMSNorm(4, eps=0.3, elementwise_affine=False), (2, 4), lambda i: i, ()),
    "group": (lambda: nn.GroupNorm(2, 4), (2, 4, 3), lambda i: i.reshape(4, 6), (4, 1)),
    "group_bare": (lambda: nn.GroupNorm(1, 2, affine=False), (2, 2, 2, 2), lambda i: i.reshape(2, 8), ()),
    "instance": (lambda: nn.InstanceNorm1d(2), (2, 2, 4), lambda i: i.reshape(4, 4), ()),
    "instance_affine": (lambda: nn.InstanceNorm2d(2, affine=True), (1, 2, 2, 3), lambda i: i.reshape(2, 6), (2, 1, 1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_linear_with_its_scale_held(name):
    make, shape, grouped, affine = NORMS[name]
    module, x = layer(make), randn(*shape, seed=6)
    ones = torch.ones(affine, dtype=torch.float64)
    weight = ones if getattr(module, "weight", None) is None else module.weight.detach().reshape(affine)
    bias = ones * 0 if getattr(module, "bias", None) is None else module.bias.detach().reshape(affine)
    eps = module.eps or torch.finfo(torch.float64).eps
    groups = grouped(flat(*shape)).tolist()
    full = [each.expand(shape) for each in (weight, bias)]
    y, held = oracle.normalised(x, groups, *full, eps, centred="rms" not in name)
    near(module(x).detach(), y)
    found, r = backed(module, x, "lrp-0")
    near(found, oracle.linear(held, x, r), 1e-7)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_and_running_instance_norm_are_linear_as_they_are(affine):
    for make in (
        lambda: nn.BatchNorm1d(3, affine=affine),
        lambda: nn.InstanceNorm1d(3, affine=affine, track_running_stats=True),
    ):
        module, x = layer(make), randn(2, 3, 2, seed=7)
        module.running_mean.copy_(randn(3, seed=8))
        module.running_var.copy_(randn(3, seed=9) ** 2 + 0.5)
        with torch.no_grad():
            found, r = backed(module, x, "cp-lrp")
            near(found, oracle.linear(module, x, r), 1e-8)


@pytest.mark.parametrize("make", [lambda: nn.LayerNorm(64), lambda: nn.RMSNorm(64), lambda: nn.RMSNorm(64, eps=1e-6)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_in_half_precision_neither_overflows_nor_loses_its_epsilon(make, dtype):
    module = layer(make).to(dtype)
    for size in (700.0, 1e-3):
        x = (randn(2, 64, seed=1) * size).to(dtype)
        found = trace(module, x, Logit(3), composite="lrp-0").input
        expected = trace(module.double(), x.double(), Logit(3), composite="lrp-0").input
        module.to(dtype)
        assert found.dtype is torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))


def test_a_norm_written_out_is_the_norm_of_torch():
    norm, x = layer(lambda: nn.LayerNorm(6)), randn(2, 6, seed=1)
    spellings = [
        lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + norm.eps),
        lambda x: (x - x.mean(-1, True)) * torch.rsqrt((x - x.mean(-1, True)).pow(2).mean(-1, True) + norm.eps),
        lambda x: from_statistics(*torch.var_mean(x, -1, correction=0, keepdim=True))(x),
        lambda x: from_statistics(*torch.var_mean(x, dim=-1, unbiased=False, keepdim=True))(x),
    ]

    def from_statistics(variance, mean):
        return lambda x: (x - mean) * torch.rsqrt(variance + norm.eps)

    expected, _ = backed(norm, x, "lrp-epsilon")
    for written in spellings:
        found, _ = backed(lambda x, written=written: written(x) * norm.weight + norm.bias, x, "lrp-epsilon")
        near(found, expected)
