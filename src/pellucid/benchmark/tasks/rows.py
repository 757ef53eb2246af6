"""Cases from JSON lines: filled templates, texts with marked words, rows of tables, pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pellucid.benchmark.tasks.task import Case
from pellucid.errors import InputError, TemplateError
from pellucid.learning import Rationale, read_jsonl
from pellucid.learning.lines import read_objects
from pellucid.models import Template
from pellucid.models.template import NOT_RECORDED
from pellucid.targets import AbstractTarget, Target

Wordings = str | Mapping[str, str]
_TARGET: TypeAdapter[AbstractTarget] = TypeAdapter(Target)


class _Beside(BaseModel):
    """What a row of text may say besides its words and marks; its other names are read elsewhere."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    id: str | None = None
    cluster: str | None = None
    target: object = None
    text: str | None = None
    fields: object = None
    columns: object = None
    image: object = None


class _Row(BaseModel):
    """What every row may say that is no text."""

    model_config = ConfigDict(coerce_numbers_to_str=True, extra="forbid")
    id: str | None = None
    cluster: str | None = None
    label: str | None = None
    target: object = None


class _Filled(_Row):
    """A row of fields."""

    template: str | None = None
    fields: dict[str, str | None]
    rationale: list[str] | None = None


class _Shown(_Row):
    """A row of a table, or a picture, with a text where the model takes both."""

    columns: dict[str, object] | None = None
    image: Path | None = None
    text: str | None = None
    rationale: list[bool] | None = None


def read_cases(path: Path, kind: str, *, template: str | None = None, absent: Wordings = NOT_RECORDED) -> list[Case]:
    """The cases of a file, in its order.

    A row holds ``fields`` (name: value, null where it is missing) for a template of its own or for the one that is
    given, and as ``rationale`` the names of those that decide; or a text and its marks as ``pellucid.learning`` reads
    them; or ``columns`` (name: value), or an ``image`` (a path relative to the file) with or without a ``text``, and
    a ``rationale`` of 0 or 1 for each feature in the model's order. All may hold ``id``, ``cluster``, ``label`` and
    ``target``.

    Args:
        path: JSON lines.
        kind: the kind of feature that is scored; in a text only words and fields can be marked.
        template: the text around the fields of rows without a template of their own.
        absent: what stands for a field that is taken away, for all or for each.

    Raises:
        InputError: a line of another form, marks for another kind of feature, two rows of one id, no row.
        TemplateError: fields that do not fit their template.
    """
    beside = {row.id or str(line): (place, row) for line, place, row in read_objects(path, _Beside)}
    rows = [row for _, row in beside.values()]
    if any(row.fields is not None for row in rows):
        filled = read_objects(path, _Filled)
        return _distinct(
            [_filled(row, row.id or str(line), place, kind, template, absent) for line, place, row in filled], path
        )
    if any(row.columns is not None or row.image is not None for row in rows):
        shown = read_objects(path, _Shown)
        return _distinct([_shown(row, row.id or str(line), place, path.parent) for line, place, row in shown], path)
    texts = [(each, _row_of(each.id, beside)) for each in read_jsonl(path)]
    return [_worded(each, name, *beside[name], kind) for each, name in texts]


def _row_of(text: str, rows: Mapping[str, object]) -> str:
    """The id of the row that a text is from: a minimal pair is one row and two texts, 12/good and 12/bad."""
    return text if text in rows else text.removesuffix("/good").removesuffix("/bad")


def _filled(row: _Filled, name: str, place: str, kind: str, template: str | None, absent: Wordings) -> Case:
    text = row.template or template
    if text is None:
        raise InputError(f"{place} holds fields and there is no template around them; add 'template' to the task.")
    try:
        prompt = Template(text, absent=absent)(**row.fields)
    except TemplateError as error:
        raise TemplateError(f"{place}: {error}") from None
    marks = None
    if row.rationale is not None:
        strange = next((name for name in row.rationale if name not in row.fields), None)
        if strange is not None:
            raise InputError(f"{place}: the rationale names {strange!r}; its fields are {', '.join(row.fields)}.")
        if kind != "field":
            raise InputError(f"{place} marks fields, and features of kind {kind!r} are scored; take 'field'.")
        # The features are in the order of the text, whatever the order of the row.
        marks = tuple(field.name in row.rationale for field in prompt.fields)
    return Case(name, prompt, row.cluster or name, row.label, marks, target_of(row.target, place))


def _shown(row: _Shown, name: str, place: str, folder: Path) -> Case:
    if (row.columns is None) == (row.image is None):
        raise InputError(f"{place} must hold either columns or an image.")
    raw: object = row.columns
    if row.image is not None:
        picture = str(folder / row.image)
        raw = picture if row.text is None else {"image": picture, "text": row.text}
    elif row.text is not None:
        raise InputError(f"{place} holds columns and a text; a row of a table has no text beside it.")
    marks = None if row.rationale is None else tuple(row.rationale)
    return Case(name, raw, row.cluster or name, row.label, marks, target_of(row.target, place))


def _worded(example: Rationale, name: str, place: str, row: _Beside, kind: str) -> Case:
    if kind != "word" and example.rationale is not None:
        raise InputError(f"case {example.id!r} marks words, and features of kind {kind!r} are scored; take 'word'.")
    text = " ".join(example.words) if row.text is None else row.text
    raw = list(example.words) if kind == "word" else text
    return Case(example.id, raw, row.cluster or name, example.label, example.rationale, target_of(row.target, place))


def target_of(document: object, place: str) -> AbstractTarget | None:
    """A target as it is written, such as ``{"kind": "choice", "options": ["Yes", "No"]}``. Raises InputError."""
    try:
        return None if document is None else _TARGET.validate_python(document)
    except ValidationError as error:
        raise InputError.from_validation(f"{place}, target", error) from None
    except InputError as error:
        raise InputError(f"{place}, target: {error}") from None


def _distinct(cases: Sequence[Case], path: Path) -> list[Case]:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError(f"two cases of {str(path)!r} have the id {case.id!r}; every case needs its own.")
        seen.add(case.id)
    return list(cases)
