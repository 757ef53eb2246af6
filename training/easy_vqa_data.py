"""easy-VQA as it is installed, its words as tokens, and how a question is put to the tiny LLaVA."""

import collections
import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
WORDS = (
    *("?", "a", "black", "blue", "brown", "circle", "color", "contain", "does", "gray", "green", "image", "in", "is"),
    *("no", "not", "of", "present", "rectangle", "red", "shape", "teal", "the", "there", "triangle", "what", "yellow"),
    "yes",
)
"""Every word of the questions and the answers."""
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %} {{ message['content'][0]['text'] }} </s>"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


def sentence(question: str, answer: str) -> str:
    """What is learnt: the picture, the question, the answer, the end."""
    return f"<image> {question} {answer} </s>"


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, lower case, the question mark a word of its own; a text begins with ``<s>``."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
    )


def processor(pixels: int, patch: int) -> LlavaProcessor:
    """Pictures of any size to ``pixels`` squared and from -1 to 1; one ``<image>`` becomes a token for each patch."""
    pictures = CLIPImageProcessor(
        size={"height": pixels, "width": pixels},
        do_center_crop=False,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer(),
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT,
    )


class Questions(NamedTuple):
    """A split of easy-VQA."""

    x: Tensor
    """[picture, 3, 64, 64], as the processor gives it."""
    asked: list[list[tuple[str, str]]]
    """Questions and answers of each picture."""


def data_folder() -> Path:
    """Where the package keeps pictures and questions."""
    found = importlib.util.find_spec("easy_vqa")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("pip install --no-deps easy-vqa==1.0 first: the pictures are read from that package.")
    return Path(found.submodule_search_locations[0]) / "data"


def picture(folder: Path, number: int) -> Image.Image:
    """One picture of a split's folder."""
    return Image.open(folder / "images" / f"{number}.png").convert("RGB")


def read(split: str, reader: LlavaProcessor) -> Questions:
    """A split, ``train`` or ``test``, with pictures in the order of their numbers."""
    folder = data_folder() / split
    asked: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for question, answer, number in json.loads((folder / "questions.json").read_text("utf-8")):
        asked[number].append((question, answer))
    numbers = sorted(asked)
    pictures = [picture(folder, number) for number in numbers]
    return Questions(reader.image_processor(pictures, return_tensors="pt").pixel_values, [asked[n] for n in numbers])


def facts(asked: list[list[tuple[str, str]]], words: tuple[str, ...]) -> Tensor:
    """Which of ``words`` the answers say of each picture, [picture]; -100 where none of them does."""
    found = torch.full((len(asked),), -100)
    for row, pairs in enumerate(asked):
        for question, answer in pairs:
            told = set(words) & {answer}
            if answer in ("yes", "no") and (answer == "yes") != (" no" in question):
                told = set(words) & set(question.rstrip("?").split())
            if told:
                found[row] = words.index(told.pop())
    return found
