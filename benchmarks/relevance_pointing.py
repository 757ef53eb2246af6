"""Does a vision-language model's explanation lie on what the question is about? Pointing game and relevance mass.

python benchmarks/relevance_pointing.py                 # writes results/relevance_pointing.json and its page
python benchmarks/relevance_pointing.py --count 5       # few pictures; nothing is written
python benchmarks/relevance_pointing.py --cost          # times of the composites on a larger LLaVA, added to the page

Needs the package easy-vqa, whose pictures show one flat-coloured shape on a pale ground: the shape is where a pixel's
colour differs from the ground's.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from relevance_measure import THREADS, shuffled

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "relevance_pointing.json"
PAGE = HERE.parent / "docs" / "benchmarks-relevance-pointing.md"
BESIDE: dict[str, dict[str, Any]] = {
    "gradient": {},
    "input_x_gradient": {"baseline": "mean"},
    "integrated_gradients, mean colour": {"steps": 16},
    "integrated_gradients, blur": {"steps": 16, "baseline": "blur"},
    "smoothgrad": {"samples": 10},
    "occlusion, mean colour": {},
    "occlusion, blur": {"baseline": "blur"},
}
"""Methods that are no composites of rules, by the name up to the comma, with their settings."""
RANDOM = "random"
COUNT, WRITTEN_FROM = 120, 100
"""Pictures that are asked about, and the fewest that are written down."""
DIFFERENT = 60
"""Sum over the channels of the difference to the ground's colour, in shades, from which a pixel is of the shape."""
COVERED = 0.5
"""Share of a patch that the shape covers, from which the patch lies on it."""
BATCHES = (1, 4)
"""Pictures with a question each that go through the network together where it is timed."""
TIMED = ["input-x-gradient", "attnlrp", "cp-lrp", "lrp-epsilon", "reslrp", "decompx", "lrp-gamma", "backtrace"]


def shape(picture: Any) -> Any:
    """Which pixels [height, width] of a picture are of its shape."""
    import numpy as np

    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    colours, counts = np.unique(edge, axis=0, return_counts=True)
    ground = colours[counts.argmax()].astype(int)
    return np.abs(picture.astype(int) - ground).sum(2) > DIFFERENT


def marked(explanation: Any, patches: int) -> Any:
    """Which patches lie on the shape; the largest where none is covered enough."""
    import numpy as np

    inside = shape(explanation.picture)
    covered = np.array([inside[explanation.regions == region].mean() for region in range(patches)])
    return covered >= min(COVERED, covered.max())


def questions(model: Any, folder: Path, count: int, seed: int = 0) -> tuple[list[dict[str, Any]], int]:
    """One question about each of ``count`` test pictures that the model answers rightly, and how many were tried."""
    drawn = json.loads((folder / "questions.json").read_text("utf-8"))
    random.Random(seed).shuffle(drawn)
    kept: dict[int, dict[str, Any]] = {}
    tried: set[int] = set()
    for question, answer, number in drawn:
        if number in tried:
            continue
        tried.add(number)
        raw = {"image": folder / "images" / f"{number}.png", "text": question}
        if model.predicted(model.encode(raw)) == answer:
            kept[number] = {"raw": raw, "answer": answer}
        if len(kept) == count:
            break
    return list(kept.values()), len(tried)


