"""What stands in for an absent part of a text."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Bool

from pellucid.errors import InputError, UnknownNameError
from pellucid.games.game import Coalitions
from pellucid.games.imputer import AbstractImputer
from pellucid.models import AbstractTextModel, Row, TextInputs
from pellucid.records import Feature


class AbstractTextImputer(AbstractImputer):
    """Turns a coalition into the sequences that are scored for it."""

    def __init__(self, model: AbstractTextModel, inputs: TextInputs, features: Sequence[Feature]) -> None:
        self.model, self.inputs, self.features = model, inputs, features

    @abstractmethod
    def rows(self, coalitions: Coalitions) -> list[Row]:
        """``draws`` rows for each coalition, those of one coalition together."""


class _TokenImputer(AbstractTextImputer):
    """Leaves the sequence's length as it is and changes tokens in place."""

    def __init__(self, model: AbstractTextModel, inputs: TextInputs, features: Sequence[Feature]) -> None:
        super().__init__(model, inputs, features)
        self._owner = model.owners(inputs, features).numpy()

    def _absent(self, coalitions: Coalitions) -> Bool[np.ndarray, "coalition token"]:
        """For each coalition and token: whether the token belongs to an absent feature."""
        return np.concatenate([~coalitions, np.zeros((len(coalitions), 1), bool)], 1)[:, self._owner]


@final
class MaskToken(_TokenImputer):
    """Absent tokens become the tokenizer's mask token and stay visible."""

    name = "mask"

    @property
    def description(self) -> str:
        return f"mask: token {self._mask_name}"

    @property
    def _mask_name(self) -> str:
        token = self.model.tokenizer.mask_token
        if token is None:
            raise InputError(f"{self.model.name} has no mask token; use the baseline 'delete' or 'pad'.")
        return str(token)

    def rows(self, coalitions: Coalitions) -> list[Row]:
        mask = self.model.tokenizer.convert_tokens_to_ids(self._mask_name)
        ids = np.where(self._absent(coalitions), mask, np.array(self.inputs.row.ids))
        return [Row(tuple(each), self.inputs.row.visible) for each in ids.tolist()]


@final
class PadToken(_TokenImputer):
    """Absent tokens become padding and are hidden from attention; all others keep their positions."""

    name = "pad"

    @property
    def description(self) -> str:
        return "pad: token hidden from attention, positions kept"

    def rows(self, coalitions: Coalitions) -> list[Row]:
        absent = self._absent(coalitions)
        pad = self.model.tokenizer.pad_token_id
        ids = np.where(absent, 0 if pad is None else pad, np.array(self.inputs.row.ids))
        visible = ~absent & np.array(self.inputs.row.visible)
        return [Row(tuple(i), tuple(v)) for i, v in zip(ids.tolist(), visible.tolist(), strict=True)]


@final
class Delete(_TokenImputer):
    """Absent words, sentences and field values are cut out of the text, which is then encoded anew.

    A word takes the white space after it along. Absent tokens are dropped from the sequence.
    """

    name = "delete"

    @property
    def description(self) -> str:
        return "delete: cut out of the text"

    def rows(self, coalitions: Coalitions) -> list[Row]:
        if any(feature.index is not None for feature in self.features):
            return [self._dropped(absent) for absent in self._absent(coalitions)]
        return [self.model.row(_replaced(self.inputs.prompt.text, self._cuts(row))) for row in coalitions]

    def _dropped(self, absent: np.ndarray) -> Row:
        kept = [token for token, gone in zip(self.inputs.row.ids, absent, strict=True) if not gone]
        return Row.of(kept or [self.model.start_token])

    def _cuts(self, coalition: np.ndarray) -> list[tuple[int, int, str]]:
        text, cuts = self.inputs.prompt.text, []
        for feature, present in zip(self.features, coalition, strict=True):
            if present:
                continue
            start, end = _span(feature)
            if feature.kind != "field":
                end += len(text[end:]) - len(text[end:].lstrip())
            cuts.append((start, end, ""))
        return cuts


