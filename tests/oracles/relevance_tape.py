"""Whole networks by hand: operations written down on a tape, then relevance carried back over it, unit by unit.

A network is a function of (ops, x). Given ``Torch()`` it computes what torch does; given a ``Tape`` it computes the
same and remembers how relevance goes back, by the rules of the tape. Relevance is a list of labels, each a flat list.
"""

import torch

from oracles import relevance as slow


class Torch:
    """The operations themselves."""

    def linear(self, f, a):
        return f(a)

    average = move = norm = linear

    def act(self, f, a):
        return f(a)

    def add(self, a, b):
        return a + b

    def mul(self, a, b):
        return a * b

    def scale(self, a, factor):
        return a * factor

    def matmul(self, a, b):
        return a @ b

    def softmax(self, a, mask=None):
        return (a if mask is None else a.masked_fill(~mask, -torch.inf)).softmax(-1)

    def max_pool(self, f, a):
        return f(a)


class Value:
    def __init__(self, x, labels):
        self.x = x.detach()
        self.r = [[0.0] * x.numel() for _ in range(labels)]

    def receive(self, r):
        self.r = [[one + more for one, more in zip(*pair, strict=True)] for pair in zip(self.r, r, strict=True)]


def affine(f, x):
    """W [unit, input] and b of an affine map, at the shape of x."""
    nothing = torch.zeros_like(x)
    with torch.no_grad():
        bias = f(nothing).flatten()
    jacobian = torch.autograd.functional.jacobian(f, nothing)
    return jacobian.reshape(bias.numel(), x.numel()).tolist(), bias.tolist()


def flat(x):
    return x.flatten().tolist()


class Tape:
    """A network's operations under one composite."""

    def __init__(self, rules):
        self.rules, self.steps = rules, []

    def leaf(self, x):
        return Value(x, self.rules.labels)

    def back(self, output, r):
        output.receive(r)
        for step in reversed(self.steps):
            step()

    def _write(self, y, received):
        """Remember a result, and what its operands receive: [(operand, relevance), ...] of its own."""
        value = self.leaf(y)

        def step():
            for operand, r in received(value.r):
                operand.receive(r)

        self.steps.append(step)
        return value

    def linear(self, f, a):
        weights, bias = affine(f, a.x)
        # The activation that follows becomes known later.
        value = self._write(f(a.x), lambda r: [(a, self.rules.linear(weights, flat(a.x), bias, r, value.following))])
        value.following = None
        return value

    def average(self, f, a):
        weights, bias = affine(f, a.x)
        return self._write(f(a.x), lambda r: [(a, self.rules.plain(weights, flat(a.x), bias, r))])

    def norm(self, f, a):
        return self._write(f(a.x), lambda r: [(a, self.rules.norm(f, a.x, r))])

    def move(self, f, a):
        weights, _ = affine(f, a.x)
        return self._write(f(a.x), lambda r: [(a, [moved(weights, label) for label in r])])

    def act(self, f, a):
        if hasattr(a, "following"):
            a.following = {"tanh": "tanh", "sigmoid": "sigmoid", "silu": "swish"}.get(f.__name__)
        return self._write(f(a.x), lambda r: [(a, r)])

    def scale(self, a, factor):
        return self._write(a.x * factor, lambda r: [(a, r)])

    def add(self, a, b):
        def received(r):
            found = [[], []]
            for at, terms in enumerate(zip(flat(a.x), flat(b.x), strict=True)):
                parts = self.rules.plain([[1.0, 1.0]], terms, [0.0], [[label[at]] for label in r])
                for term in (0, 1):
                    found[term].append([label[term] for label in parts])
            return [(each, transposed(rows)) for each, rows in zip((a, b), found, strict=True)]

        return self._write(a.x + b.x, received)

    def mul(self, a, b):
        def received(r):
            x, y = flat(a.x), flat(b.x)
            shares = [transposed([self.rules.product(*each) for each in zip(x, y, label, strict=True)]) for label in r]
            return [(a, [label[0] for label in shares]), (b, [label[1] for label in shares])]

        return self._write(a.x * b.x, received)

    def matmul(self, a, b):
        """[1, head, query, k] times [1, head, k, dim]."""

        def received(r):
            labels = [torch.tensor(label, dtype=a.x.dtype).reshape(y.shape) for label in r]
            to_a, to_b = [torch.zeros_like(a.x) for _ in r], [torch.zeros_like(b.x) for _ in r]
            for h, q, d in torch.cartesian_prod(*(torch.arange(size) for size in y.shape[1:])).tolist():
                z = flat(a.x[0, h, q] * b.x[0, h, :, d])
                ones = [[1.0] * len(z)]
                parts = self.rules.plain(ones, z, [0.0], [[float(label[0, h, q, d])] for label in labels])
                first, second = self.rules.halves
                for place, part in enumerate(parts):
                    shares = torch.tensor(part, dtype=a.x.dtype)
                    to_a[place][0, h, q] += first * shares
                    to_b[place][0, h, :, d] += second * shares
            return [(a, [flat(each) for each in to_a]), (b, [flat(each) for each in to_b])]

        y = a.x @ b.x
        return self._write(y, received)

    def softmax(self, a, mask=None):
        masked = a.x if mask is None else a.x.masked_fill(~mask, -torch.inf)
        y = masked.softmax(-1)
        return self._write(y, lambda r: [(a, [self.rules.softmax(masked, y, label) for label in r])])

    def max_pool(self, f, a):
        """Windows: what an average pool of the same shape reads."""
        average = torch.nn.AvgPool2d(f.kernel_size, f.stride, f.padding, f.ceil_mode)
        windows = [[i for i, w in enumerate(row) if w] for row in affine(average, a.x)[0]]
        return self._write(f(a.x), lambda r: [(a, [slow.max_pool(flat(a.x), label, windows) for label in r])])


