"""Text classifiers: encoders with a head over labels."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pellucid.models.base import AbstractEmbedded, BoundTarget
from pellucid.models.classifier import AbstractClassifier, scored
from pellucid.models.text import AbstractTextModel
from pellucid.models.tokens import Row, TextInputs


class TextClassifier(AbstractClassifier[TextInputs, Row], AbstractTextModel):
    """An encoder that gives a text one of several labels."""

    @property
    def labels(self) -> list[str]:
        """The class labels, in the order of the logits."""
        names = dict(self.module.config.id2label or {})
        return [str(name) for _, name in sorted(names.items())]

    def embedded(self, inputs: TextInputs, target: BoundTarget, offset: int) -> AbstractEmbedded:
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

    def logits(self, rows: Sequence[Row]) -> Float[Tensor, "batch class"]:
        with torch.no_grad():
            batch = self.batch(rows, "right")
            return self.run(batch.ids, batch.visible)


class _EmbeddedText(AbstractEmbedded):
    """A text whose embeddings are arguments. An encoder looks both ways, so nothing before ``offset`` can be reused."""

    def __init__(self, model: TextClassifier, inputs: TextInputs, target: BoundTarget, offset: int) -> None:
        ids, self._visible, _ = model.batch([inputs.row], "right")
        self._model, self._target, self.offset = model, target, offset
        embeddings = model.embed(ids[0])
        self._before, self.embeddings = embeddings[:offset], embeddings[offset:]

    def __call__(self, embeddings: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch target"]:
        batch = len(embeddings)
        whole = torch.cat([self._before.expand(batch, -1, -1), embeddings], 1)
        logits = self._model.run(whole, self._visible.expand(batch, -1))
        return self._target.target.score(scored(logits, self._target))  # type: ignore[no-any-return]
