"""Text classifiers: encoders with a head over labels."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError
from pellucid.models.base import AbstractEmbedded, BoundTarget, Inputs, Row, alternative
from pellucid.models.text import AbstractTextModel
from pellucid.targets import AbstractTarget, Alternative, Choice, Generated, Logit, Margin, Token


class TextClassifier(AbstractTextModel):
    """An encoder that gives a text one of several labels."""

    @property
    def labels(self) -> list[str]:
        """The class labels, in the order of the logits."""
        names = dict(self.module.config.id2label or {})
        return [str(name) for _, name in sorted(names.items())]

    def bind(self, target: AbstractTarget | None, inputs: Inputs) -> BoundTarget:
        """Make a target concrete: names become class indices. The default is the margin of the predicted class."""
        target = Margin() if target is None else target
        if isinstance(target, Generated):
            raise InputError("a classifier generates no text; explain a Margin, a Logit or a Choice of labels.")
        if isinstance(target, Logit | Margin | Token) and target.label is None:
            target = target.model_copy(update={"label": self.labels[int(self._logits([inputs.row])[0].argmax())]})
        classes = tuple((self._class(label),) for label in target.alternatives)
        if isinstance(target, Choice) and target.chosen is None:
            scores = target.all.score(self.alternatives([inputs.row], BoundTarget(target, classes, ())))
            target = target.model_copy(update={"chosen": target.options[int(scores[0].argmax())]})
        names = target.output_names([[label] for label in target.alternatives])
        return BoundTarget(target, classes, tuple(names))

    def alternatives(self, rows: Sequence[Row], target: BoundTarget) -> list[Alternative]:
        return _scored(self._logits(rows), target)

    def embedded(self, inputs: Inputs, target: BoundTarget, offset: int) -> AbstractEmbedded:
        return _EmbeddedText(self, inputs, target, offset)

    def run(
        self, ids: Int[Tensor, "batch seq"] | Float[Tensor, "batch seq dim"], visible: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch class"]:
        """One call of the network, the only one there is, on token ids or on their embeddings."""
        given: dict[str, Tensor] = {"inputs_embeds" if ids.is_floating_point() else "input_ids": ids}
        if self.first_position:
            # RoBERTa counts positions past padding tokens; a token hidden in the middle must not move those after it.
            count = torch.arange(ids.shape[1], device=ids.device) + self.first_position
            given["position_ids"] = count.expand(ids.shape[0], -1)
        with self.evaluating():
            out = self.module(**given, attention_mask=visible.long())
        self.meter.forwards += 1
        self.meter.rows += ids.shape[0]
        self.meter.tokens += ids.shape[0] * ids.shape[1]
        logits: Float[Tensor, "batch class"] = out.logits
        return logits

    def _logits(self, rows: Sequence[Row]) -> Float[Tensor, "batch class"]:
        with torch.no_grad():
            batch = self.batch(rows, "right")
            return self.run(batch.ids, batch.visible)

    def _class(self, label: str) -> int:
        if label not in self.labels:
            raise UnknownNameError("label of this classifier", label, self.labels)
        return self.labels.index(label)


class _EmbeddedText(AbstractEmbedded):
    """A text whose embeddings are arguments. An encoder looks both ways, so nothing before ``offset`` can be reused."""

    def __init__(self, model: TextClassifier, inputs: Inputs, target: BoundTarget, offset: int) -> None:
        ids, self._visible, _ = model.batch([inputs.row], "right")
        self._model, self._target, self.offset = model, target, offset
        embeddings = model.embed(ids[0])
        self._before, self.embeddings = embeddings[:offset], embeddings[offset:]

    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        batch = len(embeddings)
        whole = torch.cat([self._before.expand(batch, -1, -1), embeddings], 1)
        scored = _scored(self._model.run(whole, self._visible.expand(batch, -1)), self._target)
        return self._target.target.score(scored)  # type: ignore[no-any-return]


def _scored(logits: Float[Tensor, "batch class"], target: BoundTarget) -> list[Alternative]:
    classes = [torch.tensor(index, device=logits.device) for index in target.alternatives]
    return [alternative(logits[:, None], index) for index in classes]
