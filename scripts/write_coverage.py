"""Write the table of docs/relevance.md of what relevance was tried on, and how it came out. Takes minutes.

The networks are those of tests/families. Times are CPU time of one thread, interleaved, medians.
"""

import argparse
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "relevance.md"
BEGIN, END = "<!-- coverage -->\n", "\n<!-- /coverage -->"
RESULTS = ROOT / "benchmarks" / "results" / "relevance-coverage.json"
FAMILIES = (
    "recurrent", "words", "unet", "craft", "detection", "experts", "vision_language", "keras_files",
)  # fmt: skip
COEFFICIENT = ("attnlrp", "lrp-epsilon", "cp-lrp")
"""Tried in this order; the gap and the price are those of the first that the network can be traced under."""
ROUNDS = 3
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Measure what was asked for, and write the page from everything that was measured so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=FAMILIES, choices=FAMILIES, help="families to measure anew")
    parser.add_argument("--page", action="store_true", help="write the page alone, from what was measured before")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    for family in () if asked.page else asked.only:
        makers = importlib.import_module(f"families.{family}").EXAMPLES
        results[family] = [measured(make()) for make in track(makers, description=family)]
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    page = PAGE.read_text("utf-8")
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + table(results) + page[page.index(END) :], "utf-8")


def measured(example: Any) -> dict[str, Any]:
    """Everything that the table says of one network."""
    import pellucid

    failed = {}
    for name in pellucid.composites():
        try:
            pellucid.trace(example.module, example.inputs, example.target, composite=name, keep=())
        except pellucid.PellucidError as error:
            failed[name] = str(error)
    used = next((name for name in COEFFICIENT if name not in failed), None)
    found: dict[str, Any] = {name: getattr(example, name) for name in ("family", "model", "weights", "note")}
    found |= {"failed": failed, "composite": used, "composites": len(pellucid.composites())}
    if used is None:
        return found
    account = pellucid.trace(example.module, example.inputs, example.target, composite=used).account()
    leaked = sum(abs(line.leaked) for line in account)
    found["gap"] = leaked / max(abs(account.seeded), abs(account.arrived), 1e-12)
    found["difference"] = difference(example, used)
    with contextlib.suppress(LookupError):
        found["price"] = price(example, used)
    return found


def difference(example: Any, composite: str) -> float:
    """The largest difference of the traced output from the plain one, over the largest output."""
    import pellucid
    from pellucid.relevance import Tracer
    from pellucid.relevance.leaves import Leaves
    from pellucid.relevance.start import output_of

    with torch.no_grad():
        plain = output_of(Leaves(example.inputs).call(example.module))
    with torch.enable_grad(), Tracer(example.module, pellucid.composite(composite)):
        traced = output_of(Leaves(example.inputs).call(example.module)).detach()
    return float((plain - traced).abs().max() / plain.abs().max())


def price(example: Any, composite: str) -> float:
    """CPU time of a trace over that of a plain forward and backward pass to the same places."""
    import pellucid

    works: dict[str, Callable[[], Any]] = {
        "trace": lambda: pellucid.trace(example.module, example.inputs, example.target, composite=composite, keep=()),
        "gradient": lambda: gradient(example),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS + 1):
        for name, work in works.items():
            before = time.process_time()
            work()
            times[name].append(time.process_time() - before)
    # The first round warms up.
    return median(a / b for a, b in zip(times["trace"][1:], times["gradient"][1:], strict=True))


def gradient(example: Any) -> None:
    """The plain gradient of the same target. Raises LookupError where only a trace finds what integers look up."""
    from pellucid.relevance.leaves import Leaves
    from pellucid.relevance.start import output_of, scores

    leaves = Leaves(example.inputs)
    held = [each for each in example.module.parameters() if each.requires_grad]
    with torch.enable_grad(), without_gradients(held), looked_up(example.module) as found:
        output = output_of(leaves.call(example.module))
        total = scores(example.target, output[None] if leaves.unbatched else output).sum()
        if not leaves.tensors and not found:
            raise LookupError("no module looks up what the integers stand for")
        torch.autograd.grad(total, [*leaves.tensors, *found], allow_unused=True)


@contextmanager
def without_gradients(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, the gradients of parameters are not computed, which a trace does not compute either."""
    for each in parameters:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in parameters:
            each.requires_grad_(True)


@contextmanager
def looked_up(module: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, what embeddings look up are leaves, which are listed."""
    found: list[Tensor] = []

    def hook(part: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.requires_grad:
            return output
        found.append(output.detach().requires_grad_())
        return found[-1].clone()

    hooks = [part.register_forward_hook(hook) for part in module.modules() if isinstance(part, nn.Embedding)]
    try:
        yield found
    finally:
        for each in hooks:
            each.remove()


def table(results: dict[str, Any]) -> str:
    """Everything that was measured, and below it why a composite was refused."""
    heads = ("family", "network", "weights", "forward", "composites", "gap", "price")
    lines, notes = [f"| {' | '.join(heads)} |", "|---|---|---|--:|--:|--:|--:|"], []
    for one in (each for family in FAMILIES for each in results.get(family, ())):
        mark = ""
        if one["failed"]:
            notes.append(refusals(one))
            mark = f" [{len(notes)}]"
        done = f"{one['composites'] - len(one['failed'])} of {one['composites']}{mark}"
        difference, gap = (f"{one[key]:.0e}" if key in one else "-" for key in ("difference", "gap"))
        price = f"{one['price']:.2f}" if "price" in one else "-"
        network = one["model"] + (f" ({one['note']})" if one["note"] else "")
        cells = (one["family"], network, one["weights"], difference, done, gap, price)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]).rstrip()


def refusals(one: dict[str, Any]) -> str:
    """What a network cannot be traced under, by the sentence that says so."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in one["failed"].items():
        by_reason.setdefault(reason.replace(f"'{name}'", "this composite").replace(name, "it"), []).append(f"`{name}`")
    return " ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


if __name__ == "__main__":
    main()
