"""Which method to use: what a benchmark said of this model, or a small trial on the inputs at hand."""

from pellucid.verdicts.best import BEST, best_method
from pellucid.verdicts.verdict import Entry, Verdict, keep, kept

__all__ = ["BEST", "Entry", "Verdict", "best_method", "keep", "kept"]
