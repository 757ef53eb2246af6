"""Texts with named fields, so that an attribution can speak of "nodes" instead of token 41."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from pellucid.errors import InputError, TemplateError

NOT_RECORDED = "not recorded"
# A field's name is what people read in a report, so letters of any script, digits, spaces and - are fine.
_NAME = re.compile(r"[\w][\w \-]*", re.UNICODE)


@dataclass(frozen=True)
class Field:
    """One filled placeholder of a template."""

    name: str
    """The placeholder."""
    value: str
    """The text that stands there."""
    start: int
    """First character in the prompt's text."""
    end: int
    """One past the last character."""
    absent: str = NOT_RECORDED
    """The neutral wording that stands in for the value when the field is taken away."""
    missing: bool = False
    """Whether this input had no value, so that ``value`` is already the wording for a missing one."""


@dataclass(frozen=True)
class Prompt:
    """What is given to a model: a text, and the fields or words that its author named in it."""

    text: str
    """The user's text, without any chat template."""
    fields: tuple[Field, ...] = ()
    """The named fields, in the order of the text."""
    words: tuple[tuple[int, int], ...] | None = None
    """Spans of the words, where the caller gave words instead of a text."""

    @classmethod
    def ensure(cls, raw: "str | Sequence[str] | Prompt") -> "Prompt":
        """A prompt from a text, from the list of its words, or from a prompt. Raises InputError on anything else."""
        if isinstance(raw, Prompt):
            prompt = raw
        elif isinstance(raw, str):
            prompt = cls(raw)
        elif isinstance(raw, Sequence) and all(isinstance(word, str) for word in raw):
            spans, position = [], 0
            for number, word in enumerate(raw):
                if not word.strip():
                    raise InputError(f"word {number} of the list is empty; leave it out.")
                spans.append((position, position + len(word)))
                position += len(word) + 1
            prompt = cls(" ".join(raw), words=tuple(spans))
        else:
            raise InputError(f"a text, a list of words or a Prompt is explained, not {type(raw).__name__}.")
        if not prompt.text.strip():
            raise InputError("the text is empty; there is nothing to explain.")
        if "\0" in prompt.text:
            raise InputError(f"the text holds a NUL character at position {prompt.text.index(chr(0))}; remove it.")
        try:
            prompt.text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text holds a lone surrogate at position {error.start}, which no encoding has."
            ) from None
        return prompt


class Template:
    """A text with ``{placeholders}``. Calling it with values gives a Prompt that knows where each field stands.

    Args:
        text: the text; ``{{`` and ``}}`` stand for braces.
        absent: the neutral wording that replaces a field taken away, for each field, or one for all.
        missing: the wording of a field whose value is None, for each field, or one for all.

    Raises:
        TemplateError: a malformed or repeated placeholder, or a wording for a field that is not there.

    >>> prompt = Template("Age: {age}. Nodes: {nodes}.", absent={"age": "not recorded"})(age="52", nodes="5")
    >>> prompt.text, prompt.fields[1].name, prompt.text[prompt.fields[1].start : prompt.fields[1].end]
    ('Age: 52. Nodes: 5.', 'nodes', '5')
    """

    def __init__(
        self,
        text: str,
        *,
        absent: str | Mapping[str, str] = NOT_RECORDED,
        missing: str | Mapping[str, str] = NOT_RECORDED,
    ) -> None:
        self.text = text
        self._pieces = _parsed(text)
        self.fields = tuple(name for _, name in self._pieces if name is not None)
        self.absent = self._wordings("absent", absent)
        self.missing = self._wordings("missing", missing)

    def __call__(self, /, **values: object) -> Prompt:
        """Fill the template. Every placeholder needs a value; None marks a missing one."""
        absent = [name for name in self.fields if name not in values]
        if absent:
            raise TemplateError(f"the template's field {absent[0]!r} got no value; pass None where it is missing.")
        surplus = [name for name in values if name not in self.fields]
        if surplus:
            raise TemplateError(f"the template has no field {surplus[0]!r}; its fields are {', '.join(self.fields)}.")
        text, fields = "", []
        for literal, name in self._pieces:
            text += literal
            if name is None:
                continue
            value = self.missing[name] if values[name] is None else str(values[name])
            if not value.strip():
                raise TemplateError(f"the value of field {name!r} is empty; pass None where it is missing.")
            missing = values[name] is None
            fields.append(Field(name, value, len(text), len(text) + len(value), self.absent[name], missing))
            text += value
        return Prompt.ensure(Prompt(text, tuple(fields)))

    def _wordings(self, what: str, given: str | Mapping[str, str]) -> dict[str, str]:
        if isinstance(given, str):
            return dict.fromkeys(self.fields, given)
        surplus = [name for name in given if name not in self.fields]
        if surplus:
            raise TemplateError(f"{what} names {surplus[0]!r}, and the template has only {', '.join(self.fields)}.")
        return {name: given.get(name, NOT_RECORDED) for name in self.fields}


def _parsed(text: str) -> list[tuple[str, str | None]]:
    """Literal text and field name in turn. Raises TemplateError where a placeholder is not a plain, single name."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise TemplateError(f"the template is malformed: {error}; write {{{{ for a brace.") from None
    names: list[str] = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not _NAME.fullmatch(name) or spec or conversion:
            raise TemplateError(f"a placeholder is a plain name in braces, such as {{age}}, not {{{name}}}.")
        if name in names:
            raise TemplateError(
                f"the placeholder {{{name}}} stands in the template twice; name the second differently."
            )
        names.append(name)
    return [(literal, name) for literal, name, _, _ in parts]
