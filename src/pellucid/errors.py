"""Everything pellucid raises on purpose, and the exit code that each kind ends a command with.

PellucidError                    1  something that was checked does not hold
├── InputError                   2  what the caller gave cannot be used
│   ├── UnknownNameError            a method, model, feature, column ... of that name does not exist
│   ├── TemplateError               a template and its values do not fit together
│   └── ContextLengthError          the input is longer than the model can read
├── ModelError                   3  the model cannot answer
│   ├── MissingPackageError         an optional package is needed and absent
│   ├── NoRuleError                 relevance cannot be traced through an operation of the network
│   └── NumericalError              the model returned NaN or infinity
└── RecordError                  1  a ledger, a record or a saved file is broken, was changed, or cannot be written

A message is one sentence that names what came, what is allowed, and the next step.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


MOST_NAMES = 40
"""Known names that an error lists; a network has hundreds of modules."""


def _shortened(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


class PellucidError(Exception):
    """Base of every error that pellucid raises on purpose."""

    exit_code = 1


class InputError(PellucidError):
    """What the caller gave cannot be used: a bad value, an empty case, a wrong encoding."""

    exit_code = 2

    @classmethod
    def from_validation(cls, what: str, error: "ValidationError") -> "InputError":
        """A pydantic error as one sentence that names every bad field, its value and what is allowed."""
        parts = []
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            given = "" if item["type"] == "missing" else f" (got {_shortened(item['input'])})"
            # A sentence of ours should not begin with pydantic's word for it.
            said = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
            said = said.removeprefix("Value error, ")
            parts.append(f"{place}: {said}{given}" if place else said)
        return cls(f"{what}: {'; '.join(parts)}.")


class UnknownNameError(InputError):
    """A name is not among the known ones.

    >>> raise UnknownNameError("method", "limes", ["kernel_shap", "lime"])
    Traceback (most recent call last):
    pellucid.errors.UnknownNameError: no method is called 'limes'; did you mean 'lime'? Known: kernel_shap, lime.
    """

    def __init__(self, what: str, name: object, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = get_close_matches(str(name), names, n=1)
        guess = f"; did you mean '{near[0]}'?" if near else "."
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        listed = f" Known: {', '.join(names[:MOST_NAMES])}{more}." if names else " None is known."
        super().__init__(f"no {what} is called {str(name)!r}{guess}{listed}{' ' + hint if hint else ''}")


class TemplateError(InputError):
    """A template and its values do not fit: a placeholder without a value, a value without a placeholder."""


class ContextLengthError(InputError):
    """The encoded input does not fit the model's context. Nothing is ever truncated in silence."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the input has {tokens} tokens and the model reads at most {limit}: it is {tokens - limit} too long; "
            "shorten the text or use a model with a longer context."
        )


class ModelError(PellucidError):
    """The model cannot be loaded or cannot answer."""

    exit_code = 3


class MissingPackageError(ModelError):
    """An optional package is needed; the message holds the line that installs it."""

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f"{what} is not installed; run: {install}")


class NoRuleError(ModelError):
    """A composite has no rule for an operation; the message holds the line that adds one."""

    def __init__(self, operation: str, module: str, composite: str, instead: str = "") -> None:
        self.operation = operation
        self.module = module
        way = instead or (
            f"add one: pellucid.composite({composite!r}).with_rule(FUNCTION, RULE), or with_rule({module!r}, RULE) for "
            "all of the module; or take it to first order, which the result then lists: strict=False"
        )
        whose = "" if instead else "composite "
        super().__init__(
            f"no rule for {operation!r} at {module or 'the network itself'!r} in {whose}{composite!r}; {way}."
        )


class NumericalError(ModelError):
    """The model returned NaN or infinity, so no number that follows from it would mean anything."""


class RecordError(PellucidError):
    """A ledger, a record or a saved explanation is broken, was changed after it was written, or cannot be written."""
