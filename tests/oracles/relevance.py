"""The relevance rules by the plainest reading of their formulas: one loop over units, one over inputs, floats in lists.

A linear map is its matrix W [unit, input], whatever operation it comes from; ``matrix`` finds it as the Jacobian.
"""

import math

import torch


def matrix(product, x, weight):
    """W [unit, input] of the map product(., weight), row by row."""
    jacobian = torch.autograd.functional.jacobian(lambda each: product(each, weight), torch.zeros_like(x))
    units = product(x, weight).numel()
    return jacobian.reshape(units, x.numel()).tolist()


def sign(number):
    return 1.0 if number >= 0 else -1.0


def stab(number, epsilon):
    return number + epsilon * sign(number)


def distributed(weights, r, shares):
    """R_i = sum_j R_j q_ji / d_j, where shares(j) gives the list q_j and d_j; nothing where d_j = 0."""
    found = [0.0] * len(weights[0])
    for j, each in enumerate(r):
        parts, total = shares(j)
        if total != 0:
            for i, part in enumerate(parts):
                found[i] += each * part / total
    return found


def contributions(weights, x, j):
    return [w * value for w, value in zip(weights[j], x, strict=True)]


def up(numbers):
    return [max(number, 0.0) for number in numbers]


def down(numbers):
    return [max(-number, 0.0) for number in numbers]


def switches(activation, p, n, b):
    """Whether P and N are on."""
    t = p + max(b, 0) - n - max(-b, 0)
    low, high = {"tanh": (-2, 2), "sigmoid": (-4, 4), "softmax": (-1, 2), "swish": (-6, math.inf)}.get(
        activation, (-math.inf, math.inf)
    )
    p_on, n_on = p > 0 and t >= low, n > 0 and t <= high
    if activation == "swish" and p_on and n_on:
        if swish(t) == swish(p + max(b, 0)):
            n_on = False
        elif swish(t) == swish(-(n + max(-b, 0))):
            p_on = False
    return p_on, n_on


def swish(t):
    return float(torch.nn.functional.silu(torch.tensor(t, dtype=torch.float64)))


def backtrace(weights, x, b, r, activation=None):
    def shares(j):
        z = contributions(weights, x, j)
        p, n = sum(up(z)), sum(down(z))
        p_on, n_on = switches(activation, p, n, b[j])
        parts = [p_on * rise + n_on * fall for rise, fall in zip(up(z), down(z), strict=True)]
        return parts, p_on * p + n_on * n + max(b[j], 0) + max(-b[j], 0)

    return distributed(weights, r, shares)


def backtrace_absorbed(weights, x, b, r, activation=None):
    found = []
    for j, each in enumerate(r):
        z = contributions(weights, x, j)
        p, n = sum(up(z)), sum(down(z))
        p_on, n_on = switches(activation, p, n, b[j])
        total = p_on * p + n_on * n + abs(b[j])
        found.append(each * abs(b[j]) / total if total else 0.0)
    return found


def contrast(weights, x, b, rp, rn):
    found_p, found_n = [0.0] * len(x), [0.0] * len(x)
    for j in range(len(weights)):
        z = contributions(weights, x, j)
        p, n = sum(up(z)), sum(down(z))
        for found, r, other, wins_ties in ((found_p, rp[j], rn[j], True), (found_n, rn[j], rp[j], False)):
            if p == 0 and n == 0:
                continue
            if n == 0:
                upward = True
            elif p == 0:
                upward = False
            else:
                larger = r > other or (r == other and wins_ties)
                upward = larger == (p + b[j] - n >= 0)
            for i, (rise, fall) in enumerate(zip(up(z), down(z), strict=True)):
                found[i] += r * rise / p if upward else r * fall / n
    return found_p, found_n


def epsilon(weights, x, b, r, epsilon):
    def shares(j):
        z = contributions(weights, x, j)
        return z, stab(sum(z) + b[j], epsilon)

    return distributed(weights, r, shares)


def gamma(weights, x, b, r, gamma, epsilon):
    """By the four products of positive and negative parts of x and of W, one set for each sign of the output."""

    def shares(j):
        rising = sum(contributions(weights, x, j)) + b[j] >= 0
        parts = []
        for w, value in zip(weights[j], x, strict=True):
            favoured = max(w, 0) if (value >= 0) == rising else min(w, 0)
            parts.append(value * (w + gamma * favoured))
        bias = b[j] + gamma * (max(b[j], 0) if rising else min(b[j], 0))
        return parts, stab(sum(parts) + bias, epsilon)

    return distributed(weights, r, shares)


def alpha_beta(weights, x, b, r, alpha, beta, epsilon):
    def positive(j):
        z = contributions(weights, x, j)
        return up(z), sum(up(z)) + max(b[j], 0) + epsilon

    def negative(j):
        z = contributions(weights, x, j)
        return down(z), sum(down(z)) + max(-b[j], 0) + epsilon

    pairs = zip(distributed(weights, r, positive), distributed(weights, r, negative), strict=True)
    return [alpha * rise - beta * fall for rise, fall in pairs]


def flat(connected, r):
    """``connected``: the matrix of the same map with all weights 1."""
    return distributed(connected, r, lambda j: (connected[j], sum(connected[j])))


def w_square(weights, r):
    def shares(j):
        parts = [w * w for w in weights[j]]
        return parts, sum(parts)

    return distributed(weights, r, shares)


def z_box(weights, x, low, high, r, epsilon):
    def shares(j):
        rows = zip(weights[j], x, low, high, strict=True)
        parts = [w * value - least * max(w, 0) - most * min(w, 0) for w, value, least, most in rows]
        return parts, stab(sum(parts), epsilon)

    return distributed(weights, r, shares)


def windows_of(size, kernel, stride, padding, dilation, count):
    """The elements of each window along one side, those outside left out."""
    starts = [place * stride - padding for place in range(count)]
    return [[start + k * dilation for k in range(kernel) if 0 <= start + k * dilation < size] for start in starts]


def adaptive_windows(size, count):
    return [list(range(math.floor(o * size / count), math.ceil((o + 1) * size / count))) for o in range(count)]


def max_pool(x, r, windows):
    """``windows``: for each window the flat places of its elements."""
    found = [0.0] * len(x)
    for each, places in zip(r, windows, strict=True):
        highest = max(x[place] for place in places)
        ties = [place for place in places if x[place] == highest]
        for place in ties:
            found[place] += each / len(ties)
    return found