@final
class Neutral(AbstractTextImputer):
    """Absent fields get their neutral wording, such as "not recorded": a text that a person could write."""

    name = "neutral"

    def __init__(self, model: AbstractTextModel, inputs: TextInputs, features: Sequence[Feature]) -> None:
        super().__init__(model, inputs, features)
        wordings = {field.name: field.absent for field in inputs.prompt.fields}
        if any(feature.kind != "field" for feature in features):
            raise InputError(f"the baseline 'neutral' words fields, not {features[0].kind}s; use 'delete'.")
        self._wordings = [wordings[feature.label] for feature in features]

    @property
    def description(self) -> str:
        if len(set(self._wordings)) == 1:
            return f"neutral: {self._wordings[0]!r}"
        pairs = [f"{feature.label}: {words!r}" for feature, words in zip(self.features, self._wordings, strict=True)]
        return f"neutral: {'; '.join(pairs)}"

    def rows(self, coalitions: Coalitions) -> list[Row]:
        return [self.model.row(_replaced(self.inputs.prompt.text, self._changes(row))) for row in coalitions]

    def _changes(self, coalition: np.ndarray) -> list[tuple[int, int, str]]:
        both = zip(self.features, self._wordings, coalition, strict=True)
        return [(*_span(feature), wording) for feature, wording, present in both if not present]


@final
class Background(AbstractTextImputer):
    """Absent fields take the values that they have in other cases; the game averages over those cases."""

    name = "background"

    def __init__(
        self,
        model: AbstractTextModel,
        inputs: TextInputs,
        features: Sequence[Feature],
        background: Sequence[Mapping[str, str]],
    ) -> None:
        super().__init__(model, inputs, features)
        if not background:
            raise InputError("the baseline 'background' needs at least one other case to draw from.")
        for number, case in enumerate(background):
            for feature in features:
                if feature.label not in case:
                    raise InputError(f"background case {number} has no value for the field {feature.label!r}.")
        self.draws, self._background = len(background), background

    @property
    def description(self) -> str:
        return f"background: mean over {self.draws} other cases"

    def rows(self, coalitions: Coalitions) -> list[Row]:
        rows = []
        for coalition in coalitions:
            for case in self._background:
                both = zip(self.features, coalition, strict=True)
                changes = [(*_span(feature), str(case[feature.label])) for feature, present in both if not present]
                rows.append(self.model.row(_replaced(self.inputs.prompt.text, changes)))
        return rows


def make_text_imputer(
    name: str | None,
    model: AbstractTextModel,
    inputs: TextInputs,
    features: Sequence[Feature],
    background: Sequence[Mapping[str, str]] = (),
) -> AbstractTextImputer:
    """The imputer of a name. None: ``neutral`` for fields, else ``mask`` where there is a mask token, else ``delete``.

    Raises UnknownNameError on another name, InputError where the imputer does not fit the features.
    """
    if name is None:
        fields = features[0].kind == "field"
        name = "neutral" if fields else "mask" if model.tokenizer.mask_token is not None else "delete"
    plain: dict[str, type[Delete | MaskToken | PadToken | Neutral]] = {
        imputer.name: imputer for imputer in (Delete, MaskToken, PadToken, Neutral)
    }
    if name == Background.name:
        return Background(model, inputs, features, background)
    if name not in plain:
        raise UnknownNameError("baseline", name, [*plain, Background.name])
    return plain[name](model, inputs, features)


def _span(feature: Feature) -> tuple[int, int]:
    if feature.start is None or feature.end is None:
        raise InputError(f"the feature {feature.label!r} has no place in the text, so it cannot be taken out of it.")
    return feature.start, feature.end


def _replaced(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """The text with each (start, end) span replaced; the spans do not overlap."""
    pieces, position = [], 0
    for start, end, wording in sorted(changes):
        pieces += [text[position:start], wording]
        position = max(position, end)
    return "".join([*pieces, text[position:]])
