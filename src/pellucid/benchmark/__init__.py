"""Methods and their peers held against one another on tasks, and against what is known."""

from pellucid.benchmark.board import read_board, read_boards
from pellucid.benchmark.budget import Budget
from pellucid.benchmark.preparing import Settings
from pellucid.benchmark.query import query
from pellucid.benchmark.runner import Outcome as RunOutcome
from pellucid.benchmark.runner import run
from pellucid.benchmark.tasks import Case, Task, find_task, task_names
from pellucid.benchmark.truth_page import ground_truth_page
from pellucid.benchmark.truth_table import Outcome, Quantity, Verdict, judge, truth_table

__all__ = [
    "Budget",
    "Case",
    "Outcome",
    "Quantity",
    "RunOutcome",
    "Settings",
    "Task",
    "Verdict",
    "find_task",
    "ground_truth_page",
    "judge",
    "query",
    "read_board",
    "read_boards",
    "run",
    "task_names",
    "truth_table",
]
