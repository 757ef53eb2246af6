"""Recurrent networks in the plainest operations, and the redistribution through a cell by hand, in lists of floats."""

import math

import torch
from torch import nn

from oracles import relevance as rules

EPSILON = 1e-6


class _Direction(nn.Module):
    """One layer in one direction over [batch, time, feature], a linear map of its own for each gate."""

    def __init__(self, kind, weights):
        super().__init__()
        kernel, recurrent, bias, recurrent_bias, projection = weights
        self.kind, gates = kind, {"lstm": 4, "gru": 3}.get(kind, 1)
        self.inside = kind == "gru" and bias is not None
        self.x, self.h = nn.ModuleList(), nn.ModuleList()
        for gate in range(gates):
            cut = slice(gate * len(kernel) // gates, (gate + 1) * len(kernel) // gates)
            own = self.inside and gate == 2
            both = None if bias is None else bias[cut] + (0 if own else recurrent_bias[cut])
            self.x.append(_linear(kernel[cut], both))
            self.h.append(_linear(recurrent[cut], recurrent_bias[cut] if own else None))
        self.project = None if projection is None else _linear(projection, None)

    def forward(self, x, state):
        outputs = []
        for time in range(x.shape[1]):
            state = getattr(self, f"_{self.kind}")(x[:, time], *state)
            outputs.append(state[0])
        return torch.stack(outputs, 1), state

    def _lstm(self, x, h, c):
        i, f, g, o = (to_x(x) + to_h(h) for to_x, to_h in zip(self.x, self.h, strict=True))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h if self.project is None else self.project(h)), c

    def _gru(self, x, h):
        r = torch.sigmoid(self.x[0](x) + self.h[0](h))
        z = torch.sigmoid(self.x[1](x) + self.h[1](h))
        n = torch.tanh(self.x[2](x) + r * self.h[2](h))
        return ((1 - z) * n + z * h,)

    def _rnn_tanh(self, x, h):
        return (torch.tanh(self.x[0](x) + self.h[0](h)),)

    def _rnn_relu(self, x, h):
        return (torch.relu(self.x[0](x) + self.h[0](h)),)


def _linear(weight, bias):
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).to(weight)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


class Plain(nn.Module):
    """The same as a network of torch, batch first, without its fused operation."""

    def __init__(self, fused):
        super().__init__()
        self.states = 2 if fused.mode == "LSTM" else 1
        self.sizes = [fused.proj_size or fused.hidden_size, fused.hidden_size][: self.states]
        self.both = fused.bidirectional
        self.layers = nn.ModuleList()
        for layer in range(fused.num_layers):
            for end in ("", "_reverse")[: 1 + fused.bidirectional]:
                names = (
                    f"{each}_l{layer}{end}" for each in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
                )
                weights = [getattr(fused, name, None) for name in names]
                self.layers.append(_Direction(fused.mode.lower(), weights))

    def forward(self, x, initial=None):
        if initial is None:
            initial = tuple(x.new_zeros(len(self.layers), len(x), size) for size in self.sizes)
        finals, step = [], 2 if self.both else 1
        for place in range(0, len(self.layers), step):
            outputs = []
            for way in range(step):
                begin = tuple(each[place + way] for each in initial)
                output, final = self.layers[place + way](x.flip(1) if way else x, begin)
                outputs.append(output.flip(1) if way else output)
                finals.append(final)
            x = torch.cat(outputs, -1)
        return x, tuple(torch.stack(each) for each in zip(*finals, strict=True))


def sigmoid(number):
    return 1 / (1 + math.exp(-number))


def product(weights, x, bias):
    return [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weights, bias, strict=True)]


