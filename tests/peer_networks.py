"""The two networks that other libraries' metrics were scored on: built here, and in the environment of those libraries.

Everything is drawn by numpy's legacy generator, whose numbers no version changes.
"""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

SIDE = 6
MEAN, STD = 0.5, 0.25
WORDS = [
    *("a", "bright", "calm", "day", "dull", "grey", "hills", "rain", "slow"),
    *("soft", "storm", "the", "walk", "was", "we", "went", "with", "wind"),
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def drawn(module: torch.nn.Module, seed: int, scale: float) -> torch.nn.Module:
    """The module with normal weights, in evaluation mode and double precision."""
    generator = np.random.RandomState(seed)
    module = module.double().eval()
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.from_numpy(generator.normal(scale=scale, size=tuple(parameter.shape))))
    return module


def picture_network() -> torch.nn.Module:
    """Three classes of pictures [1, 6, 6]."""
    layers = [torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)]
    return drawn(torch.nn.Sequential(*layers), 0, 0.3)


def pictures(count: int) -> np.ndarray:
    """Bytes [count, 6, 6]."""
    return np.random.RandomState(1).randint(0, 256, (count, SIDE, SIDE)).astype(np.uint8)


def standardised(bytes_: np.ndarray) -> np.ndarray:
    """What the network reads: [count, 1, 6, 6]."""
    return ((bytes_ / 255 - MEAN) / STD)[:, None]


def text_network() -> tuple:
    """A BERT of two layers and two classes, with a tokenizer of whole words."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=0, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1},
    )  # fmt: skip
    return drawn(BertForSequenceClassification(config), 2, 1.0), fast


def texts(count: int, words: int) -> list[str]:
    """Sentences of so many words; what they say is left to chance."""
    generator = np.random.RandomState(3)
    return [" ".join(generator.choice(WORDS, words)) for _ in range(count)]
