"""One removal curve over 64 features, beside the bare batched forward passes that it cannot do without, and Quantus.

python benchmarks/bench_metrics.py           # writes results/metrics.json and docs/benchmarks-metrics.md
python benchmarks/bench_metrics.py --quick   # a smoke run, which writes nothing

Quantus 0.6.0 is measured where it can be imported (pip install quantus==0.6.0 opencv-python-headless).
"""

import argparse
import json
import os
import platform
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "metrics.json"
PAGE = HERE.parent / "docs" / "benchmarks-metrics.md"
# A thread that waits by spinning would be counted as CPU time.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
FEATURES = 64


class Size(NamedTuple):
    """A picture of 64 patches and a network for it."""

    pixels: int
    side: int
    widths: list[int]


SIZES = [Size(8, 1, [64, 128]), Size(32, 4, [8, 16]), Size(32, 4, [16, 32, 64]), Size(32, 4, [32, 64, 128])]


def bare(module, row, owner, values, label):
    """The floor: rank once, build all masked inputs in one tensor, one forward pass, one area."""
    import torch

    places = torch.empty(FEATURES, dtype=torch.long)
    places[torch.argsort(-values)] = torch.arange(FEATURES)
    present = places[owner] >= torch.arange(FEATURES + 1)[:, None, None]
    with torch.no_grad():
        logits = module(torch.where(present[:, None], row, 0.0))
    rest = logits.clone()
    rest[:, label] = -torch.inf
    curve = (logits[:, label] - rest.logsumexp(1)).double()
    return float(torch.trapezoid(curve, torch.linspace(0, 1, FEATURES + 1, dtype=torch.float64)))


def peer(module, row, values, label):
    """Pixel flipping of Quantus on the same picture: a forward pass for each of 64 pixels."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        metric = quantus.PixelFlipping(perturb_baseline="mean", normalise=False, disable_warnings=True)
    given = row[None].numpy(), np.array([label]), values.reshape(row[None].shape)

    def work():
        return metric(module, *given, channel_first=True, softmax=False)

    return work


def measured(size, rounds):
    """Ratios of the metric's time to the floor's, and how far the two values are apart."""
    import numpy as np
    import torch

    import pellucid
    from measure import interleaved, ratio
    from pellucid.models.networks import SmallCnn
    from pellucid.models.pictures import Preprocessing

    torch.manual_seed(0)
    module = SmallCnn(channels=1, classes=10, widths=size.widths).eval()
    labels = [f"class {number}" for number in range(10)]
    shape = (size.pixels, size.pixels)
    model = pellucid.ImageClassifier(module, labels, Preprocessing(shape, (0.3,), (0.35,)), name="small cnn")
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, shape, dtype=np.uint8)
    values = generator.normal(size=FEATURES)
    inputs = model.divided(model.encode(picture), f"patch:{size.side}")
    label = model.labels.index(model.predicted(inputs))
    options = {"features": f"patch:{size.side}", "imputer": "mean", "steps": FEATURES}
    target = pellucid.Margin(labels[label])
    works = {
        "bare": lambda: bare(module, inputs.row, inputs.regions, torch.from_numpy(values), label),
        "morf": lambda: float(pellucid.metrics.morf(model, picture, values, target=target, **options)[0]),
        "morf, class to be found": lambda: float(pellucid.metrics.morf(model, picture, values, **options)[0]),
        "srg (two curves)": lambda: float(pellucid.metrics.srg(model, picture, values, target=target, **options)[0]),
    }
    if size.side == 1 and find_spec("quantus"):
        works["Quantus PixelFlipping"] = peer(module, inputs.row, values, label)
    interleaved(works, 5)
    times, results = interleaved(works, rounds)
    found = {name: {"ratio": ratio(times[name], times["bare"]), "cpu": times[name]["cpu"]["median"]} for name in works}
    for work in found.values():
        del work["ratio"]["values"]
    return {
        "size": size._asdict(),
        "parameters": sum(each.numel() for each in module.parameters()),
        "difference": abs(results["morf"] - results["bare"]),
        "works": found,
    }


def page(found):
    """The results as a table."""
    lines = [
        "# What a removal metric costs",
        "",
        "Written by `python benchmarks/bench_metrics.py` from `benchmarks/results/metrics.json`; edit neither.",
        "",
        "One removal curve over 64 features of one picture, all 64 steps (65 rows), as a user calls it: encoding,",
        "features, game, score and fingerprint included. *Bare* ranks once, builds all masked inputs in one tensor and",
        f"makes one forward pass. CPU time of one thread, {found['cpu']}, {found['rounds']} rounds in turn; ratios",
        "are medians with least and most. The aim is 1.3 times for one curve (morf). What a call costs beside the",
        "network is one to three milliseconds, which a network of four milliseconds feels and one of fifteen does not.",
        f"Largest difference of the two values: {max(each['difference'] for each in found['sizes'])}.",
        "",
        "| picture | network | work | CPU ms | times bare |",
        "|---|---|---|--:|--:|",
    ]
    for each in found["sizes"]:
        size = Size(**each["size"])
        for name, work in each["works"].items():
            low, middle, high = (work["ratio"][name] for name in ("min", "median", "max"))
            network = f"CNN {'-'.join(map(str, size.widths))}, {each['parameters']:,} parameters"
            cells = [f"{size.pixels} x {size.pixels}", network, name, f"{1e3 * work['cpu']:.2f}"]
            lines.append(f"| {' | '.join(cells)} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds; nothing is written")
    quick = parser.parse_args().quick
    rounds = 5 if quick else 60
    found = {"rounds": rounds, "cpu": cpu(), "sizes": [measured(size, rounds) for size in SIZES]}
    print(page(found))
    if not quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        PAGE.write_text(page(found), "utf-8")


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
