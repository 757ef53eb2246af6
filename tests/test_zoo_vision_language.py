"""The vision-language model that comes with pellucid, as transformers reads it: its files, its words, its answers."""

import json
from functools import cache
from pathlib import Path

import torch
import transformers as hf
import yaml
from PIL import Image
from safetensors.torch import load_file

import pellucid

FOLDER = Path(pellucid.__file__).parent / "models" / "zoo" / "llava-easy-vqa"
EXAMPLES = [json.loads(line) for line in (FOLDER / "examples" / "questions.jsonl").read_text("utf-8").splitlines()]
PICTURES = sorted({example["picture"] for example in EXAMPLES})


@cache
def llava():
    reader = hf.AutoProcessor.from_pretrained(FOLDER)
    return hf.AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval(), reader


def picture(name):
    return Image.open(FOLDER / "examples" / name)


def answers(images, questions):
    module, reader = llava()
    inputs = reader(images=images, text=[f"<image> {each}" for each in questions], padding=True, return_tensors="pt")
    said = module.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
    return reader.batch_decode(said)


def test_a_folder_takes_at_most_two_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 2_000_000
    tensors = load_file(FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_the_card_tells_what_a_user_must_know():
    _, header, text = (FOLDER / "README.md").read_text("utf-8").split("---\n", 2)
    assert {"license", "language", "pipeline_tag", "tags"} <= yaml.safe_load(header).keys()
    for fact in ("95 % interval", "n = 9,673", "must not be used", "seed 2026", "MIT licence", "easy-vqa==1.0"):
        assert fact in text
    numbers = sum(parameter.numel() for parameter in llava()[0].parameters())
    assert f"{numbers:,} parameters" in text.replace("\n", " ")


def test_the_questions_about_test_pictures_are_answered():
    said = answers([picture(each["picture"]) for each in EXAMPLES], [each["question"] for each in EXAMPLES])
    right = sum(f"{each['answer']} </s>" == text for each, text in zip(EXAMPLES, said, strict=True))
    assert right / len(EXAMPLES) > 0.9


def test_the_answer_follows_the_picture():
    questions = ["what color is the shape?"] * len(PICTURES)
    said = answers([picture(name) for name in PICTURES], questions)
    known = {example["picture"]: example["answer"] for example in EXAMPLES if "color" in example["question"]}
    assert len(known) > 1
    assert all(said[PICTURES.index(name)] == f"{colour} </s>" for name, colour in known.items())
    assert said != answers([picture(PICTURES[0])] * len(PICTURES), questions)


def test_a_picture_is_64_tokens_and_the_question_a_token_a_word():
    module, reader = llava()
    inputs = reader(images=picture(PICTURES[0]), text="<image> Is there a RED shape?", return_tensors="pt")
    tokens = reader.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert tokens == ["<s>", *["<image>"] * 64, "is", "there", "a", "red", "shape", "?"]
    assert module.get_image_features(inputs["pixel_values"]).pooler_output[0].shape == (64, 96)


def test_a_picture_of_another_size_is_scaled_and_not_cut():
    _, reader = llava()
    given = picture(PICTURES[0])
    large = given.resize((256, 256), Image.Resampling.NEAREST)
    pixels, scaled = (reader.image_processor(each, return_tensors="pt").pixel_values for each in (given, large))
    assert pixels.shape == scaled.shape == (1, 3, 64, 64)
    assert (pixels - scaled).abs().mean() < 0.05
    assert scaled.min() >= -1
    assert scaled.max() <= 1


def test_the_chat_template_writes_the_line_that_was_learnt():
    _, reader = llava()
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what shape is present?"}]}
    reply = {"role": "assistant", "content": [{"type": "text", "text": "circle"}]}
    asked = reader.apply_chat_template([turn], add_generation_prompt=True)
    assert asked == "<image> what shape is present?"
    assert reader.apply_chat_template([turn, reply]) == "<image> what shape is present? circle </s>"
