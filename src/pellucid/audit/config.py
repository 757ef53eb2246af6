"""What an audit does, from a YAML or TOML file and the command line."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pellucid.audit.canonical import canonical, finite
from pellucid.audit.cases import Wordings
from pellucid.errors import InputError, UnknownNameError
from pellucid.records import Record

LARGEST_SEED = 2**53 - 1
# Either of a pair says the same thing in another way; naming one on the command line replaces the other in a file.
_PAIRS = (("template", "template_file"), ("choices", "generate"))
_PATHS = ("cases", "template_file", "out")


def _as_text(value: object) -> object:
    """Numbers and truth values as they are written: TOML has them where a column's values are meant."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def _as_list(value: object) -> object:
    """``"a, b"`` as the list of its parts."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _none(value: object) -> object:
    return None if value == "none" else value


Text = Annotated[str, BeforeValidator(_as_text)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_as_list)]


class Generate(Record):
    """A generated answer in place of a choice."""

    max_new_tokens: int = Field(default=16, ge=1)
    """The longest answer."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 is greedy."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of the sampling; without effect on a greedy answer."""


class Outcome(Record):
    """What became of the patients, for accuracy and calibration."""

    column: str
    """The column that holds it."""
    options: dict[Text, Text]
    """For each value of the column, the option that would have been right. Other values count as unknown."""


class Search(Record):
    """The search for the smallest change that flips a decision."""

    max_changes: int = Field(default=2, ge=0)
    """The most fields changed at once; 0 searches nothing."""
    max_evaluations: int = Field(default=200, ge=1)
    """The most changed cases that the model is asked about, for each case."""


class AuditConfig(Record):
    """Everything that determines an audit."""

    cases: Path
    """CSV, TSV, JSONL or Parquet."""
    template: str | None = None
    """The text that the model reads, with a ``{column}`` for every field."""
    template_file: Path | None = None
    """The same, in a file of its own."""
    choices: Names | None = None
    """The answers to choose among."""
    generate: Generate | None = None
    """How an answer is generated, where there are no choices."""
    out: Path
    """The folder for the ledger and the report."""
    title: str = "Audit of a language model's decisions"
    """The report's title."""
    id_column: str | None = None
    """The column that names the cases; their row numbers where there is none."""
    wordings: dict[str, dict[Text, Text]] = Field(default={})
    """For each column, what the template says for its values; ``*`` stands for every other value."""
    missing: str | dict[str, str] = "not recorded"
    """What the template says where a case has no value, for all fields or for each."""
    absent: str | dict[str, str] = "not recorded"
    """The neutral wording that stands in for a field when an attribution takes it away, for all fields or for each."""
    model: str = "smollm2"
    """A name, a hub id, a folder or a GGUF file."""
    device: str | None = None
    """``cpu``, ``cuda`` ...; None leaves it to the loader."""
    dtype: str | None = None
    """``float32``, ``bfloat16`` ...; None leaves it to the loader."""
    method: str = "kernel_shap"
    """How fields are scored."""
    settings: dict[str, Any] = Field(default={})
    """Settings of the method."""
    token_method: Annotated[str | None, BeforeValidator(_none)] = "input_x_gradient"
    """How tokens are scored; ``none`` scores none."""
    token_settings: dict[str, Any] = Field(default={})
    """Settings of the token method."""
    features: Literal["field", "sentence", "word", "token"] = "field"
    """What the method scores."""
    imputer: str | None = None
    """What stands in for an absent feature; None leaves it to the features' default."""
    expected: Names = ()
    """The fields that a clinician expects to matter, the most important first."""
    decoy: Names = ()
    """Fields that must not matter."""
    outcome: Outcome | None = None
    """What became of the patients."""
    counterfactual: Search = Search()
    """The search for the smallest change that flips a decision."""
    checks: Literal["none", "free", "full"] = "free"
    """The evidence gathered on every case."""
    full_checks_on: int = Field(default=1, ge=0)
    """The first so many cases get full checks whatever ``checks`` says."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of everything that samples."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many cases."""
    store_text: bool = False
    """Whether records and report hold the patients' text. Without it they hold keyed digests."""

    @model_validator(mode="after")
    def _consistent(self) -> "AuditConfig":
        for first, second in _PAIRS:
            given = [name for name in (first, second) if getattr(self, name) is not None]
            if len(given) != 1:
                raise ValueError(
                    f"exactly one of {first} and {second} must be given, not {' and '.join(given) or 'none'}"
                )
        if self.choices is not None and (len(self.choices) < 2 or len(set(self.choices)) < len(self.choices)):
            raise ValueError(f"choices must be at least two different answers, not {list(self.choices)}")
        if self.outcome is not None:
            strange = [option for option in self.outcome.options.values() if option not in (self.choices or ())]
            if strange:
                raise ValueError(f"outcome.options names {strange[0]!r}, which is not among the choices")
        both = sorted({*self.expected} & {*self.decoy})
        if both:
            raise ValueError(f"{both[0]!r} is both expected and a decoy")
        Wordings(tables=self.wordings)
        return self

    @classmethod
    def read(cls, path: Path | str, **given: Any) -> "AuditConfig":
        """Read a ``.yaml``, ``.yml`` or ``.toml`` file; what is ``given`` and not None takes its place.

        Paths in the file are relative to the file. Raises InputError in one sentence for what cannot be used.
        """
        path = Path(path)
        document = _relative_to(path.parent, _parsed(path))
        return cls._checked(_merged(document, given), f"the configuration {str(path)!r}")

    @classmethod
    def of(cls, **given: Any) -> "AuditConfig":
        """A configuration without a file; None stands for what is not given."""
        return cls._checked(_merged({}, given), "the audit's settings")

    def with_overrides(self, **given: Any) -> "AuditConfig":
        """The same with what is given and not None in place of what stood here."""
        return self._checked(_merged(self.model_dump(exclude_unset=True), given), "the audit's settings")

    @classmethod
    def _checked(cls, document: dict[str, Any], what: str) -> "AuditConfig":
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            for item in error.errors():
                if item["type"] == "extra_forbidden":
                    *parents, name = [str(part) for part in item["loc"]]
                    raise UnknownNameError(
                        f"setting of {'.'.join(parents) or 'an audit'}",
                        name,
                        _settings_at(parents),
                        f"It stands in {what}.",
                    ) from None
            raise InputError.from_validation(what, error) from None

    def template_text(self) -> str:
        """The template, from here or from its file."""
        if self.template is not None:
            return self.template
        path = Path(str(self.template_file))
        try:
            return path.read_text("utf-8-sig").rstrip("\n")
        except OSError as error:
            raise InputError(f"the template {str(path)!r} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError as error:
            raise InputError(f"the template {str(path)!r} is not UTF-8: see byte {error.start}.") from None

    def template_digest(self) -> str:
        """SHA-256 of the template's text."""
        return hashlib.sha256(self.template_text().encode()).hexdigest()

    def identity(self) -> str:
        """SHA-256 of all that bears on a record: the settings and the template, and not where files lie or how many."""
        return self.identity_with(self.template_text())

    def identity_with(self, template: str) -> str:
        """The same, for a template whose file need not be there any more."""
        document = self.model_dump(mode="json", exclude={"cases", "template", "template_file", "out", "limit", "title"})
        return hashlib.sha256(canonical(finite(document | {"template": template}))).hexdigest()

    def check_names(self, fields: Sequence[str], columns: Sequence[str]) -> None:
        """Raises UnknownNameError where a setting names a field that the template, or a column that the cases lack."""
        named: dict[str, Sequence[str]] = {
            "wordings": [*self.wordings],
            "missing": [*self.missing] if isinstance(self.missing, dict) else [],
            "absent": [*self.absent] if isinstance(self.absent, dict) else [],
            "expected": self.expected,
            "decoy": self.decoy,
        }
        for setting, names in named.items():
            for name in names:
                if name not in fields:
                    raise UnknownNameError("field", name, fields, f"The setting {setting!r} names it.")
        for name in (
            *fields,
            *([self.id_column] if self.id_column else []),
            *([self.outcome.column] if self.outcome else []),
        ):
            if name not in columns:
                raise UnknownNameError("column", name, columns, "The template or a setting names it.")


def commented_example() -> str:
    """A configuration with every setting and a sentence on each, as ``pellucid audit init`` writes it."""
    return (Path(__file__).parent / "example.yaml").read_text("utf-8")


def _settings_at(parents: Sequence[str]) -> list[str]:
    blocks: dict[str, type[Record]] = {"generate": Generate, "outcome": Outcome, "counterfactual": Search}
    return list(blocks.get(parents[0] if parents else "", AuditConfig).model_fields)


def _merged(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged, new = dict(document), {name: value for name, value in given.items() if value is not None}
    for pair in _PAIRS:
        for name, other in (pair, pair[::-1]):
            if name in new and other not in new:
                merged.pop(other, None)
    return merged | new


def _relative_to(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    placed = {
        name: folder / value if name in _PATHS and isinstance(value, str) else value for name, value in document.items()
    }
    model = placed.get("model")
    # A model is a path only where there is such a path; otherwise it is a name.
    if isinstance(model, str) and (folder / model).exists():
        placed["model"] = str(folder / model)
    return placed


def _parsed(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in (".yaml", ".yml", ".toml"):
        raise InputError(f"a configuration is a .yaml, .yml or .toml file, and {str(path)!r} is none of these.")
    try:
        text = path.read_text("utf-8-sig")
        document = tomllib.loads(text) if path.suffix.lower() == ".toml" else _yaml(text)
    except OSError as error:
        raise InputError(f"the configuration {str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"the configuration {str(path)!r} is not UTF-8: see byte {error.start}.") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"the configuration {str(path)!r} is malformed: {' '.join(str(error).split())}.") from None
    if not isinstance(document, dict):
        raise InputError(
            f"the configuration {str(path)!r} must hold settings (name: value), not {type(document).__name__}."
        )
    return document


class _TextLoader(yaml.BaseLoader):
    """YAML in which every value is the text that was written, so that ``no`` is no truth value and ``05`` no number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands twice in the block at line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    document = yaml.load(text, _TextLoader)
    if not isinstance(document, dict):
        return document or {}
    # A setting without a value is one that is not given.
    document = {name: value for name, value in document.items() if value not in ("", "null", "~")}
    for name in ("settings", "token_settings"):
        if isinstance(document.get(name), dict):
            document[name] = {key: _plain(value) for key, value in document[name].items()}
    return document


def _plain(value: Any) -> Any:
    """A method's setting with its own type: 64 is a number there."""
    return yaml.safe_load(value) if isinstance(value, str) else value