def transposed(rows):
    return [[*column] for column in zip(*rows, strict=True)]


def moved(weights, label):
    return [sum(row[i] * each for row, each in zip(weights, label, strict=True)) for i in range(len(weights[0]))]


class Backtrace:
    labels = 1
    halves = (0.5, 0.5)

    def linear(self, weights, x, b, r, following):
        return [slow.backtrace(weights, x, b, r[0], following)]

    def plain(self, weights, x, b, r):
        return [slow.backtrace(weights, x, b, r[0])]

    def norm(self, f, x, r):
        return r

    def product(self, x, y, r):
        return r / 2, r / 2

    def softmax(self, x, y, r):
        return [each if weight else 0.0 for each, weight in zip(r, flat(y), strict=True)]


class Contrast(Backtrace):
    labels = 2

    def linear(self, weights, x, b, r, following):
        return [*slow.contrast(weights, x, b, *r)]

    def plain(self, weights, x, b, r):
        return [*slow.contrast(weights, x, b, *r)]

    def product(self, x, y, r):
        share = abs(y) / (abs(x) + abs(y)) if x or y else 0.5
        return r * share, r * (1 - share)


class Signed(Backtrace):
    """A rule of the LRP family for linear maps, and epsilon for the rest; ``held``: attention weights are constants."""

    def __init__(self, rule, held, epsilon=1e-6):
        self.rule, self.held, self.epsilon = rule, held, epsilon
        self.halves = (0.0, 1.0) if held else (0.5, 0.5)

    def linear(self, weights, x, b, r, following):
        return [self.rule(weights, x, b, r[0])]

    def plain(self, weights, x, b, r):
        return [slow.epsilon(weights, x, b, r[0], self.epsilon)]

    def norm(self, f, x, r):
        """The layer with its standard deviation at x."""
        held = held_at(f, x)
        weights, bias = affine(held, x)
        return self.plain(weights, flat(x), bias, r)

    def product(self, x, y, r):
        each = r * x * y / slow.stab(x * y, self.epsilon) / 2
        return each, each

    def softmax(self, x, y, r):
        jacobian = torch.autograd.functional.jacobian(lambda x: x.softmax(-1), x).reshape(x.numel(), x.numel())
        c = [each / slow.stab(weight, self.epsilon) for each, weight in zip(r, flat(y), strict=True)]
        found = moved(jacobian.tolist(), c)
        return [value * each if weight else 0.0 for value, each, weight in zip(flat(x), found, flat(y), strict=True)]


def held_at(f, x):
    """A layer or RMS norm over the last dimension as the affine map that it is at a given deviation."""
    if isinstance(f, torch.nn.LayerNorm):
        scale = (x.var(-1, correction=0, keepdim=True) + f.eps).rsqrt()
        return lambda t: (t - t.mean(-1, keepdim=True)) * scale * f.weight.detach() + f.bias.detach()
    if isinstance(f, torch.nn.RMSNorm):
        scale = (x.square().mean(-1, keepdim=True) + f.eps).rsqrt()
        return lambda t: t * scale * f.weight.detach()
    return f
