"""The engine: what it leaves as it was, what it refuses, and what a trace can be asked."""

import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pellucid import Logit, Margin
from pellucid.errors import ModelError, NoRuleError, UnknownNameError
from pellucid.relevance import AbstractRule, Kind, composite, trace
from relevance_tools import Classifier, Net, X, classifier, layer, near, randn

COMPOSITES = ("gradient", "input-x-gradient", "cp-lrp", "reslrp")


# What is left as it was


def state(module):
    """Everything of a network that a trace could change, and everything around it."""
    hooks = [
        [
            list(getattr(part, name))
            for name in vars(part)
            if name.endswith("_hooks") or name.endswith("_hooks_with_kwargs")
        ]
        for part in module.modules()
    ]
    parameters = [(p.requires_grad, p.grad, p.clone().detach(), p._version) for p in module.parameters()]
    return {
        "hooks": hooks,
        "training": [part.training for part in module.modules()],
        "parameters": [(a, b, d) for a, b, _, d in parameters],
        "numbers": [c.tolist() for _, _, c, _ in parameters],
        "rng": torch.get_rng_state().tolist(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "modes": torch.overrides._get_current_function_mode_stack(),
        "attributes": [sorted(vars(part)) for part in module.modules()],
    }


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("name", ["gradient", "attnlrp"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_and_torch_are_as_they_were(name, fails):
    module = classifier()
    module.head.weight.requires_grad_(False)
    module.head.bias.grad = torch.ones(3).double()
    if fails:
        module.blocks[1].norm = Fails()
    x = X.clone().requires_grad_()
    before = state(module)
    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            trace(module, x, Logit(1), composite=name)
    else:
        found = trace(module, x, [Logit(1), Logit(0)], composite=name)
        near(trace(module, x, Logit(1), composite=name).input, found.input[0])
        assert not found.input.requires_grad
    assert state(module) == before
    assert x.grad is None
    near(x.detach(), X)


def test_a_refusal_leaves_the_network_as_it_was():
    module = nn.Sequential(classifier(), Net(torch.lgamma))
    before = state(module)
    with pytest.raises(NoRuleError):
        trace(module, X, Logit(1))
    assert state(module) == before


def test_nothing_is_written_into_the_callers_input():
    def f(x):
        x[:, 0] = 0
        x[:, 1].mul_(2)
        x += 1
        return x.sum(1)

    x = X.clone()
    found = trace(Net(f), x, Logit(1), composite="lrp-0").input
    near(x, X)
    expected = torch.zeros_like(X)
    expected[..., 1] = X[..., 1] * torch.tensor([0.0, 2.0, 1.0, 1.0])
    near(found, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_gets_the_same(mode):
    module = classifier()
    expected = trace(module, X, Logit(1)).input
    with mode():
        found = trace(module, X.clone(), Logit(1))
        near(found.input, expected)
        near(found["head"].sum(1), module(X)[:, 1])
    near(trace(module.requires_grad_(False), X, Logit(1)).input, expected)


def test_ids_and_masks_from_inference_mode_can_be_traced():
    module = Net(lambda ids, mask: (TABLE(ids).gather(1, ids[..., None].expand(-1, -1, 4)) * mask[..., None]).sum(1))
    module.table = TABLE
    with torch.inference_mode():
        ids, mask = torch.tensor([[0, 1]]), torch.tensor([[True, False]])
    assert trace(module, (ids, mask), Logit(1)).input[0].shape == (1, 2)


TABLE = layer(lambda: nn.Embedding(5, 4))


def test_two_threads_trace_two_networks_and_the_same_one_at_once():
    modules = [classifier(), layer(lambda: Classifier(), 5)]
    modules.append(modules[0])
    expected = [trace(module, X, Logit(1)).input for module in modules]
    found, gate = {}, threading.Barrier(3)

    def work(i):
        gate.wait()
        found[i] = [trace(modules[i], X, Logit(1)).input for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for i, one in enumerate(expected):
        for each in found[i]:
            near(each, one)
    assert not modules[0].head._forward_hooks


# Checkpoints


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_network_that_recomputes_gives_the_same(name):
    plain, recomputing, calls = classifier(), classifier(again=False), []
    recomputing.blocks[0].norm.register_forward_hook(lambda *_: calls.append(1))
    found = trace(recomputing, X, [Logit(0), Logit(2)], composite=name, keep="blocks.0")
    assert len(calls) == 2
    expected = trace(plain, X, [Logit(0), Logit(2)], composite=name, keep="blocks.0")
    near(found.input, expected.input)
    near(found["blocks.0"], expected["blocks.0"])
    if name == "attnlrp":
        assert len(found.account()) == len(expected.account())


def test_embeddings_inside_a_checkpoint_are_found_once():
    def look(ids):
        return torch.tanh(TABLE(ids))

    ids = torch.tensor([[0, 3, 1]])
    plain, recomputing = (
        Net(lambda ids: look(ids).sum(1)),
        Net(lambda ids: checkpoint(look, ids, use_reentrant=False).sum(1)),
    )
    plain.table = recomputing.table = TABLE
    near(trace(recomputing, ids, Logit(1)).input, trace(plain, ids, Logit(1)).input)


@pytest.mark.parametrize("name", ["gradient", "attnlrp"])
def test_a_re_entrant_checkpoint_is_refused(name):
    with pytest.raises(
        ModelError, match=r"re-entrant checkpoint, which hides its operations; use .*use_reentrant=False"
    ):
        trace(classifier(again=True), X, Logit(1), composite=name)


# What a trace can be asked


@pytest.mark.parametrize("name", COMPOSITES)
def test_several_targets_and_rows_of_a_batch_are_each_as_if_alone(name):
    module, targets = classifier(), [Logit(0), Margin(2), Logit(None)]
    several = trace(module, X, targets, composite=name, keep="*")
    for t, target in enumerate(targets):
        for b in (0, 2):
            one = trace(module, X[b : b + 1], target, composite=name, keep="*")
            near(several.input[t, b], one.input[0])
            for inner in ("blocks.0", "blocks.1.attention.out_proj", "blocks.1.up", "head"):
                if inner in one:
                    near(several[inner][t, b], one[inner][0])
    assert several.seeded.shape == (3,)


@pytest.mark.parametrize("start", ["one", "tensor"])
def test_a_start_of_ones_or_of_a_tensor(start):
    module = classifier()
    y = module(X).detach()
    if start == "one":
        found = trace(module, X, Logit(1), start="one")
        near(found["head"], torch.tensor([0.0, 1.0, 0.0]).expand(3, 3).double())
    else:
        found = trace(module, X, start=torch.stack([y[0], 0 * y[1], 2 * y[2]]))
        near(found.input[0], sum(trace(module, X, Logit(i)).input[0] for i in range(3)))
        near(found.input[2], 2 * sum(trace(module, X, Logit(i)).input[2] for i in range(3)))
        assert not found.input[1].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_near_that_of_float32(dtype):
    module = classifier()
    for parameter in module.parameters():
        parameter.data.mul_(0.4)
    for name in ("attnlrp", "cp-lrp", "input-x-gradient"):
        expected = trace(module.double(), X, Logit(1), composite=name, keep="blocks.0").input
        found = trace(module.to(dtype), X.to(dtype), Logit(1), composite=name, keep="blocks.0")
        assert found.input.dtype is found["blocks.0"].dtype is torch.float32
        size = float(expected.abs().max())
        torch.testing.assert_close(
            found.input.double(), expected, rtol=0, atol=(0.1 if dtype is torch.bfloat16 else 0.02) * size
        )


def test_what_is_kept_and_what_is_looked_up_later():
    module, calls = classifier(), []
    module.head.register_forward_hook(lambda *_: calls.append(1))
    kept = trace(module, X, Logit(1), keep=("blocks.*.up", "head"))
    assert list(kept) == ["blocks.0.up", "blocks.1.up", "head"]
    with pytest.raises(UnknownNameError, match=r"Only what keep= names"):
        kept["blocks.0"]
    with pytest.raises(UnknownNameError, match="It was called 1 times"):
        kept["head", 1]
    assert len(calls) == 1
    lazy = trace(module, X, Logit(1))
    near(lazy["blocks.0.up"], kept["blocks.0.up"])
    near(lazy["blocks.1.attention"], trace(module, X, Logit(1), keep="*")["blocks.1.attention"])
    assert len(calls) == 4
    module.head.weight.data.mul_(2)
    with pytest.raises(ModelError, match="has changed since it was traced"):
        lazy.account()


def test_tuples_dicts_and_single_vectors():
    a, b = randn(2, 3, seed=1), randn(2, 3, seed=2)
    of_a, of_b = trace(Net(lambda a, b: a * 2 + b), (a, b), Logit(1)).input
    near(of_a[:, 1], 2 * a[:, 1])
    near(of_b[:, 1], b[:, 1])

    class Named(nn.Module):
        def forward(self, a, *, b, attention_mask=None, flag=True):
            return (a * 2 + b) * attention_mask if flag else a

    mask = torch.tensor([[1.0, 1.0, 0.0]]).double()
    found = trace(Named(), {"b": b, "a": a, "attention_mask": mask, "flag": True}, Logit(1)).input
    assert list(found) == ["b", "a", "attention_mask", "flag"]
    near(found["a"], of_a)
    near(found["b"], of_b)
    assert not found["attention_mask"].any()
    single = trace(layer(lambda: nn.Linear(3, 2)), a[0], Logit(1)).input
    near(single, trace(layer(lambda: nn.Linear(3, 2)), a[:1], Logit(1)).input[0])


def test_ids_get_the_relevance_of_their_vectors_and_positions_stand_beside():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places, self.head = nn.Embedding(7, 4), nn.Embedding(5, 4), nn.Linear(4, 2)

        def forward(self, ids):
            places = torch.arange(ids.shape[1])[None]
            return self.head((self.words(ids) + self.places(places)).sum(1))

    module = layer(Text)
    # The ids are those of their places: what tells them apart is where they come from.
    ids = torch.tensor([[0, 1, 2]])
    found = trace(module, ids, [Logit(0), Logit(1)], composite="lrp-0")
    words = module.words.weight[ids] @ module.head.weight.T
    near(found.input, words.permute(2, 0, 1).detach())
    near(found.beside["places"], (module.places.weight[ids] @ module.head.weight.T).permute(2, 0, 1).detach())
    near(found.arrived + module.head.bias.detach(), module(ids)[0].detach())


# The account


class Leaky(AbstractRule):
    """A rule that loses a tenth on purpose."""

    carriers = ("coefficient",)
    kinds = frozenset({Kind.SUM, Kind.RESIDUAL})

    def forward(self, ctx, func, args, kwargs):
        return func(*args, **kwargs)

    def backward(self, ctx, *carriers):
        return carriers[0] * 0.9, carriers[0] * 0.9


@pytest.mark.parametrize("name", COMPOSITES[1:])
def test_the_account_balances_and_conserving_composites_leak_nothing(name):
    module = classifier()
    account = trace(module, X, [Logit(0), Logit(2)], composite=name).account()
    for row in account:
        assert row["in"] == pytest.approx(row["out"] + row["absorbed"] + row["leaked"], abs=1e-9)
    assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, abs=1e-9)
    if name != "input-x-gradient":
        assert max(abs(row.leaked) for row in account) < 1e-9 * max(1, abs(account.seeded))
        assert abs(account.absorbed) > 1e-3


def test_a_rule_that_leaks_comes_first_in_the_account():
    rules = composite("attnlrp").with_rule(Kind.RESIDUAL, Leaky())
    account = trace(classifier(), X, Logit(1), composite=rules).account()
    assert [(row.operation, row.module) for row in account[:4]].count(("add", "blocks.1")) == 2
    assert {row.operation for row in account[:4]} == {"add"}
    assert abs(account[0].leaked) > 1e-3
    assert max(abs(row.leaked) for row in account[4:]) < 1e-9
    assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, abs=1e-9)


def test_the_account_counts_what_is_written_over():
    def f(x):
        y = x * 1.0
        y[:, 0] = 2.0
        y[:, 1:2] = y[:, 2:3] + 1
        y[:, 3].add_(0.5)
        return y.sum(1)

    account = trace(Net(f), X, Logit(1), composite="lrp-0").account()
    assert account.absorbed == pytest.approx(3 * (2 + 1 + 0.5), abs=1e-9)
    assert account.leaked == pytest.approx(0, abs=1e-9)
    assert account.seeded == pytest.approx(account.arrived + account.absorbed, abs=1e-9)


def test_the_account_gives_a_constant_that_wins_what_arrives_at_it():
    account = trace(Net(lambda x: torch.maximum(x, X.flip(0)).sum(1)), X, Logit(1), composite="lrp-0").account()
    wins = (X.flip(0) >= X)[..., 1]
    ties = (X.flip(0) == X)[..., 1] * 0.5
    assert account.absorbed == pytest.approx(float((X.flip(0)[..., 1] * (wins.double() - ties)).sum()), abs=1e-9)
    assert account.leaked == pytest.approx(0, abs=1e-9)
