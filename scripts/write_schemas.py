"""Write the JSON Schema of every document that pellucid stores into docs/schema/."""

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "schema"


def schemas() -> Mapping[str, dict[str, Any]]:
    """The schema of each document by its file's name; the audit's only where its extra is installed."""
    from pellucid import Explanation

    found = {"explanation.schema.json": Explanation.model_json_schema(mode="serialization")}
    if all(find_spec(package) for package in ("cryptography", "rfc8785")):
        record = import_module("pellucid.audit.record").DecisionRecord
        found["decision-record.schema.json"] = record.model_json_schema(mode="serialization")
    return found


def text(schema: Mapping[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text(schema), "utf-8")
