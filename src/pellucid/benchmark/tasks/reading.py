"""Reading the inputs that ship with the benchmark's picture and table tasks."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from pellucid.benchmark.tasks.task import Split

DATA: Final = Path(__file__).parent / "data"


def records(name: str, split: Split) -> list[tuple[int, dict[str, str]]]:
    """The records of a split of a shipped table, in order, each with its number in the table."""
    with (DATA / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        found = enumerate(csv.DictReader(file))
        return [(number, record) for number, record in found if record.pop("split") == split]


def tiles(name: str, side: int, numbers: Sequence[int]) -> list[Image.Image]:
    """Some of the pictures of ``side`` pixels that one shipped picture holds, counted row by row."""
    with Image.open(DATA / f"{name}.png") as sheet:
        sheet.load()
        across = sheet.width // side
        corners = [(number % across * side, number // across * side) for number in numbers]
        return [sheet.crop((left, top, left + side, top + side)) for left, top in corners]
