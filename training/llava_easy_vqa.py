"""Train a tiny LLaVA (Liu et al. 2023) on easy-VQA and write its folder, which transformers reads.

    pip install --no-deps easy-vqa==1.0
    python training/llava_easy_vqa.py train --out src/pellucid/models/zoo/llava-easy-vqa
    python training/llava_easy_vqa.py score --out src/pellucid/models/zoo/llava-easy-vqa

A CLIP vision tower (3 layers x 96) and a Llama (2 layers x 96), joined by a projector. First the tower alone learns
shape and colour, which the training questions tell of every picture: without that the whole stays near 70 % of the
questions. Then the whole learns the answer, one word, and the end of the text. Both times the pictures are mirrored
and their shapes moved. The last 200 training pictures watch the training; the test pictures are scored once, by
``score``, from the written files. Fixed seed, bfloat16 where it saves time. Needs torch 2.13, transformers 5.23,
pillow.
"""

import argparse
import json
import random
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch
from easy_vqa_data import Questions, data_folder, facts, processor, read, sentence
from intervals import described
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR as Schedule
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

SEED = 20261122
WIDTH, HEADS, PIXELS, PATCH = 96, 4, 64, 8
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
WATCHED = 200
"""Pictures of the training set that only watch it."""
TOWER_EPOCHS, TOWER_ROWS, TOWER_RATE = 20, 32, 2e-3
EPOCHS, PICTURES_PER_STEP, RATE = 10, 16, 2e-3
EXAMPLES = ("0", "1", "2", "3", "4", "5")
"""Test pictures that go with the model."""


def moved(x: Tensor, rng: random.Random) -> Tensor:
    """Each of [batch, 3, 64, 64] mirrored or not, its shape put at a random place: every answer stays true."""
    ground = x.flatten(2).median(2).values[:, :, None, None]
    shape = ((x - ground).abs() > 0.05).any(1)
    placed = []
    for one, here in zip(x, shape, strict=True):
        shifts = [anywhere(here.any(1 - axis).nonzero().flatten().tolist(), rng) for axis in (0, 1)]
        there = one.roll(shifts, (1, 2))
        placed.append(there.flip(2) if rng.random() < 0.5 else there)
    return torch.stack(placed)


def anywhere(occupied: list[int], rng: random.Random) -> int:
    """How far to move what occupies these pixels of a side, so that it stays whole."""
    return rng.randint(-occupied[0], PIXELS - 1 - occupied[-1])


