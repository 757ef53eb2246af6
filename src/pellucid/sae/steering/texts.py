"""Plain measures of a generated text: how much it repeats itself, and how far it is from another one."""

from collections.abc import Hashable, Sequence


def distinct(items: Sequence[Hashable], size: int) -> float | None:
    """Share of the runs of ``size`` items that differ from each other [li2016diversity]; None where there is none.

    >>> distinct("abab", 2)
    0.6666666666666666
    """
    runs = [tuple(items[start : start + size]) for start in range(len(items) - size + 1)]
    return len(set(runs)) / len(runs) if runs else None


def longest_run(items: Sequence[Hashable], longest: int = 8) -> int:
    """Items in the longest stretch that says the same again and again, with a period of at most ``longest`` items.

    A stretch of period p counts once it is at least 2 p long; 0 where nothing is repeated.

    >>> longest_run("xababab"), longest_run("abc")
    (6, 0)
    """
    best = 0
    for period in range(1, min(longest, len(items) // 2) + 1):
        same = 0
        for place in range(period, len(items)):
            same = same + 1 if items[place] == items[place - period] else 0
            if same >= period:
                best = max(best, same + period)
    return best


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Levenshtein's distance over the length of the longer one, in [0, 1] [levenshtein1966].

    >>> edit_distance("kitten", "sitting")
    0.42857142857142855
    """
    row = list(range(len(second) + 1))
    for place, item in enumerate(first, 1):
        diagonal, row[0] = row[0], place
        for other, wanted in enumerate(second, 1):
            best = min(row[other] + 1, row[other - 1] + 1, diagonal + (item != wanted))
            diagonal, row[other] = row[other], best
    return row[-1] / max(len(first), len(second), 1)
