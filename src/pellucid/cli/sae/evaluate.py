"""``pellucid sae evaluate``: judge an autoencoder on activations, in the model, and by probes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli import options, output

if TYPE_CHECKING:
    from rich.table import Table

    from pellucid.sae.evaluation import Evaluation, Interval, Loss, Probing, Quality

_ALSO = "What is measured besides"
QUALITY = {
    "tokens": "tokens",
    "fvu": "variance unexplained (FVU)",
    "worst_share": "error of one token",
    "mse": "mean squared error",
    "l0": "active latents (L0)",
    "cosine": "cosine",
    "norm_ratio": "norm ratio",
    "relative_bias": "relative bias",
    "dead_share": "dead share",
}
"""What a table shows of reconstructions, and what it is called."""
WAYS = {"spliced": "spliced", "mean": "mean-ablated", "zero": "zero-ablated"}
"""What stands in place of the activations, and what it is called."""
BARS = " ▁▂▃▄▅▆▇█"

Autoencoder = Annotated[Path, typer.Argument(metavar="SAE", help="The autoencoder's folder, in any layout.")]
StoreFolder = Annotated[
    Path, typer.Option("--store", metavar="DIR", help="Activations; for an honest judgement none it was trained on.")
]
SiteName = Annotated[
    str | None,
    typer.Option("--site", metavar="MODULE", help="Which of the store's.", show_default="the autoencoder's"),
]
Tokens = Annotated[int | None, typer.Option(min=1, help="Rows of the store, at random.", show_default="all")]
Batch = Annotated[int, typer.Option(min=1, help="Rows at a time.")]
Texts = Annotated[
    str | None,
    typer.Option(
        "--texts",
        metavar="DATA",
        help="What the model reads for its loss, such as held-out texts; as --data of harvest takes it.",
        show_default="samples of the store",
        rich_help_panel=_ALSO,
    ),
]
LossModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The store's model: also measure what its predictions lose.",
        autocompletion=lambda incomplete: [name for name in options.MODELS if name.startswith(incomplete)],
        rich_help_panel=_ALSO,
    ),
]
LossSamples = Annotated[int, typer.Option(min=1, help="Samples that it reads for that.", rich_help_panel=_ALSO)]
ProbeFile = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        metavar="FILE",
        help='Lines of {"text": ..., "label": ...}: also probe with 1, 2 and 5 latents. Needs --model.',
        rich_help_panel=_ALSO,
    ),
]
EventsFolder = Annotated[
    Path | None,
    typer.Option(
        "--events",
        metavar="DIR",
        help="Also write every activation, sorted by latent, for interpret and dashboard.",
        rich_help_panel=_ALSO,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Also write the JSON document there; a stopped run goes on."),
]


def evaluate(
    autoencoder: Autoencoder,
    store: StoreFolder,
    site: SiteName = None,
    tokens: Tokens = None,
    model: LossModel = None,
    texts: Texts = None,
    loss_samples: LossSamples = 64,
    probe: ProbeFile = None,
    events: EventsFolder = None,
    batch: Batch = 4096,
    dtype: options.Dtype = "float32",
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    out: Out = None,
    as_json: options.AsJson = False,
) -> None:
    """Judge an autoencoder: reconstruction, what the model's predictions lose, and what a few latents tell.

    Example: pellucid sae evaluate run/matryoshka --store store --out evaluation.json

    Example: pellucid sae evaluate run/matryoshka --store store --model smollm2 --texts held-out.txt --loss-samples 100

    Example: pellucid sae evaluate run/matryoshka --store store --model smollm2 --probe topics.jsonl --json
    """
    output.require_folder_of(out)
    from pellucid.models import load
    from pellucid.sae import SAE, Events
    from pellucid.sae import evaluation as judging
    from pellucid.sae.evaluation.evaluating import require_file
    from pellucid.sae.store import Store

    require_file(out)
    examples = None if probe is None else judging.read_labelled(probe)
    sae, activations = SAE.load(autoencoder), Store.open(store)
    network = None if model is None else load(model, device=device, dtype=dtype)
    found = judging.evaluate(
        sae, activations, site, model=network, texts=texts, loss_samples=loss_samples, examples=examples,
        tokens=tokens, batch=batch, seed=seed, partial=out and out.with_name(f".{out.name}.partial"), out=out,
    )  # fmt: skip
    # What was found is told before the events, which may fail.
    if as_json:
        output.document(found.model_dump(mode="json"))
    else:
        _shown(found, out)
    if events is not None:
        Events.write(sae, activations, found.site, events, batch=batch)
        if not as_json:
            output.line(f"Events: {events}")


def _shown(found: "Evaluation", out: Path | None) -> None:
    output.line(f"{found.architecture} of {found.width:,} latents at {found.site} of {found.model}")
    output.line(f"on {found.all.tokens:,} tokens of {found.corpus} ({_held_out(found.held_out)})")
    output.drawn(_qualities({"all": found.all} | (found.modalities if len(found.modalities) > 1 else {})))
    for line in _described(found):
        output.line(line)
    if found.loss is not None:
        output.line("")
        _show_loss(found.loss)
    if found.probing is not None:
        output.line("")
        _show_probing(found.probing)
    if out is not None:
        output.line(f"Evaluation: {out}")


def _held_out(held_out: bool | None) -> str:
    if held_out is None:
        return "whether it was trained on these texts is not known"
    return (
        "not the same corpus file as in training; texts may be in both" if held_out else "the store it was trained on"
    )


def _qualities(groups: "dict[str, Quality]") -> "Table":
    """A row for each number, a column for all tokens and for those of each modality."""
    table = _table("", *groups)
    for name, said in QUALITY.items():
        table.add_row(said, *(_number(getattr(each, name)) for each in groups.values()))
    return table


def _described(found: "Evaluation") -> Iterator[str]:
    spread = found.densities
    said = f"{spread.dead:,} latents never active, {spread.above_tenth:,} on more than a tenth of the tokens"
    yield f"{said}, median density {_number(spread.median)}"
    yield f"log10 density  {spread.edges[0]:.1f} |{_bars(spread.counts)}| 0"
    if found.similarity is not None:
        near = found.similarity
        yield (
            f"nearest other direction: cosine {near.quantiles['0.5']:.2f} at the median, {near.quantiles['0.99']:.2f} "
            f"for the nearest hundredth, above {near.near:g} for {near.above:.1%}"
        )


def _bars(counts: Sequence[int]) -> str:
    most = max(*counts, 1)
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)


def _show_loss(loss: "Loss") -> None:
    samples = f"{loss.samples} samples of {loss.source}"
    output.line(f"Next-token loss over {loss.tokens:,} predictions in {samples}, in nats:")
    table = _table("", "cross-entropy", "KL from clean", "score of the splice")
    table.add_row("clean", _number(loss.ce_clean), "0", "")
    scores = {"mean": (loss.ce_score_mean, loss.kl_score_mean), "zero": (loss.ce_score, loss.kl_score)}
    for way, said in WAYS.items():
        score = "" if way not in scores else f"CE {_interval(scores[way][0])}, KL {_interval(scores[way][1])}"
        table.add_row(said, _number(getattr(loss, f"ce_{way}")), _number(getattr(loss, f"kl_{way}")), score)
    output.drawn(table)
    output.line(
        f"{loss.replaced:,} positions were replaced, those that the store's selector takes; [95 % over samples]"
    )


def _show_probing(probing: "Probing") -> None:
    output.line(f"Balanced accuracy of logistic probes, {probing.train} texts to learn, {probing.test} to try:")
    ks = sorted({each.k for each in probing.probes if each.k})
    table = _table("label", *(f"k = {k}" for k in ks), "all dimensions", "latents")
    for label in dict.fromkeys(each.label for each in probing.probes):
        mine = {each.k: each for each in probing.probes if each.label == label}
        cells = [_interval(mine[k].balanced_accuracy) for k in (*ks, 0)]
        others = [name for name in probing.labels if name != label]
        said = f"{label}, not {others[0]}" if len(others) == 1 else label
        table.add_row(output.visible(said), *cells, " ".join(map(str, mine[ks[-1]].latents)))
    output.drawn(table)


def _table(*headings: str) -> "Table":
    from rich.table import Table

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for number, heading in enumerate(headings):
        drawn.add_column(heading, no_wrap=True, justify="right" if number else "left")
    return drawn


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _interval(found: "Interval") -> str:
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return "-" if found.value is None else f"{found.value:.3f}{ends}"
