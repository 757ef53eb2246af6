"""What the benchmark compares methods on."""

from pellucid.benchmark.tasks.catalogue import find_task, task_names, tasks
from pellucid.benchmark.tasks.task import Case, Split, Task

__all__ = ["Case", "Split", "Task", "find_task", "task_names", "tasks"]
