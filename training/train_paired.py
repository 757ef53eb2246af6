"""Train the two tiny classifiers of the paired task, and write src/pellucid/ground_truth/paired/. Under a minute.

    python training/train_paired.py

Both read the same sentences of 10 words (see pellucid.ground_truth.paired_words): one is taught the thing in them, the
other the place. Each is a BERT of 1 layer x 2 heads x 24 dimensions. In half of the batches every word is masked with a
probability drawn for its sentence from U(0, 1). Every batch is fresh. One thread, fixed seeds.
"""

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional
from transformers import BertForSequenceClassification

from pellucid.ground_truth.paired_words import (
    DIMENSIONS,
    FOLDER,
    LAYERS,
    Paired,
    Part,
    draw,
    labels,
    vocabulary,
)
from pellucid.ground_truth.planted import network

SEED = 20261122
STEPS, BATCH, RATE = 900, 96, 3e-3
TEST_SENTENCES = 2000


def encoded(sentences: list[Paired], part: Part) -> tuple[Tensor, Tensor]:
    """Token ids [sentence, position] with [CLS] first, and labels [sentence]."""
    known, classes = vocabulary(), labels(part)
    ids = [[known["[CLS]"], *(known[word] for word in each.words)] for each in sentences]
    return torch.tensor(ids), torch.tensor([classes.index(each.labels[part]) for each in sentences])


def masked(ids: Tensor, generator: torch.Generator) -> Tensor:
    """The same with words masked, at a rate from U(0, 1) for each sentence; [CLS] stays."""
    gone = torch.rand(ids.shape, generator=generator) < torch.rand((len(ids), 1), generator=generator)
    gone[:, 0] = False
    return ids.masked_fill(gone, vocabulary()["[MASK]"])


def train(part: Part) -> BertForSequenceClassification:
    """The trained network of one part, in evaluation mode."""
    torch.manual_seed(SEED)
    sentences, generator = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    module = network(len(vocabulary()), labels(part), LAYERS, DIMENSIONS)
    optimiser = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    for step in range(STEPS):
        ids, classes = encoded([draw(sentences) for _ in range(BATCH)], part)
        loss = functional.cross_entropy(module(masked(ids, generator) if step % 2 else ids).logits, classes)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return module.eval()


@torch.no_grad()
def report(module: BertForSequenceClassification, part: Part) -> None:
    """Print what the card says."""
    generator = np.random.default_rng(SEED + 1)
    ids, classes = encoded([draw(generator) for _ in range(TEST_SENTENCES)], part)
    right = (module(ids).logits.argmax(1) == classes).float().mean()
    print(f"{part}: accuracy on {TEST_SENTENCES} fresh sentences: {right:.4f}")
    empty = ids[:1].clone()
    empty[:, 1:] = vocabulary()["[MASK]"]
    print(f"{part}: p({labels(part)[1]} | all words masked): {module(empty).logits.softmax(1)[0, 1]:.3f}")
    print(f"{part}: parameters: {sum(each.numel() for each in module.parameters())}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in ("object", "scene"):
        trained = train(each)
        report(trained, each)
        (FOLDER / f"{each}.safetensors").write_bytes(save(trained.state_dict(), metadata={"format": "pt"}))