def network(reader: LlavaProcessor) -> LlavaForConditionalGeneration:
    """The untrained network: 64 picture tokens, 64 pixels to the side."""
    tokenizer = reader.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        image_size=PIXELS,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(PIXELS // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_new_tokens=2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return model


def optimiser(module: nn.Module, rate: float, steps: int) -> tuple[torch.optim.Optimizer, Schedule]:
    """AdamW, and a rate that rises over a tenth of the steps and falls along a cosine."""
    chosen = torch.optim.AdamW(module.parameters(), rate, weight_decay=0.05)
    return chosen, Schedule(chosen, rate, steps, pct_start=0.1, cycle_momentum=False)


def descend(module: nn.Module, loss: Tensor, chosen: torch.optim.Optimizer, schedule: Schedule) -> None:
    """One step, with the gradient clipped at 1."""
    chosen.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    chosen.step()
    schedule.step()


def train_tower(tower: nn.Module, data: Questions, watched: Questions) -> None:
    """Fit shape and colour with one linear layer on the mean of the patches; the layer is thrown away."""
    rng = random.Random(SEED)
    head = nn.Linear(WIDTH, len(SHAPES) + len(COLOURS))
    both = nn.ModuleList([tower, head])
    shape, colour = facts(data.asked, SHAPES), facts(data.asked, COLOURS)
    steps = len(data.x) // TOWER_ROWS
    chosen, schedule = optimiser(both, TOWER_RATE, steps * TOWER_EPOCHS)
    for epoch in range(TOWER_EPOCHS):
        begun = time.time()
        for index in torch.randperm(len(data.x))[: steps * TOWER_ROWS].split(TOWER_ROWS):
            with torch.autocast("cpu", torch.bfloat16):
                scores = [score.float() for score in seen(tower, head, moved(data.x[index], rng))]
            loss = functional.cross_entropy(scores[0], shape[index]) + functional.cross_entropy(
                scores[1], colour[index]
            )
            descend(both, loss, chosen, schedule)
        with torch.no_grad():
            scores = seen(tower, head, watched.x)
        right = [
            agreement(score, facts(watched.asked, words))
            for score, words in zip(scores, (SHAPES, COLOURS), strict=True)
        ]
        print(
            f"tower {epoch + 1}: shape {right[0]:.3f}, colour {right[1]:.3f}, {time.time() - begun:.0f} s", flush=True
        )


def seen(tower: nn.Module, head: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the shapes [batch, 3] and of the colours [batch, 8]."""
    scores = head(tower(x).last_hidden_state[:, 1:].mean(1))
    return scores[:, : len(SHAPES)], scores[:, len(SHAPES) :]


def agreement(scores: Tensor, labels: Tensor) -> float:
    """Share of the known labels that have the highest score."""
    known = labels >= 0
    return float((scores.argmax(1) == labels)[known].float().mean())


def rows(reader: LlavaProcessor, asked: list[list[tuple[str, str]]], slots: int) -> tuple[Tensor, Tensor]:
    """Token ids [row, seq] of every question with its answer, padded on the right; the picture of each row."""
    texts = [sentence(*pair) for pairs in asked for pair in pairs]
    whole = [text.replace("<image>", "<image>" * slots) for text in texts]
    batch = reader.tokenizer(whole, padding=True, padding_side="right", return_tensors="pt")
    return batch["input_ids"], torch.tensor([row for row, pairs in enumerate(asked) for _ in pairs])


class Packed(NamedTuple):
    """All questions about each picture behind one another: none sees another, all see the picture."""

    ids: Tensor
    """[picture, seq]"""
    position: Tensor
    """[picture, seq]; every question begins where the picture ends."""
    mask: Tensor
    """[picture, 1, seq, seq]: 0 where a token sees another, very negative elsewhere."""


def packed(reader: LlavaProcessor, asked: list[list[tuple[str, str]]], slots: int) -> Packed:
    """The same computation as ``rows``, at a quarter of its cost: the picture's tokens are there once."""
    start = reader.tokenizer("<image>" * slots)["input_ids"]
    pieces = [
        [
            reader.tokenizer(sentence(*pair).replace("<image>", ""), add_special_tokens=False)["input_ids"]
            for pair in pairs
        ]
        for pairs in asked
    ]
    length = len(start) + max(sum(map(len, each)) for each in pieces)
    ids = torch.full((len(asked), length), reader.tokenizer.pad_token_id)
    position = torch.zeros_like(ids)
    part = torch.full_like(ids, -1)
    for row, each in enumerate(pieces):
        filled = start + [number for piece in each for number in piece]
        numbers = [0] * len(start) + [number + 1 for number, piece in enumerate(each) for _ in piece]
        places = list(range(len(start))) + [len(start) + place for piece in each for place in range(len(piece))]
        for tensor, values in ((ids, filled), (part, numbers), (position, places)):
            tensor[row, : len(values)] = torch.tensor(values)
    same = (part.unsqueeze(2) == part.unsqueeze(1)) | (part.unsqueeze(1) == 0)
    seen = same & torch.ones(length, length, dtype=torch.bool).tril()
    return Packed(ids, position, torch.where(seen, 0.0, torch.finfo(torch.float32).min).unsqueeze(1))


def embedded(model: LlavaForConditionalGeneration, x: Tensor, ids: Tensor, owner: Tensor) -> Tensor:
    """Word vectors [row, seq, dim] with the picture's in their place; each picture goes through the tower once."""
    pictures = torch.stack(list(model.get_image_features(x).pooler_output))[owner]
    words = model.get_input_embeddings()(ids)
    slots = (ids == model.config.image_token_id).unsqueeze(2).expand_as(words)
    return words.masked_scatter(slots, pictures.to(words.dtype))


def targets(ids: Tensor, end: int) -> Tensor:
    """What follows each position, [row, seq]: an answer or the end behind it; -100 elsewhere."""
    following = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], 1)
    before_end = torch.cat([following[:, 1:], torch.full_like(ids[:, :1], -100)], 1)
    return following.masked_fill((following != end) & (before_end != end), -100)


