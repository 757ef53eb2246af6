"""The papers of methods, metrics and peers, as BibTeX."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from pellucid.benchmark.peers import PEERS
from pellucid.benchmark.results import short_name
from pellucid.benchmark.store import read_manifest, run_folders
from pellucid.errors import RecordError, UnknownNameError
from pellucid.methods import AbstractMethod, all_methods
from pellucid.metrics import AbstractMetric, all_metrics

_ENTRY = re.compile(r"^@\w+\{(\w+),\n.*?^\}$", re.MULTILINE | re.DOTALL)
_BRACKETS = re.compile(r"\[([^\]\n]+)\]")
_KEY = re.compile(r"[a-z]+[12][0-9]{3}[a-z]*")
_NAMED = re.compile(r"((?:[^\W\d_][\w-]+ )?[^\W\d_][\w-]+?)(?: et al\.| (?:&|and) [^\W\d_][\w-]+)? ((?:19|20)\d\d)")


@cache
def bibliography() -> Mapping[str, str]:
    """Every entry of the file ``references.bib`` by its key."""
    text = (files("pellucid") / "references.bib").read_text("utf-8")
    return {found[1]: found[0] for found in _ENTRY.finditer(text)}


def citations(names: Sequence[str]) -> str:
    """BibTeX entries of methods, metrics and peers, each once, after lines that say who cites what.

    Whole names of metrics will do. Raises UnknownNameError.
    """
    cited = {name: papers(name) for name in dict.fromkeys(short_name(each) for each in names)}
    lines = [f"% {name}: {', '.join(keys) if keys else 'no paper'}" for name, keys in cited.items()]
    entries = [bibliography()[key] for key in sorted({key for keys in cited.values() for key in keys})]
    return "\n\n".join(["\n".join(lines), *entries]) + "\n"


def papers(name: str) -> tuple[str, ...]:
    """Keys of the papers of a method, a metric or a peer: those of its docstring and those its facts name.

    Raises UnknownNameError.
    """
    known = _known()
    if name not in known:
        raise UnknownNameError("method, metric or peer", name, known)
    document, facts = known[name].__doc__ or "", known[name].facts
    found = {key: None for group in _BRACKETS.findall(document) for key in _KEY.findall(group)}
    for authors, year in _NAMED.findall(facts.source):
        found |= dict.fromkeys(_matching(authors, year, found))
    return tuple(key for key in found if key in bibliography())


def _matching(authors: str, year: str, found: Mapping[str, None]) -> list[str]:
    """Keys of a first author and a year; none where the docstring says already which of them is meant."""
    # A surname may be of two words, or follow another word.
    for name in (authors, authors.split()[-1]):
        start = f"{_letters(name)}{year}"
        keys = [key for key in bibliography() if re.fullmatch(rf"{start}[a-z]*", key)]
        if keys:
            return [] if any(key in found for key in keys) else keys
    return []


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain.lower() if letter.isalpha())


def _known() -> dict[str, type[AbstractMethod] | type[AbstractMetric]]:
    return {**all_metrics(), **all_methods(), **{peer.facts.name: peer for peer in PEERS}}


def taking_part(folder: Path) -> list[str]:
    """The methods, peers and metrics of the results in a folder. Raises InputError and RecordError."""
    names: dict[str, None] = {}
    for each in run_folders(folder):
        manifest = read_manifest(each)
        try:
            names |= dict.fromkeys(entrant["name"] for entrant in manifest["entrants"])
            names |= dict.fromkeys(metric["metric"] for metric in manifest["metrics"])
        except (KeyError, TypeError) as error:
            raise RecordError(f"the manifest in {str(each)!r} does not say who took part: {error!r}.") from None
    return list(names)
