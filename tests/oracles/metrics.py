"""The metrics by the plainest reading of their formulas: loops over lists of numbers."""

import math
from itertools import combinations, pairwise, permutations, product


def area(curve, fractions):
    pairs = list(zip(fractions, curve, strict=True))
    total = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(pairs))
    return total / (fractions[-1] - fractions[0])


def removal_curve(worth, players, order):
    """f as the players of an order go one by one; ``worth`` takes the set of those who stay."""
    return [worth(frozenset(range(players)) - set(order[:k])) for k in range(players + 1)]


def srg(worth, values):
    n = len(values)
    most_first = sorted(range(n), key=lambda i: -values[i])
    fractions = [k / n for k in range(n + 1)]
    curves = [removal_curve(worth, n, order) for order in (most_first[::-1], most_first)]
    return area(curves[0], fractions) - area(curves[1], fractions)


def comprehensiveness(worth, values, bins):
    """Plain mean over the bins of f(x) - f(without the top); sufficiency swaps who goes."""
    n, everyone = len(values), frozenset(range(len(values)))
    ranked = sorted(range(n), key=lambda i: -values[i])
    tops = [frozenset(ranked[: math.ceil(round(share * n, 6))]) for share in bins]
    return sum(worth(everyone) - worth(everyone - top) for top in tops) / len(bins)


def sufficiency(worth, values, bins):
    n, everyone = len(values), frozenset(range(len(values)))
    ranked = sorted(range(n), key=lambda i: -values[i])
    tops = [frozenset(ranked[: math.ceil(round(share * n, 6))]) for share in bins]
    return sum(worth(everyone) - worth(top) for top in tops) / len(bins)


def aopc(curve):
    return sum(curve[0] - value for value in curve) / len(curve)


def aopc_limits(worth, players):
    found = [aopc(removal_curve(worth, players, order)) for order in permutations(range(players))]
    return min(found), max(found)


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def faithfulness_correlation(values, subsets, drops):
    return pearson([sum(values[i] for i in subset) for subset in subsets], drops)


def infidelity(values, perturbations, drops, beta=1.0):
    terms = [
        (beta * sum(i * a for i, a in zip(row, values, strict=True)) - d) ** 2
        for row, d in zip(perturbations, drops, strict=True)
    ]
    return sum(terms) / len(terms)


def norm(values):
    return math.sqrt(sum(v * v for v in values))


def distance(first, second):
    return norm([a - b for a, b in zip(first, second, strict=True)])


def max_sensitivity(values, perturbed, same):
    return max(distance(a, values) / norm(values) for a, kept in zip(perturbed, same, strict=True) if kept)


def relative_stability(values, perturbed, origin, moved, same):
    ratios = [
        (distance(a, values) / norm(values)) / (distance(z, origin) / norm(origin))
        for a, z, kept in zip(perturbed, moved, same, strict=True)
        if kept
    ]
    return max(ratios)


def histogram_entropy(values, bins):
    width = (max(values) - min(values)) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - min(values)) / width))] += 1
    return -sum(c / len(values) * math.log(c / len(values)) for c in counts if c)


def spans(mask):
    """All maximal runs of True, as sets of places."""
    found = []
    for place, marked in enumerate(mask):
        if marked and place and mask[place - 1]:
            found[-1].add(place)
        elif marked:
            found.append({place})
    return found


def iou_f1(chosen, rationale, threshold):
    ours, theirs = spans(chosen), spans(rationale)
    hits = sum(any(len(a & b) / len(a | b) >= threshold for b in theirs) for a in ours)
    if not hits:
        return 0.0
    precision, recall = hits / len(ours), hits / len(theirs)
    return 2 * precision * recall / (precision + recall)


def relevance_rank(values, mask):
    """Expected overlap of the top |M| with M over all orders of the players that respect the scores."""
    size, n, found = sum(mask), len(values), []
    for order in permutations(range(n)):
        if all(values[a] >= values[b] for a, b in pairwise(order)):
            found.append(sum(mask[i] for i in order[:size]) / size)
    return sum(found) / len(found)


def chance_f1(k, mask):
    marked, found = sum(mask), []
    for chosen in combinations(range(len(mask)), k):
        found.append(2 * sum(mask[i] for i in chosen) / (k + marked))
    return sum(found) / len(found)


def gini(values):
    """Mean absolute difference of |a| over twice the mean of |a|."""
    sizes = [abs(v) for v in values]
    d = len(sizes)
    return sum(abs(a - b) for a in sizes for b in sizes) / (2 * d * d * sum(sizes) / d)


def complexity(values):
    total = sum(abs(v) for v in values)
    shares = [abs(v) / total for v in values if v]
    return -sum(p * math.log(p) for p in shares) / math.log(len(values))


def signed_rank_p(differences):
    """Two-sided p of Wilcoxon's signed-rank sum over all signs, zeros ranked and dropped, ties sharing their rank."""
    sizes = [abs(d) for d in differences]
    ranks = [sum(s < size for s in sizes) + (sum(s == size for s in sizes) + 1) / 2 for size in sizes]
    kept = [(rank, d) for rank, d in zip(ranks, differences, strict=True) if d]
    own = sum(rank for rank, d in kept if d > 0)
    sums = [
        sum(rank for (rank, _), up in zip(kept, ups, strict=True) if up) for ups in product((0, 1), repeat=len(kept))
    ]
    tails = sum(s <= own for s in sums) / len(sums), sum(s >= own for s in sums) / len(sums)
    return min(1.0, 2 * min(tails))


def sign_flip_p(differences):
    own = abs(sum(differences)) - 1e-12
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(abs(s) >= own for s in sums) / len(sums)


def cliffs_delta(first, second):
    return sum(int(a > b) - int(a < b) for a in first for b in second) / (len(first) * len(second))


def holm(p_values):
    """The smallest family level at which the step-down procedure rejects each hypothesis."""
    m, adjusted = len(p_values), [0.0] * len(p_values)
    ranked = sorted(range(m), key=lambda i: p_values[i])
    for place, i in enumerate(ranked):
        adjusted[i] = min(1.0, max((m - j) * p_values[ranked[j]] for j in range(place + 1)))
    return adjusted


def bootstrap_means(values, clusters, drawn):
    """Means of the examples of each draw, a draw being a list of clusters."""
    means = []
    for draw in drawn:
        members = [v for label in draw for v, c in zip(values, clusters, strict=True) if c == label]
        means.append(sum(members) / len(members))
    return means
