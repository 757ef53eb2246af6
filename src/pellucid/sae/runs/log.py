"""What training tells of itself: a line of JSON for each run and step that is logged, and TensorBoard's files."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pellucid.errors import MissingPackageError, RecordError
from pellucid.files import write_atomically

LOGS = "logs"
TENSORBOARD = "tensorboard"
FIGURES = ("loss", "aux", "l0", "fvu", "dead_share", "gradient", "lr", "threshold", "tokens_per_second")
"""What TensorBoard draws."""
Line = dict[str, Any]


class Log:
    """The log of the runs of one site.

    Args:
        folder: that of all the runs; the lines of each go into its own folder of that name there.
        names: the runs.
        tensorboard: whether TensorBoard's files are written too. Raises MissingPackageError where it is not installed.
        told: also called with each line.
    """

    def __init__(
        self, folder: Path, names: list[str], *, tensorboard: bool = False, told: Callable[[Line], None] | None = None
    ) -> None:
        self._paths = {name: folder / LOGS / f"{name}.jsonl" for name in names}
        self._told = told
        self._boards: dict[str, Any] = {}
        if tensorboard:
            require_tensorboard()
            from torch.utils.tensorboard import SummaryWriter

            self._boards = {name: SummaryWriter(str(folder / TENSORBOARD / name)) for name in names}

    def go_back_to(self, step: int) -> None:
        """Forget what was logged after a step, as training does, and a line that was not finished."""
        for path in self._paths.values():
            with _told(path):
                if path.is_file():
                    kept = [text for text in path.read_text("utf-8").splitlines() if _step(text) <= step]
                    write_atomically(path, "".join(f"{text}\n" for text in kept).encode())

    def write(self, lines: Mapping[str, Line]) -> None:
        """One line for each run. Raises RecordError where it cannot be written."""
        for name, line in lines.items():
            path = self._paths[name]
            with _told(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if name in self._boards:
                for figure in FIGURES:
                    if line.get(figure) is not None:
                        self._boards[name].add_scalar(figure, line[figure], line["step"])
            if self._told is not None:
                self._told({"run": name, **line})

    def close(self) -> None:
        """Flush what is held back."""
        for board in self._boards.values():
            board.close()


def require_tensorboard() -> None:
    """Raises MissingPackageError where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise MissingPackageError(
            "tensorboard", "pip install tensorboard, or leave it out: the lines in logs are written anyway"
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"the log {str(path)!r} cannot be written ({error.strerror}); free the space and train again with the same "
            "settings: the checkpoint before, if there is one, is kept."
        ) from None


def _step(text: str) -> float:
    """The step of a line; infinite for one that is no line of a log."""
    try:
        return float(json.loads(text)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
