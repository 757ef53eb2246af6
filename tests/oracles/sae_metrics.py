"""The evaluation of autoencoders by the plainest reading of the formulas: dense fp64 matrices and loops."""

import math

import numpy as np


def jaccard(first, second):
    either = sum(bool(a or b) for a, b in zip(first, second, strict=True))
    return sum(bool(a and b) for a, b in zip(first, second, strict=True)) / either


def phi(first, second):
    """Pearson's correlation of two columns of zeros and ones; 0 where one is constant."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if not a.std() or not b.std():
        return 0.0
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def fvu(x, xhat):
    """sum ||x - xhat||^2 / sum ||x - mean||^2, with one mean for all."""
    x, xhat = np.asarray(x, np.float64), np.asarray(xhat, np.float64)
    mean = sum(x) / len(x)
    return sum(((a - b) ** 2).sum() for a, b in zip(x, xhat, strict=True)) / sum(((a - mean) ** 2).sum() for a in x)


def forgiving_fvu(x, xhat):
    """sum var(x - xhat) / sum var(x): forgives a constant offset."""
    x, xhat = np.asarray(x, np.float64), np.asarray(xhat, np.float64)
    return float((x - xhat).var(0).sum() / x.var(0).sum())


def squaring_too_late_fvu(x, xhat):
    """Divides by E||x||^2 - (mean_d E[x_d^2])^2 or what is left of it: squares before it averages."""
    x, xhat = np.asarray(x, np.float64), np.asarray(xhat, np.float64)
    total = (x**2).sum(1).mean() - (x**2).mean(0).mean() ** 2
    return float(((x - xhat) ** 2).sum(1).mean() / abs(total))


def tokenwise_fvu(x, xhat):
    """Mean over tokens of each token's own ratio."""
    x, xhat = np.asarray(x, np.float64), np.asarray(xhat, np.float64)
    return float((((x - xhat) ** 2).sum(1) / ((x - x.mean(0)) ** 2).sum(1)).mean())


def quality(x, xhat, z):
    """All numbers of the tokens x [token, dim], their reconstructions and their dense codes."""
    x, xhat = np.asarray(x, np.float64), np.asarray(xhat, np.float64)
    lengths = [(math.sqrt(sum(a**2)), math.sqrt(sum(b**2)), float(a @ b)) for a, b in zip(x, xhat, strict=True)]
    errors = [((a - b) ** 2).sum() for a, b in zip(x, xhat, strict=True)]
    alive = [latent for latent in range(z.shape[1]) if any(z[:, latent])]
    return {
        "tokens": len(x),
        "fvu": fvu(x, xhat),
        "worst_share": max(errors) / sum(errors),
        "mse": np.mean([np.mean((a - b) ** 2) for a, b in zip(x, xhat, strict=True)]),
        "l0": np.mean([sum(value != 0 for value in row) for row in z]),
        "cosine": np.mean([overlap / (long * made) for long, made, overlap in lengths]),
        "norm_ratio": np.mean([made / long for long, made, _ in lengths]),
        "relative_bias": np.mean([made**2 for _, made, _ in lengths]) / np.mean([overlap for *_, overlap in lengths]),
        "alive": len(alive),
        "dead_share": 1 - len(alive) / z.shape[1],
    }


def max_cosines(directions):
    """For each row the greatest cosine with another row."""
    rows = np.asarray(directions, np.float64)
    return [max(a @ b / math.sqrt((a @ a) * (b @ b)) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]


def spliced_losses(ids, replaced, predicted, clean, changed):
    """Sums over the predictions of one sample; logits are [seq, vocab]."""
    counted = [at for at in range(len(ids) - 1) if predicted[at + 1] and any(replaced[: at + 1])]

    def log_p(logits):
        top = logits.max()
        return logits - top - math.log(sum(math.exp(each - top) for each in logits))

    found = {"tokens": len(counted), "replaced": sum(replaced)}
    found["ce_clean"] = -sum(log_p(clean[at])[ids[at + 1]] for at in counted)
    for way, logits in changed.items():
        found[f"ce_{way}"] = -sum(log_p(logits[at])[ids[at + 1]] for at in counted)
        found[f"kl_{way}"] = sum(
            math.exp(p) * (p - q) for at in counted for p, q in zip(log_p(clean[at]), log_p(logits[at]), strict=True)
        )
    return found
