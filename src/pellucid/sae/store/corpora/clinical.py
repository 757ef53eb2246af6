"""Synthetic clinical texts of the generator clinosim, as it writes them: FHIR R4 resources, one JSON object a line."""

import base64
import binascii
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pellucid.errors import InputError, MissingPackageError, ModelError
from pellucid.files import cache_folder
from pellucid.progress import working
from pellucid.sae.store.corpora.base import AbstractCorpus, Document

REPORTS = "DiagnosticReport.ndjson"
NOTES = "DocumentReference.ndjson"
RADIOLOGY = "RAD"
PEOPLE = 400
SEED = 42
PROGRAM = "from clinosim.simulator.cli import main; main()"


class Clinosim(AbstractCorpus):
    """Radiology reports, or the notes of doctors and nurses, of a folder that ``clinosim simulate`` wrote.

    Args:
        folder: its ``--output``, or the folder ``fhir_r4`` in that.
        notes: the notes in place of the reports.
        source: what to call it.
    """

    def __init__(self, folder: Path, *, notes: bool = False, source: str = "") -> None:
        self.source, self._notes = source or str(folder), notes
        name = NOTES if notes else REPORTS
        found = next((each for each in (folder / name, folder / "fhir_r4" / name) if each.is_file()), None)
        if found is None:
            raise InputError(
                f"there is no {name} in {str(folder)!r}; write it with: clinosim simulate --country US --population "
                f"{PEOPLE} --seed {SEED} --output {folder} --format fhir-r4"
            )
        self.path = found

    def documents(self) -> Iterator[Document]:
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                place = f"line {number} of {str(self.path)!r}"
                try:
                    resource = json.loads(line)
                    text = _note(resource) if self._notes else _report(resource)
                except (ValueError, KeyError, TypeError, IndexError, binascii.Error):
                    raise InputError(f"{place} is no FHIR resource with a text; write the folder again.") from None
                if text:
                    yield Document(str(resource["id"]), text)


def simulated() -> Clinosim:
    """The radiology reports of people that clinosim makes up now, or made up here before.

    Raises MissingPackageError without the package, ModelError where it fails.
    """
    if find_spec("clinosim") is None:
        raise MissingPackageError("the generator of synthetic clinical texts", "pip install clinosim")
    folder = cache_folder() / f"clinosim-{PEOPLE}-{SEED}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as temporary, working("Making up clinical texts ..."):
            made = Path(temporary) / "made"
            _simulate(made)
            made.rename(folder)
    return Clinosim(folder, source="clinosim")


def _simulate(folder: Path) -> None:
    settings = ["--country", "US", "--population", str(PEOPLE), "--seed", str(SEED), "--format", "fhir-r4"]
    command = [sys.executable, "-c", PROGRAM, "simulate", *settings, "--output", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["without a word"])[-1]
        raise ModelError(f"clinosim ended with exit code {ended.returncode}: {last}")


def _report(resource: dict[str, Any]) -> str:
    """A radiology report with its title; empty for another kind of report."""
    kinds = {code["code"] for each in resource["category"] for code in each["coding"]}
    if RADIOLOGY not in kinds:
        return ""
    return f"{resource['code']['text']}\n\n{_decoded(resource['presentedForm'][0]['data'])}"


def _note(resource: dict[str, Any]) -> str:
    return _decoded(resource["content"][0]["attachment"]["data"])


def _decoded(data: str) -> str:
    return base64.b64decode(data, validate=True).decode("utf-8").strip()
