"""Train a bidirectional LSTM over words on SST-2's sentences; writes a folder of transformers.

    python training/word_lstm.py --data DATA --out src/pellucid/models/zoo/lstm-sst2

Words that stand at least twice in the training sentences, lower case, have a vector of 64 numbers; the LSTM has 64
units in each direction. In half of the training rows words are hidden behind a mask, at a rate of the row's own from
U(0, 1), so that a text with words removed is nothing new. The weights of the epoch that does best on the dev sentences
are kept. Fixed seed, one thread. Needs torch 2.13, transformers 5.23.
"""

import argparse
import collections
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from text_tasks import BATCH_ROWS, TASKS, Example, as_written, batches, logits, padded, right
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, get_scheduler

from pellucid.models.word_lstm import WordLSTMConfig, WordLSTMForSequenceClassification

SEED = 20261122
MOST_WORDS, FEWEST = 8000, 2
"""Size of the vocabulary, and how often a word must stand in the training sentences."""
WIDTH = 64
DROPOUT = 0.5
EPOCHS = 8
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
MASKED_ROWS = 0.5
SPECIAL = ("<pad>", "<unk>", "<mask>")


def word_tokenizer(texts: list[str], out: Path) -> PreTrainedTokenizerBase:
    """One token for each word or run of punctuation of ``texts``; saved in ``out`` and read back."""
    cut, lower = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    counts = collections.Counter(word for text in texts for word, _ in cut.pre_tokenize_str(text.lower()))
    known = [word for word, count in counts.most_common(MOST_WORDS - len(SPECIAL)) if count >= FEWEST]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *known])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer, inner.pre_tokenizer = lower, cut
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        padding_side="right",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(out)
    return AutoTokenizer.from_pretrained(out)


def masked(ids: torch.Tensor, mask: torch.Tensor, hidden: int, generator: torch.Generator) -> torch.Tensor:
    """Ids with ``hidden`` for words of some rows, each of these rows at a rate of its own from U(0, 1)."""
    rate = torch.rand(len(ids), 1, generator=generator)
    touched = torch.rand(len(ids), 1, generator=generator) < MASKED_ROWS
    gone = (torch.rand(ids.shape, generator=generator) < rate) & touched & mask.bool()
    return ids.masked_fill(gone, hidden)


def fit(
    model: WordLSTMForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    train: list[Example],
    dev: list[Example],
) -> None:
    """AdamW on the cross-entropy; the best epoch's weights stay in ``model``."""
    rng, generator = random.Random(SEED), torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(train) // BATCH_ROWS)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=steps // 16, num_training_steps=steps)
    best, kept = 0, model.state_dict()
    for epoch in range(EPOCHS):
        begun = time.time()
        model.train()
        for batch in batches(train, rng):
            ids, mask, labels = padded(batch, tokenizer.pad_token_id)
            hidden = masked(ids, mask, tokenizer.mask_token_id, generator)
            loss = F.cross_entropy(model(hidden, mask).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        reached = right(logits(model, dev, tokenizer.pad_token_id), dev)
        print(f"epoch {epoch + 1}: dev {reached / len(dev):.4f}, {time.time() - begun:.0f} s", flush=True)
        if reached > best:
            best, kept = reached, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)


def main() -> None:
    """Parse the command line, train, save in float16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    lines = (asked.data / "rationales" / "sst2_tree_rationales_train.jsonl").read_text("utf-8").splitlines()
    sentences = [json.loads(line)["tokens"] for line in lines]
    tokenizer = word_tokenizer([as_written(tokens) for tokens in sentences], asked.out)
    task = TASKS["sst2"]
    config = WordLSTMConfig(
        vocab_size=len(tokenizer),
        embedding_size=WIDTH,
        hidden_size=WIDTH,
        dropout=DROPOUT,
        id2label=dict(enumerate(task.labels)),
        label2id={name: number for number, name in enumerate(task.labels)},
    )
    model = WordLSTMForSequenceClassification(config)
    torch.nn.init.normal_(model.embeddings.weight[1:], std=0.1)
    print(f"{sum(value.numel() for value in model.parameters())} parameters, {len(tokenizer)} words", flush=True)
    fit(model, tokenizer, task.read(asked.data, "train", tokenizer), task.read(asked.data, "dev", tokenizer))
    model.half().save_pretrained(asked.out)


if __name__ == "__main__":
    main()