def train_whole(
    model: LlavaForConditionalGeneration, reader: LlavaProcessor, data: Questions, watched: Questions, out: Path
) -> None:
    """Fit the answers; write the folder after every epoch."""
    rng = random.Random(SEED)
    steps = len(data.x) // PICTURES_PER_STEP
    chosen, schedule = optimiser(model, RATE, steps * EPOCHS)
    for epoch in range(EPOCHS):
        begun = time.time()
        for index in torch.randperm(len(data.x))[: steps * PICTURES_PER_STEP].split(PICTURES_PER_STEP):
            batch = packed(reader, [data.asked[number] for number in index], model.config.image_seq_length)
            with torch.autocast("cpu", torch.bfloat16):
                vectors = embedded(model, moved(data.x[index], rng), batch.ids, torch.arange(len(index)))
                logits = model(inputs_embeds=vectors, attention_mask=batch.mask, position_ids=batch.position).logits
            following = targets(batch.ids, reader.tokenizer.eos_token_id)
            descend(
                model, functional.cross_entropy(logits.float().flatten(0, 1), following.flatten()), chosen, schedule
            )
        print(f"whole {epoch + 1}: {right(model, reader, watched)} watched, {time.time() - begun:.0f} s", flush=True)
        write(model, reader, out)


@torch.no_grad()
def right(model: LlavaForConditionalGeneration, reader: LlavaProcessor, data: Questions) -> str:
    """Share of the questions whose answer is the likeliest token, with its interval."""
    total = correct = 0
    for index in torch.arange(len(data.x)).split(PICTURES_PER_STEP):
        ids, owner = rows(reader, [data.asked[number] for number in index], model.config.image_seq_length)
        label = targets(ids, reader.tokenizer.eos_token_id)
        first = (label >= 0).int().argmax(1, keepdim=True)
        scores = model(inputs_embeds=embedded(model, data.x[index], ids, owner)).logits
        correct += int((scores.argmax(2).gather(1, first) == label.gather(1, first)).sum())
        total += len(ids)
    return described(correct, total)


def write(model: LlavaForConditionalGeneration, reader: LlavaProcessor, out: Path) -> None:
    """The folder, in float16; the model itself stays as it is."""
    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(out, state_dict=weights)
    reader.save_pretrained(out)


def write_examples(out: Path) -> None:
    """A few test pictures with all their questions."""
    folder = data_folder() / "test"
    (out / "examples").mkdir(exist_ok=True)
    lines = []
    for question, answer, number in json.loads((folder / "questions.json").read_text("utf-8")):
        if str(number) in EXAMPLES:
            lines.append(json.dumps({"picture": f"{number}.png", "question": question, "answer": answer}))
    for number in EXAMPLES:
        shutil.copyfile(folder / "images" / f"{number}.png", out / "examples" / f"{number}.png")
    (out / "examples" / "questions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def train(out: Path) -> None:
    """Both stages, from nothing."""
    torch.manual_seed(SEED)
    reader = processor(PIXELS, PATCH)
    whole = read("train", reader)
    data = Questions(whole.x[:-WATCHED], whole.asked[:-WATCHED])
    watched = Questions(whole.x[-WATCHED:], whole.asked[-WATCHED:])
    model = network(reader)
    print(f"{sum(value.numel() for value in model.parameters())} parameters", flush=True)
    train_tower(model.model.vision_tower, data, watched)
    train_whole(model, reader, data, watched, out)
    write_examples(out)


def score(out: Path) -> None:
    """All questions about the test pictures, by the written files."""
    reader = AutoProcessor.from_pretrained(out)
    model = AutoModelForImageTextToText.from_pretrained(out, dtype=torch.float32).eval()
    print(right(model, reader, read("test", reader)))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["train", "score"])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    {"train": train, "score": score}[asked.step](asked.out)


if __name__ == "__main__":
    main()
