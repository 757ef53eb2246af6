"""Whole networks under the composites that carry relevance, against relevance carried by hand, unit by unit."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oracles import relevance as slow
from oracles.relevance_tape import Backtrace, Contrast, Signed, Tape, Torch, flat
from pellucid.relevance import trace
from relevance_tools import layer, near, randn


class Written(nn.Module):
    """A network written as a function of (operations, its parts, x)."""

    def __init__(self, forward, parts):
        super().__init__()
        self.parts, self.written = nn.ModuleDict(parts), forward

    def forward(self, x):
        return self.written(Torch(), self.parts, x)


def mlp(ops, parts, x):
    for name, act in (("a", torch.tanh), ("b", torch.relu), ("c", F.silu), ("d", torch.tanh)):
        x = ops.act(act, ops.linear(parts[name], x))
    return ops.linear(parts["e"], x)


def saturated(ops, parts, x):
    """Under LRP a sigmoid is a gate, and so a constant."""
    for name, act in (("a", torch.sigmoid), ("b", F.silu), ("c", torch.sigmoid), ("d", torch.tanh)):
        x = ops.act(act, ops.linear(parts[name], x))
    return ops.linear(parts["e"], x)


def cnn(ops, parts, x):
    x = ops.act(torch.relu, ops.norm(parts["norm"], ops.linear(parts["a"], x)))
    x = ops.max_pool(parts["max"], x)
    x = ops.add(x, ops.act(torch.relu, ops.linear(parts["depthwise"], x)))
    x = ops.linear(parts["transposed"], x)
    x = ops.average(parts["average"], x)
    x = ops.linear(parts["same"], x)
    return ops.linear(parts["e"], ops.average(lambda x: x.mean((2, 3)), x))


def heads(ops, x, n):
    """[batch, seq, dim] to [batch, head, seq, dim of a head]."""
    return ops.move(lambda x: x.unflatten(-1, (n, -1)).transpose(1, 2), x)


def attended(ops, parts, x, n, mask):
    q, k, v = (heads(ops, ops.linear(parts[name], x), n) for name in "qkv")
    scores = ops.scale(ops.matmul(q, ops.move(lambda k: k.mT, k)), 0.5)
    mixed = ops.matmul(ops.softmax(scores, mask), v)
    return ops.linear(parts["o"], ops.move(lambda x: x.transpose(1, 2).flatten(2), mixed))


def encoder(ops, parts, x):
    """As BERT: norms after the sums."""
    x = ops.norm(parts["norm"], ops.add(x, attended(ops, parts, x, 2, torch.tensor([[True, True, False]]))))
    x = ops.add(x, ops.linear(parts["down"], ops.act(F.gelu, ops.linear(parts["up"], x))))
    return ops.linear(parts["e"], ops.move(lambda x: x[:, 0], x))


def decoder(ops, parts, x):
    """As Llama: norms before, a causal mask, a gate."""
    inner = ops.norm(parts["rms"], x)
    x = ops.add(x, attended(ops, parts, inner, 2, torch.ones(3, 3, dtype=torch.bool).tril()))
    gate = ops.act(F.silu, ops.linear(parts["gate"], x))
    x = ops.add(x, ops.linear(parts["down"], ops.mul(gate, ops.linear(parts["up"], x))))
    return ops.linear(parts["e"], ops.move(lambda x: x[:, -1], x))


def dense(*sizes):
    return {name: partial(nn.Linear, n, m) for name, n, m in sizes}


ATTENTION = dense(*((name, 4, 4) for name in "qkvo"), ("up", 4, 5), ("gate", 4, 5), ("down", 5, 4), ("e", 4, 3))
DENSE = dense(("a", 3, 4), ("b", 4, 5), ("c", 5, 4), ("d", 4, 4), ("e", 4, 3))
NETWORKS = {
    "mlp": (mlp, DENSE, (3,)),
    "saturated": (saturated, DENSE, (3,)),
    "cnn": (
        cnn,
        {
            "a": lambda: nn.Conv2d(2, 2, 3, stride=1, padding=2, dilation=2),
            "norm": lambda: nn.BatchNorm2d(2),
            "max": lambda: nn.MaxPool2d(2, stride=2, ceil_mode=True),
            "depthwise": lambda: nn.Conv2d(2, 2, 3, padding=1, groups=2),
            "transposed": lambda: nn.ConvTranspose2d(2, 2, 2, stride=2, bias=False),
            "average": lambda: nn.AvgPool2d(2, padding=1),
            "same": lambda: nn.Conv2d(2, 3, 3, padding="same"),
            **dense(("e", 3, 3)),
        },
        (2, 5, 5),
    ),
    "encoder": (encoder, ATTENTION | {"norm": lambda: nn.LayerNorm(4)}, (3, 4)),
    "decoder": (decoder, ATTENTION | {"rms": lambda: nn.RMSNorm(4, eps=1e-6)}, (3, 4)),
}
COMPOSITES = {
    "backtrace": Backtrace(),
    "backtrace-contrast": Contrast(),
    "lrp-gamma": Signed(lambda w, x, b, r: slow.gamma(w, x, b, r, 0.25, 1e-6), held=False),
    "alpha-beta": Signed(lambda w, x, b, r: slow.alpha_beta(w, x, b, r, 2.0, 1.0, 1e-6), held=True),
    "zplus": Signed(lambda w, x, b, r: slow.alpha_beta(w, x, b, r, 1.0, 0.0, 1e-6), held=True),
}


def network(name):
    forward, parts, shape = NETWORKS[name]
    module = layer(lambda: Written(forward, {key: make() for key, make in parts.items()}))
    return module, randn(2, *shape, seed=7)


CASES = [(name, rules) for name in NETWORKS for rules in COMPOSITES if name != "saturated" or "backtrace" in rules]


@pytest.mark.parametrize(("name", "composite"), CASES)
def test_a_network_against_relevance_carried_by_hand(name, composite):
    module, x = network(name)
    y = module(x).detach()
    rows = trace(module, x, composite=composite, start=y.abs() if composite == "backtrace-contrast" else y)
    for row in range(len(x)):
        tape = Tape(COMPOSITES[composite])
        leaf = tape.leaf(x[row : row + 1])
        output = module.written(tape, module.parts, leaf)
        near(output.x, y[row : row + 1])
        begun = flat(y[row])
        if composite == "backtrace-contrast":
            tape.back(output, [flat(y[row].abs()), [0.0] * len(begun)])
            near(rows.positive[row].flatten(), torch.tensor(leaf.r[0], dtype=y.dtype))
            near(rows.negative[row].flatten(), torch.tensor(leaf.r[1], dtype=y.dtype))
        else:
            tape.back(output, [begun])
            near(rows.input[row].flatten(), torch.tensor(leaf.r[0], dtype=y.dtype))
