"""Methods held against what is known, and against one another."""

from pellucid.benchmark.truth_page import ground_truth_page
from pellucid.benchmark.truth_table import Outcome, Quantity, Verdict, judge, truth_table

__all__ = ["Outcome", "Quantity", "Verdict", "ground_truth_page", "judge", "truth_table"]