class Hand:
    """LSTM or GRU of one layer by hand: ``rule`` "epsilon" takes gates as constants, "backtrace" halves products.

    Weights as torch has them, as nested lists. ``relevance(x, r)``: x [time, feature], r [time, hidden] at the
    hidden states; returns that of x.
    """

    def __init__(self, kind, kernel, recurrent, bias, recurrent_bias, rule):
        self.kind, self.rule, self.size = kind, rule, len(recurrent[0])
        self.gates = len(kernel) // self.size
        cut = [slice(gate * self.size, (gate + 1) * self.size) for gate in range(self.gates)]
        self.kernel, self.recurrent = [kernel[each] for each in cut], [recurrent[each] for each in cut]
        self.own = [
            recurrent_bias[each] if kind == "gru" and gate == 2 else [0.0] * self.size for gate, each in enumerate(cut)
        ]
        self.bias = [
            [
                b + (0 if kind == "gru" and gate == 2 else more)
                for b, more in zip(bias[each], recurrent_bias[each], strict=True)
            ]
            for gate, each in enumerate(cut)
        ]

    def relevance(self, x, r):
        said, h, c = [], [0.0] * self.size, [0.0] * self.size
        for each in x:
            parts = [
                (product(self.kernel[g], each, self.bias[g]), product(self.recurrent[g], h, self.own[g]))
                for g in range(self.gates)
            ]
            said.append((each, h, c, parts))
            h, c = self._step(h, c, parts)
        found, rh, rc = [], [0.0] * self.size, [0.0] * self.size
        for (each, h, c, parts), start in zip(reversed(said), reversed(r), strict=True):
            rh = [a + b for a, b in zip(rh, start, strict=True)]
            to_parts, kept_h, rc = self._back(rh, rc, h, c, parts)
            rx, rh = [0.0] * len(each), kept_h
            for gate, (to_x, to_h) in enumerate(to_parts):
                rx = _added(rx, self._linear(self.kernel[gate], each, self.bias[gate], to_x))
                rh = _added(rh, self._linear(self.recurrent[gate], h, self.own[gate], to_h))
            found.append(rx)
        return found[::-1]

    def _linear(self, weights, x, bias, r):
        if self.rule == "epsilon":
            return rules.epsilon(weights, x, bias, r, EPSILON)
        return rules.backtrace(weights, x, bias, r)

    def _step(self, h, c, parts):
        if self.kind == "lstm":
            i, f, g, o = ([a + b for a, b in zip(*part, strict=True)] for part in parts)
            c = [sigmoid(f[k]) * c[k] + sigmoid(i[k]) * math.tanh(g[k]) for k in range(self.size)]
            return [sigmoid(o[k]) * math.tanh(c[k]) for k in range(self.size)], c
        r, z = ([sigmoid(a + b) for a, b in zip(*part, strict=True)] for part in parts[:2])
        n = [math.tanh(a + each * b) for a, b, each in zip(*parts[2], r, strict=True)]
        return [(1 - z[k]) * n[k] + z[k] * h[k] for k in range(self.size)], c

    def _shared(self, r, *terms):
        """What the terms of a sum receive."""
        if self.rule == "epsilon":
            total = sum(terms)
            return [r * term / total if total else 0.0 for term in terms]
        total = sum(map(abs, terms))
        return [r * abs(term) / total if total else 0.0 for term in terms]

    def _gated(self, r):
        """What a gate and what it weighs receive."""
        return (0.0, r) if self.rule == "epsilon" else (r / 2, r / 2)

    def _beside_constant(self, r):
        """The same where what is weighed is a constant, as before the first step."""
        return (0.0, 0.0) if self.rule == "epsilon" else (r, 0.0)

    def _back(self, rh, rc, h, c, parts):
        sums = [[a + b for a, b in zip(*part, strict=True)] for part in parts]
        to = [([0.0] * self.size, [0.0] * self.size) for _ in parts]
        kept_h, kept_c = [0.0] * self.size, [0.0] * self.size
        for k in range(self.size):
            if self.kind == "lstm":
                i, f, g = sigmoid(sums[0][k]), sigmoid(sums[1][k]), math.tanh(sums[2][k])
                at_o, at_c = self._gated(rh[k])
                old, new = self._shared(rc[k] + at_c, f * c[k], i * g)
                at_f, kept_c[k] = self._gated(old)
                at_i, at_g = self._gated(new)
                received = (at_i, at_f, at_g, at_o)
            else:
                gate, z, part = sigmoid(sums[0][k]), sigmoid(sums[1][k]), parts[2]
                total = part[0][k] + gate * part[1][k]
                new, old = self._shared(rh[k], (1 - z) * math.tanh(total), z * h[k])
                at_rest, at_n = self._gated(new)
                at_z, kept_h[k] = self._gated(old)
                # 1 - z is a sum with a constant, which keeps its share.
                at_z += at_rest * z / (1 + z)
                to[2][0][k], inner = self._shared(at_n, part[0][k], gate * part[1][k])
                at_r, to[2][1][k] = self._gated(inner) if any(h) else self._beside_constant(inner)
                received = (at_r, at_z)
            for gate, each in enumerate(received):
                to[gate][0][k], to[gate][1][k] = self._shared(each, parts[gate][0][k], parts[gate][1][k])
        return to, kept_h, kept_c


def _added(a, b):
    return [one + other for one, other in zip(a, b, strict=True)]
