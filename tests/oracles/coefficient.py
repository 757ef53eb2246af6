"""The rules that the coefficient composites follow, on relevance itself, by the plainest reading of their formulas.

Everything is float64. A linear map is its explicit Jacobian matrix; a fused kernel is loops over single numbers.
"""

import itertools

import torch


def jacobian(f, x):
    """J [output, input] of f at x, one column of finite steps for each input: exact for a linear f."""
    steps = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape)
    at = f(x)
    return torch.stack([(f(x + step) - at).flatten() for step in steps], 1)


def sign(z):
    return torch.where(z >= 0, 1.0, -1.0).double()


def linear(f, x, r, epsilon=0.0):
    """R_i = sum_j x_i J_ji R_j / (z_j + epsilon sign z_j), z with its bias."""
    z, matrix = f(x).flatten(), jacobian(f, x)
    found = torch.zeros(x.numel(), dtype=torch.float64)
    for j, i in itertools.product(range(len(z)), range(x.numel())):
        found[i] += x.flatten()[i] * matrix[j, i] * r.flatten()[j] / (z[j] + epsilon * sign(z[j]))
    return found.reshape(x.shape)


def activation(f, x, r):
    """R_in = R (y - y(0)) / y: the constant keeps its share."""
    y, start = f(x), f(torch.zeros((), dtype=torch.float64))
    return torch.tensor(
        [each * (one - start) / one for each, one in zip(r.flatten(), y.flatten(), strict=True)]
    ).reshape(x.shape)


def normalised(x, groups, weight, bias, eps, *, centred=True):
    """(y, the same as a linear map of x with the scale of this x held): places share a scale within a group."""
    flat, spreads = x.flatten(), []
    for group in groups:
        mean = sum(flat[i] for i in group) / len(group) if centred else 0.0
        spreads.append(sum((flat[i] - mean) ** 2 for i in group) / len(group))
    scales = torch.zeros(x.numel(), dtype=torch.float64)
    for group, spread in zip(groups, spreads, strict=True):
        for i in group:
            scales[i] = (spread + eps) ** -0.5

    def held(other):
        flat, y = other.flatten(), torch.zeros(x.numel(), dtype=torch.float64)
        for group in groups:
            mean = sum(flat[i] for i in group) / len(group) if centred else 0.0
            for i in group:
                y[i] = weight.flatten()[i] * (flat[i] - mean) * scales[i] + bias.flatten()[i]
        return y.reshape(x.shape)

    return held(x), held


def agreeing(a, b, r, gamma=1.0):
    """R_a = R a w_a / (a w_a + b w_b), w = 1 + gamma where the sign agrees with that of a + b; 0 where both are 0."""
    first, second = [], []
    for x, y, each in zip(a.flatten().tolist(), b.flatten().tolist(), r.flatten().tolist(), strict=True):
        up = x + y >= 0
        x, y = (part * (1 + gamma) if (part >= 0) == up else part for part in (x, y))
        first.append(each * x / (x + y) if x + y else 0.0)
        second.append(each * y / (x + y) if x + y else 0.0)
    return tuple(torch.tensor(each, dtype=torch.float64).reshape(a.shape) for each in (first, second))


class Attention:
    """Attention of one head, [query, dim] with [key, dim], step by step and number by number.

    ``allowed`` [query, key] says what may be looked at; ``added`` [query, key] is added to the scaled scores.
    """

    def __init__(self, q, k, v, scale, allowed, added):
        self.q, self.k, self.v = q, k, v
        self.products = torch.zeros(len(q), len(k), dtype=torch.float64)
        for i, j in itertools.product(range(len(q)), range(len(k))):
            self.products[i, j] = sum(q[i, e] * k[j, e] for e in range(q.shape[1])) * scale
        self.scores = self.products + added
        self.weights = torch.zeros_like(self.scores)
        for i in range(len(q)):
            seen = [j for j in range(len(k)) if allowed[i, j]]
            total = sum(self.scores[i, j].exp() for j in seen)
            for j in seen:
                self.weights[i, j] = self.scores[i, j].exp() / total
        self.output = self.weights @ v

    def held(self, r):
        """Weights are constants: R_v = sum_q R_qd A_qk v_kd / o_qd."""
        found = torch.zeros_like(self.v)
        for i, j, d in itertools.product(*(range(n) for n in (len(self.q), *self.v.shape))):
            found[j, d] += r[i, d] * self.weights[i, j] * self.v[j, d] / self.output[i, d]
        return found

    def halved(self, r):
        """Both products in halves, the softmax by its gradient R_s = s (R_a / a * a - a sum R_a): (R_q, R_k, R_v)."""
        of_weights, of_values = torch.zeros_like(self.weights), self.held(r) / 2
        for i, j, d in itertools.product(*(range(n) for n in (len(self.q), *self.v.shape))):
            of_weights[i, j] += r[i, d] * self.weights[i, j] * self.v[j, d] / self.output[i, d] / 2
        of_scores = self.scores * (of_weights - self.weights * of_weights.sum(1, keepdim=True))
        of_products = torch.where(of_scores == 0, 0, of_scores * self.products / self.scores)
        of_q, of_k = torch.zeros_like(self.q), torch.zeros_like(self.k)
        scale = self.products[0, 0] / (self.q[0] @ self.k[0])
        for i, j, e in itertools.product(range(len(self.q)), range(len(self.k)), range(self.q.shape[1])):
            share = of_products[i, j] * self.q[i, e] * self.k[j, e] * scale / self.products[i, j] / 2
            of_q[i, e] += share
            of_k[j, e] += share
        return of_q, of_k, of_values
