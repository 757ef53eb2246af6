"""One removal curve over 64 features, beside the bare batched forward passes that it cannot do without.

python benchmarks/bench_metrics.py           # writes results/metrics.json
python benchmarks/bench_metrics.py --quick   # a smoke run, which writes nothing
"""

import argparse
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "metrics.json"
# A thread that waits by spinning would be counted as CPU time.
THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
PIXELS, SIDE = 32, 4
FEATURES = (PIXELS // SIDE) ** 2


def network(widths):
    """A small convolutional network on grey pictures, with fresh weights."""
    import torch

    from pellucid.models.networks import SmallCnn

    torch.manual_seed(0)
    return SmallCnn(channels=1, classes=10, widths=widths).eval()


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


def measured(widths, rounds):
    """Ratios of the metric's time to the floor's, and how far the two values are apart."""
    import numpy as np
    import torch
    from measure import interleaved, ratio

    import pellucid
    from pellucid.models import ImageClassifier
    from pellucid.models.image_classifier import Preprocessing

    module = network(widths)
    labels = [f"class {number}" for number in range(10)]
    model = ImageClassifier(module, labels, Preprocessing((PIXELS, PIXELS), (0.3,), (0.35,)), name="small cnn")
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (PIXELS, PIXELS), dtype=np.uint8)
    values = generator.normal(size=FEATURES)
    inputs = model.divided(model.encode(picture), f"patch:{SIDE}")
    label = model.labels.index(model.predicted(inputs))
    options = {"features": f"patch:{SIDE}", "imputer": "mean", "steps": FEATURES}
    target = pellucid.Margin(labels[label])
    works = {
        "bare": lambda: bare(module, inputs.row, inputs.regions, torch.from_numpy(values), label),
        "morf": lambda: float(pellucid.metrics.morf(model, picture, values, target=target, **options)[0]),
        "morf, class to be found": lambda: float(pellucid.metrics.morf(model, picture, values, **options)[0]),
        "srg": lambda: float(pellucid.metrics.srg(model, picture, values, target=target, **options)[0]),
    }
    interleaved(works, 3)
    times, results = interleaved(works, rounds)
    found = {name: {"ratio": ratio(times[name], times["bare"]), "cpu": times[name]["cpu"]["median"]} for name in works}
    return {
        "widths": widths,
        "parameters": sum(each.numel() for each in module.parameters()),
        "difference": abs(results["morf"] - results["bare"]),
        "value": results["bare"],
        "works": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds; nothing is written")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 40
    found = [measured(widths, rounds) for widths in ([8, 16], [16, 32, 64], [32, 64, 128])]
    for each in found:
        print(f"\nsmall CNN {each['widths']}, {each['parameters']} parameters; values differ by {each['difference']:.1e}")
        for name, work in each["works"].items():
            spread = work["ratio"]
            print(f"  {name:24} {1e3 * work['cpu']:8.2f} ms CPU   {spread['median']:.2f} x", end="")
            print(f"  ({spread['min']:.2f} to {spread['max']:.2f})")
    if not quick:
        for each in found:
            for work in each["works"].values():
                del work["ratio"]["values"]
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
