"""The process that reads a Keras file for another one: python -m pellucid.models.keras_child ASKED FOLDER."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.models.exported import export
from pellucid.models.keras_network import KerasFacts
from pellucid.models.keras_process import ERROR, FACTS, PROGRAM, written
from pellucid.models.keras_reading import read_here


def samples(facts: KerasFacts) -> tuple[Tensor, ...]:
    """Two rows of made-up input; a size that is left open is 8, enough for a small convolution or a short text."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for shape, dtype in zip(facts.inputs, facts.dtypes, strict=True):
        sizes = (2, *(each or 8 for each in shape[1:]))
        made = torch.rand(sizes, generator=generator)
        # Integers are words or categories; 1 is in every vocabulary, 0 is often that which is masked.
        rows.append(made if dtype.startswith(("float", "bfloat")) else torch.ones(sizes).to(getattr(torch, dtype)))
    return tuple(rows)


def unroll(model: Any) -> None:
    """Let recurrent layers be written down step by step: Keras' loop is for the batch that it was shown."""
    for layer in model._flatten_layers():
        # Going backwards, the steps of Keras cannot read a mask.
        if hasattr(layer, "unroll") and not getattr(layer, "go_backwards", False):
            layer.unroll = True


def main(asked: str, folder: Path) -> None:
    """Write the program and the facts, or the sentence that says why there are none."""
    try:
        question = json.loads(asked)
        network, facts = read_here(Path(question["path"]), question["logits"], question["first_too"])
        unroll(network.model)
        export(network, samples(facts), folder / PROGRAM)
        (folder / FACTS).write_text(written(facts), "utf-8")
    except PellucidError as error:
        (folder / ERROR).write_text(str(error), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
