"""What tracing a recurrent network costs, against the plain gradient of the same network unrolled.

Prints a row for each network and composite: CPU time over that of the gradient through plain operations, step by step,
the median of interleaved rounds with the least and the most.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/relevance_recurrent.py
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import pellucid
from measure import interleaved, ratio
from pellucid.relevance.recurrence import recurrent
from relevance_measure import THREADS

COMPOSITES = ("attnlrp", "lrp-0", "input-x-gradient", "lrp-gamma", "backtrace")


class Size(NamedTuple):
    """A network and its input."""

    kind: str
    batch: int
    time: int
    feature: int
    hidden: int


SIZES = [
    Size(kind, *each) for kind in ("LSTM", "GRU") for each in ((1, 40, 64, 64), (1, 60, 256, 256), (64, 40, 300, 256))
]
SIZES += [Size("LSTM", 1, 400, 64, 64)]


class Classifier(nn.Module):
    """Three logits of what the network says last; ``unrolled`` by plain operations, else by torch's fused one."""

    def __init__(self, size: Size, *, unrolled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = getattr(nn, size.kind)(size.feature, size.hidden, batch_first=True)
        self.head = nn.Linear(size.hidden, 3)
        self.unrolled = unrolled
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        output = self._step_by_step(x) if self.unrolled else self.rnn(x)[0]
        logits: Tensor = self.head(output[:, -1])
        return logits

    def _step_by_step(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(1, len(x), self.rnn.hidden_size)
        initial = (zeros, zeros) if self.rnn.mode == "LSTM" else zeros
        run = recurrent()[self.rnn.mode.lower()]
        output: Tensor = run(x, initial, self.rnn._flat_weights, True, 1, 0.0, False, False, True)[0]
        return output


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x)[:, 1].sum(), x)[0]


def works(size: Size) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; ``unrolled`` is what the others are divided by."""
    x = torch.randn(size.batch, size.time, size.feature, generator=torch.Generator().manual_seed(1))
    fused = Classifier(size, unrolled=False)
    trace = partial(pellucid.trace, fused, x, pellucid.Logit(1), keep=())
    plain = {"unrolled": partial(gradient, Classifier(size, unrolled=True), x), "fused": partial(gradient, fused, x)}
    return plain | {name: partial(trace, composite=name) for name in COMPOSITES}


def rows(rounds: int) -> list[dict[str, Any]]:
    """One row for each network and work."""
    found = []
    for size in SIZES:
        all_works = works(size)
        for work in all_works.values():
            work()
        times, _ = interleaved(all_works, rounds)
        base = times["unrolled"]
        for name, each in times.items():
            found.append(
                {**size._asdict(), "work": name, "cpu_ms": 1000 * each["cpu"]["median"], "ratio": ratio(each, base)}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    if any(os.environ.get(name) != THREADS[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")):
        raise SystemExit("run with OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive: a waiting thread counts as CPU time.")
    print(f"{'network':6} {'batch':>5} {'time':>4} {'in':>4} {'hidden':>6}  {'work':18} {'ms':>7}  ratio")
    for row in rows(rounds):
        times = row["ratio"]
        print(
            f"{row['kind']:6} {row['batch']:5} {row['time']:4} {row['feature']:4} {row['hidden']:6}  {row['work']:18} "
            f"{row['cpu_ms']:7.1f}  {times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f})"
        )


if __name__ == "__main__":
    main()