def measured(model: Any, asked: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Pointing game and relevance mass of every method on the picture's patches, and what chance gives."""
    import numpy as np

    import pellucid
    from pellucid.metrics.functional import plausibility

    found: dict[str, dict[str, list[float]]] = {}
    generator = np.random.default_rng(0)
    for number, each in enumerate(asked):
        explained: dict[str, Any] = {}
        for name in names:
            shared = {"target": pellucid.Margin(each["answer"]), "features": "patch:8+word", "checks": "none"}
            method = name.partition(",")[0]
            explained[name] = pellucid.explain(model, each["raw"], method=method, **shared, **BESIDE.get(name, {}))
        patches = sum(feature.kind == "patch" for feature in explained[names[0]].features)
        mask = marked(explained[names[0]], patches)
        scores = {name: one.values[0, :patches].astype(np.float64) for name, one in explained.items()}
        scores[RANDOM] = generator.normal(size=patches)
        for name, values in scores.items():
            lists = found.setdefault(name, {"hit": [], "mass": [], "chance": []})
            mass = plausibility.relevance_mass(values, mask) if (values > 0).any() else plausibility.prevalence(mask)
            lists["hit"].append(plausibility.pointing_game(values, mask))
            lists["mass"].append(mass)
            lists["chance"].append(plausibility.prevalence(mask))
        sys.stderr.write(f"\r{number + 1} of {len(asked)}")
    return found


def summed_up(found: dict[str, Any]) -> dict[str, Any]:
    """Means with bootstrap intervals over pictures."""
    import numpy as np

    from pellucid.metrics.statistics import bootstrap

    rows = {}
    for name, lists in found.items():
        hit, mass, chance = (np.array(lists[key]) for key in ("hit", "mass", "chance"))
        gain = bootstrap(mass - chance)
        rows[name] = {
            "hit": bootstrap(hit)._asdict(),
            "mass": bootstrap(mass)._asdict(),
            "gain": gain._asdict(),
            "chance": float(chance.mean()),
        }
    return rows


def pointing(count: int, source: str, names: list[str] | None) -> dict[str, Any]:
    """The whole measurement, or that of some methods."""
    import pellucid
    from pellucid.methods.relevance import relevance_methods

    model = pellucid.load(source)
    spec = find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps easy-vqa==1.0 first: the pictures are read from that package.")
    asked, tried = questions(model, Path(spec.submodule_search_locations[0]) / "data" / "test", count)
    rows = summed_up(measured(model, asked, names or [*relevance_methods(), *BESIDE]))
    return {"model": source, "pictures": len(asked), "tried": tried, "rows": rows}


def subject(batch: int) -> dict[str, Callable[[], Any]]:
    """Works on pictures with a question each, of a LLaVA of some size with random weights."""
    import torch
    import transformers as hf

    import pellucid

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6}
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**sizes, image_size=224, patch_size=16),
        text_config=hf.LlamaConfig(**sizes, vocab_size=4096, max_position_embeddings=512),
        image_token_index=4095,
        vision_feature_layer=-2,
    )
    module = hf.LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    ids = torch.cat([torch.full((batch, 196), 4095), torch.randint(4000, (batch, 32))], 1)
    inputs = {"pixel_values": torch.randn(batch, 3, 224, 224), "input_ids": ids}
    short = {"logits_to_keep": 1, "use_cache": False}

    def forward() -> Any:
        with torch.no_grad():
            return module(**inputs, **short).logits

    def gradient() -> Any:
        leaves = [inputs["pixel_values"].clone(), module.get_input_embeddings()(ids)]
        pixels, embeddings = (each.requires_grad_() for each in leaves)
        logits = module(pixel_values=pixels, inputs_embeds=embeddings, **short).logits
        return torch.autograd.grad(logits[:, -1, 1].sum(), [pixels, embeddings])

    works: dict[str, Callable[[], Any]] = {"forward": forward, "plain gradient": gradient}
    for name in TIMED:
        works[name] = lambda name=name: (
            pellucid.trace(module, inputs | short, target=pellucid.Logit(1), composite=name).input
        )
    return works


def cost(rounds: int) -> dict[str, Any]:
    """CPU time of each composite over that of a plain gradient, round by round, for one picture and for several."""
    import torch

    from measure import ratio

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for batch in BATCHES:
        times = shuffled(subject(batch), rounds)
        plain = times["plain gradient"]
        for name, each in times.items():
            found.setdefault(name, {})[str(batch)] = {"seconds": each["cpu"], "gradients": ratio(each, plain)}
    return {"rounds": rounds, "works": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT, help="pictures")
    parser.add_argument("--model", default="llava-easy-vqa", help="the trained LLaVA")
    parser.add_argument("--methods", nargs="+", help="some methods; what is written of the others stays")
    parser.add_argument("--cost", action="store_true", help="measure times instead")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the times")
    chosen = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    part = {"cost": cost(chosen.rounds)} if chosen.cost else pointing(chosen.count, chosen.model, chosen.methods)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = known | part
    if chosen.methods and "rows" in part:
        found["rows"] = known.get("rows", {}) | part["rows"]
    sys.stdout.write(json.dumps(part, indent=1) + "\n")
    if chosen.cost or part["pictures"] >= WRITTEN_FROM:
        from relevance_pointing_page import page

        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
