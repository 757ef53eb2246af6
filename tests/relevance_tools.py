"""What the tests of relevance share: small double networks, and one way to ask for a trace."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pellucid.relevance import trace


class Net(nn.Module):
    """A network of one function."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *x):
        return self.f(*x)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(make, seed=0):
    """A double layer with normal parameters, not with the small ones of torch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().double().eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter)
    return module


def backed(f, x, rules, seed=9):
    """(relevance at the input, the relevance it started from at the output)."""
    with torch.no_grad():
        y = f(*x) if isinstance(x, tuple) else f(x)
    r = randn(*y.shape, seed=seed)
    return trace(Net(f), x, composite=rules, start=r).input, r


def near(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Classifier(nn.Module):
    """[batch, 4, 6] to [batch, 3], with and without recomputing."""

    def __init__(self, again=None):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(6, 3)
        self.dropout = nn.Dropout(0.5)
        self.again = again

    def forward(self, x):
        for block in self.blocks:
            x = block(x) if self.again is None else checkpoint(block, x, use_reentrant=self.again)
        return self.head(self.dropout(x.mean(1)))


def classifier(again=None):
    return layer(lambda: Classifier(again))


X = randn(3, 4, 6, seed=1)
