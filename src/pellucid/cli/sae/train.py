"""``pellucid sae train``: autoencoders from a store of activations, several of them from one reading."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.cli import asking, options, output
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.sae.runs import Run

# They stand here because completion must not wait for torch.
PRESETS = ("dictionary-learning", "maira-2", "matryoshka", "sae-lens")
ARCHITECTURES = ("batchtopk", "jumprelu", "matryoshka", "topk")


def _presets(incomplete: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(incomplete)]


def _architectures(incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in ARCHITECTURES if name.startswith(last)]


def _sites(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sites of the store that stands on the command line, read from its manifest."""
    try:
        known = json.loads((Path(str(ctx.params["store"])) / "manifest.json").read_text("utf-8"))["d_in"]
    except (OSError, ValueError, KeyError):
        return []
    return [name for name in known if name.startswith(incomplete)]


StoreFolder = Annotated[Path, typer.Argument(metavar="STORE", help="The folder that `pellucid sae harvest` wrote.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="A folder for each autoencoder; a stopped run goes on there.")
]
SiteNames = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        metavar="SITE",
        help="A site of the store; may be repeated.",
        show_default="its only one",
        autocompletion=_sites,
    ),
]
Width = Annotated[str, typer.Option("--width", metavar="N[,N]", help="Latents in the dictionary.")]
K = Annotated[
    str | None,
    typer.Option("--k", metavar="N[,N]", help="Active latents of a token.", show_default="32; maira-2: none"),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        metavar="A[,A]",
        help="topk, batchtopk, matryoshka or jumprelu.",
        show_default="matryoshka",
        autocompletion=_architectures,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Loss weights, schedules and decoder in the manner of matryoshka, sae-lens, dictionary-learning, maira-2.",
        show_default="our own",
        autocompletion=_presets,
    ),
]
Seeds = Annotated[str, typer.Option(metavar="N[,N]", help="Of the initial weights.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="How often the store is read.", show_default="1")]
Tokens = Annotated[
    int | None, typer.Option(min=1, help="How many tokens to learn from, instead; rounded up to whole batches.")
]
Batch = Annotated[int, typer.Option(min=1, help="Tokens of a step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate.", show_default="2e-4 / sqrt(width / 16384)")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A field of the configuration: clip=1.0, prefixes=[1024,4096]; repeatable."
    ),
]
Selection = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(help="What finds active latents; bfloat16 is faster and scored again in float32."),
]
HeldOut = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of the tokens, in whole documents, to judge the result on.")
]
Every = Annotated[int, typer.Option("--checkpoint-every", min=1, metavar="N", help="Steps between checkpoints.")]
LogEvery = Annotated[int, typer.Option(min=1, metavar="N", help="Steps between lines of the log.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's files as well.")]


def train(
    store: StoreFolder,
    out: Out,
    width: Width,
    site: SiteNames = None,
    k: K = None,
    architecture: Architecture = None,
    preset: Preset = None,
    seeds: Seeds = "0",
    epochs: Epochs = None,
    tokens: Tokens = None,
    batch: Batch = 4096,
    lr: Rate = None,
    settings: Settings = None,
    selection: Selection = None,
    held_out: HeldOut = 0.02,
    checkpoint_every: Every = 200,
    log_every: LogEvery = 10,
    tensorboard: TensorBoard = False,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    as_json: options.AsJson = False,
) -> None:
    """Train autoencoders, one for every combination of the lists, each site's from one reading. A stopped run goes on.

    With --json each line of the log also goes to standard error, as one JSON object, while it trains.

    Example: pellucid sae train store --site model.layers.15 --width 4608,16384 --k 32 --epochs 4 --out runs

    Example: pellucid sae train store --preset dictionary-learning --width 4608 --seeds 0,1 --tokens 2000000 --out runs
    """
    from pellucid.sae.runs import Grid
    from pellucid.sae.runs import train as training

    changes = _changes(settings, lr=lr, selection=selection)
    grid = Grid(
        widths=_numbers("--width", width),
        ks=_numbers("--k", k) if k is not None else (),
        architectures=tuple(asking.parts("--architecture", architecture or "")),
        seeds=_numbers("--seeds", seeds),
        preset=preset,
        changes=changes,
    )
    runs = training(
        store, grid, out, sites=site or None, epochs=epochs, tokens=tokens, batch=batch, held_out=held_out, seed=seed,
        keep=tuple(changes), checkpoint_every=checkpoint_every, log_every=log_every, tensorboard=tensorboard,
        told=_told if as_json else None, device=device,
    )  # fmt: skip
    if as_json:
        output.document({"folder": str(out), "runs": [run.model_dump(mode="json") for run in runs]})
    else:
        _shown(runs, out)


def _changes(settings: Sequence[str] | None, **given: object) -> dict[str, Any]:
    """Fields of the configuration. Raises InputError where one is given twice."""
    changes = asking.settings(settings)
    for name, value in given.items():
        if value is not None:
            if name in changes:
                raise InputError(f"--{name} and --set {name}= both give it; use one of them.")
            changes[name] = value
    return changes


def _numbers(option: str, given: str) -> tuple[int, ...]:
    """``4608,16384`` as numbers. Raises InputError on another form."""
    found = asking.parts(option, given)
    if not found or not all(each.isascii() and each.isdigit() for each in found):
        raise InputError(f"{option} takes whole numbers with commas between them, and {given!r} is not of that form.")
    return tuple(dict.fromkeys(map(int, found)))


def _told(line: dict[str, Any]) -> None:
    output.notice(json.dumps(line))


def _shown(runs: Sequence["Run"], out: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("", "loss", "L0", "FVU", "dead", "held out:\nFVU", "held out:\nL0", "held out:\ndead"):
        drawn.add_column(heading, no_wrap=True, justify="left" if not heading else "right")
    for run in runs:
        figures = run.figures
        cells = [
            run.name, _said(figures["loss"], ".4g"), _said(figures["l0"], ".1f"), _said(figures["fvu"], ".4f"),
            _said(figures["dead_share"], ".1%"), _said(figures["held_out_fvu"], ".4f"),
            _said(figures["held_out_l0"], ".1f"), _said(figures["held_out_dead_share"], ".1%"),
        ]  # fmt: skip
        drawn.add_row(*map(Text, cells))
    output.drawn(drawn)
    kept = runs[0].figures["held_out_tokens"]
    said = f"judged on {kept:,} tokens held out" if kept else "nothing was held out"
    count = "1 autoencoder" if len(runs) == 1 else f"{len(runs)} autoencoders"
    output.line(f"{count}, {runs[0].tokens:,} tokens each, {said}: {out}")


def _said(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
