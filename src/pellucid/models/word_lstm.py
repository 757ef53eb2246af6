"""A bidirectional LSTM over words, with a linear layer over its last states, as a model of transformers."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from pellucid.errors import InputError


class WordLSTMConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Sizes of the network.

    Args:
        vocab_size: words.
        embedding_size: channels of a word vector.
        hidden_size: units of one direction.
        dropout: in training, of the word vectors and of the last states.
        pad_token_id: the word whose vector stays zero.
        named: what every configuration of transformers has, such as ``num_labels`` or ``id2label``.
    """

    model_type = "word-lstm"

    def __init__(
        self,
        *,
        vocab_size: int = 8000,
        embedding_size: int = 64,
        hidden_size: int = 64,
        dropout: float = 0.0,
        pad_token_id: int = 0,
        **named: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.pad_token_id = pad_token_id
        super().__init__(**named)


class WordLSTMForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Word vectors, a bidirectional LSTM [hochreiter1997], and a linear layer over the last state of each direction.

    A word that the mask hides is passed over wherever it stands, as if it were not in the text: the last state is that
    after the last visible word, and padding on either side changes nothing. A text of nothing visible is read as one
    zero vector.
    """

    config_class = WordLSTMConfig
    config: WordLSTMConfig
    base_model_prefix = "lstm"
    main_input_name = "input_ids"
    _input_embed_layer = "embeddings"

    def __init__(self, config: WordLSTMConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "batch seq embedding"] | None = None,
    ) -> SequenceClassifierOutput:
        """Logits [batch, label].

        Args:
            input_ids: words.
            attention_mask: [batch, seq]; 0 or False where a word is hidden; None: all are visible.
            inputs_embeds: word vectors in place of the words.

        Raises:
            InputError: neither words nor vectors are given, or both.
        """
        if (input_ids is None) == (inputs_embeds is None):
            given = "both" if input_ids is not None else "neither"
            raise InputError(f"{given} of input_ids and inputs_embeds came; give exactly one of them.")
        vectors = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        visible = torch.ones(vectors.shape[:2], device=vectors.device) if attention_mask is None else attention_mask
        return SequenceClassifierOutput(logits=self._logits(vectors, visible.bool()))

    def _logits(
        self, vectors: Float[Tensor, "batch seq embedding"], visible: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch label"]:
        lengths = visible.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(
            self.dropout(in_front(vectors, visible)), lengths, batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        logits: Tensor = self.classifier(self.dropout(torch.cat([last[0], last[1]], 1)))
        return logits


def in_front(
    vectors: Float[Tensor, "batch seq embedding"], visible: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq embedding"]:
    """The visible vectors of each row first, in their order, and zeros behind them."""
    order = (~visible).int().argsort(dim=1, stable=True)
    shown = vectors.masked_fill(~visible.unsqueeze(2), 0.0)
    return shown.gather(1, order.unsqueeze(2).expand_as(shown))


__all__ = ["WordLSTMConfig", "WordLSTMForSequenceClassification"]
