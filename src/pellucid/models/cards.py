"""The model cards of the models that load by name."""

from importlib.util import find_spec
from typing import Any, NamedTuple

import yaml

from pellucid.models.catalogue import NAMES, ZOO


class ModelCard(NamedTuple):
    """What a card says of a model, in short; the whole card is a file beside the weights."""

    name: str
    """The name it loads by."""
    task: str
    """What it does, as the hub calls it: text-classification, image-classification, tabular-classification ..."""
    summary: str
    """One sentence."""
    license: str
    """Licence of the weights, as an SPDX name in small letters."""
    install: str
    """The line that installs what it needs; empty where nothing is missing."""
    path: str
    """The card."""


def model_cards() -> list[ModelCard]:
    """The card of every model that loads by name."""
    return [_card(name) for name in NAMES]


def _card(name: str) -> ModelCard:
    path = ZOO / name / "README.md"
    _, head, body = path.read_text("utf-8").split("---\n", 2)
    facts: dict[str, Any] = yaml.safe_load(head)
    title, text = (part.strip() for part in body.strip().split("\n", 1))
    paragraph = " ".join(text.split("\n\n")[0].split())
    summary = paragraph.split(". ")[0].rstrip(".") + "."
    missing = "package" in facts and find_spec(facts["package"]) is None
    return ModelCard(
        title.removeprefix("# "),
        str(facts["pipeline_tag"]),
        summary,
        str(facts["license"]),
        str(facts["install"]) if missing else "",
        str(path),
    )
