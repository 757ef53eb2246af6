"""A Keras model read in a process of its own, where this one's Keras runs on another backend than torch.

The other process loads the file, cuts it to logits, and writes down what it computes as an exported program.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from torch import nn

from pellucid.errors import ModelError
from pellucid.models.exported import read_own
from pellucid.models.keras_network import KerasFacts

SECONDS = 600.0
PROGRAM, FACTS, ERROR = "network.pt2", "facts.json", "error.txt"
_CHILD = "pellucid.models.keras_child"


def read_in_process(
    path: Path, *, logits: bool, first_too: bool, seconds: float = SECONDS
) -> tuple[nn.Module, KerasFacts]:
    """The network of a Keras file as an exported program, with what it reads and gives.

    Raises ModelError where the file, or the network, is refused there, and where the other process fails.
    """
    with tempfile.TemporaryDirectory(prefix="pellucid-keras-") as name:
        folder = Path(name)
        asked = json.dumps({"path": str(path.resolve()), "logits": logits, "first_too": first_too})
        # -P: what lies in the working directory is not what is meant by 'import keras'.
        command = [sys.executable, "-P", "-m", _CHILD, asked, str(folder)]
        surroundings = os.environ | {"KERAS_BACKEND": "torch"}
        try:
            ended = subprocess.run(command, env=surroundings, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"reading {path.name} in a process of its own took more than {seconds:.0f} seconds; {_ASK_HERE}."
            ) from None
        if (folder / ERROR).is_file():
            raise ModelError((folder / ERROR).read_text("utf-8"))
        if ended.returncode or not (folder / FACTS).is_file():
            said = ended.stderr.decode(errors="replace").strip().splitlines()
            raise ModelError(
                f"the process that read {path.name} ended with code {ended.returncode} "
                f"({said[-1].rstrip('.') if said else 'it said nothing'}); {_ASK_HERE}."
            )
        return read_own(folder / PROGRAM), _facts((folder / FACTS).read_text("utf-8"))


_ASK_HERE = "start Python with KERAS_BACKEND=torch, where the file is read without another process"


def written(facts: KerasFacts) -> str:
    """Facts as ``read_in_process`` expects them."""
    return json.dumps(asdict(facts))


def _facts(text: str) -> KerasFacts:
    found = json.loads(text)
    for key in ("inputs", "outputs"):
        found[key] = tuple(tuple(each) for each in found[key])
    for key in ("dtypes", "mean", "std"):
        found[key] = tuple(found[key])
    return KerasFacts(**found)
