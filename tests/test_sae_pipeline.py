"""The whole way from pictures and questions to steering and release, by the commands alone."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pellucid.cli import app

LLAVA = "model.language_model.layers.0"


def run(*words):
    """What a command prints with --json, as a document. Fails where it ends with an error."""
    ran = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def questions(folder: Path, count: int) -> Path:
    """Questions about pictures of easy-VQA, as a JSON-lines file."""
    spec = find_spec("easy_vqa")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data" / "train"
    rows = json.loads((data / "questions.json").read_text("utf-8"))[: count * 8 : 8]
    path = folder / "questions.jsonl"
    images = [data / "images" / f"{image}.png" for _, _, image in rows]
    lines = [
        json.dumps({"image": str(image), "text": question, "answer": answer})
        for (question, answer, _), image in zip(rows, images, strict=True)
    ]
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.mark.slow
def test_a_vision_language_model_from_pictures_to_release(tmp_path):
    corpus = questions(tmp_path, 60)
    image = json.loads(corpus.read_text("utf-8").splitlines()[0])["image"]
    store, events, out = tmp_path / "store", tmp_path / "events", tmp_path / "sae"
    common = ("--model", "llava-easy-vqa")

    found = run(
        "sae", "harvest", *common, "--site", LLAVA, "--data", corpus, "--selector", "text+image", "--out", store
    )
    assert found["tokens"] > 4000
    trained = run(
        "sae", "train", store, "--width", 256, "--k", 8, "--epochs", 8, "--batch", 512, "--lr", 3e-3, "--out", out
    )
    (one,) = trained["runs"]
    assert one["figures"]["held_out_fvu"] < 0.2
    model = out / one["name"]

    judged = run("sae", "evaluate", model, "--store", store, *common, "--loss-samples", 6, "--events", events)
    assert judged["all"]["fvu"] < 0.2
    # By patches and by words the dictionary is judged apart, and both add up to all.
    assert set(judged["modalities"]) == {"image", "text"}
    assert sum(each["tokens"] for each in judged["modalities"].values()) == judged["all"]["tokens"] == found["tokens"]
    assert judged["loss"]["kl_spliced"] < judged["loss"]["kl_zero"]

    said = run(
        "sae", "interpret", model, "--store", store, "--events", events, "--llm", "oracle", "--sample", 4,
        "--examples", 6, "--shown", 4, "--scorers", "detection", "--out", tmp_path / "said",
    )  # fmt: skip
    assert said["scored"] >= 1
    assert said["rows"][0]["accuracy"]["mean"]["value"] == 1

    pages = tmp_path / "pages"
    drawn = run(
        "sae", "dashboard", model, "--store", store, "--events", events, "--interpretations", tmp_path / "said",
        "--latents", "explained", "--out", pages,
    )  # fmt: skip
    assert (pages / "index.html").is_file()
    page = next(each for each in sorted(pages.rglob("*.html")) if each.name != "index.html").read_text("utf-8")
    assert "data:image/png" in page
    assert "http://" not in page.partition("</head>")[0]
    assert drawn

    explained = run(
        "explain", *common, "--image", image, "--text", "what color is the shape?", "--method", "attnlrp",
        "--features", "latents", "--sae", model, "--checks", "full",
    )  # fmt: skip
    checks = {each["name"]: each["passed"] for each in explained["checks"]["items"]}
    assert checks["completeness"] is True
    assert checks["deletion"] is True

    shown = CliRunner().invoke(
        app,
        ["sae", "steer", str(model), "--latent", "1", "--image", image, "--prompt", "what color is the shape?",
         "--scale", "norm", "--strengths=-1,1", "--max-new-tokens", "2", "--show"],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output

    release = tmp_path / "release"
    run("sae", "release", model, "--interpretations", tmp_path / "said", "--format", "dictionary-learning",
        "--license", "mit", "--out", release)  # fmt: skip
    run("sae", "release", release, "--verify")
    assert {each.name for each in release.iterdir()} >= {"ae.pt", "config.json", "README.md", "SHA256SUMS"}
