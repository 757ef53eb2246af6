"""``pellucid sae dashboard``: a page for each latent, and an index with search and filters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli import options, output

if TYPE_CHECKING:
    from pellucid.dashboard.gathering import Sources

# Completion must not wait for torch.
WORDS = ("all", "alive", "explained")

_SHOWN, _MODEL = "What is shown", "Logits"


def _words(incomplete: str) -> list[str]:
    return [word for word in WORDS if word.startswith(incomplete)]


Autoencoder = Annotated[Path, typer.Argument(metavar="SAE", help="The autoencoder's folder.", show_default=False)]
StoreFolder = Annotated[Path, typer.Option("--store", metavar="DIR", help="The activations: pellucid sae harvest.")]
EventFolder = Annotated[
    Path,
    typer.Option("--events", metavar="DIR", help="Where latents are active; written there first where there is none."),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; a stopped run goes on there.")]
Interpretations = Annotated[
    Path | None, typer.Option("--interpretations", metavar="DIR", help="A run of pellucid sae interpret.")
]
Latents = Annotated[
    str | None,
    typer.Option(
        "--latents", metavar="A,B-C|WORD", help="Numbers and ranges; all, alive, explained; random:N.",
        show_default="explained, else alive", autocompletion=_words, rich_help_panel=_SHOWN,
    ),
]  # fmt: skip
Top = Annotated[
    int, typer.Option(min=1, help="Examples with the highest activation on a page.", rich_help_panel=_SHOWN)
]
Title = Annotated[
    str | None,
    typer.Option(help="What the autoencoder is called.", show_default="its folder's name", rich_help_panel=_SHOWN),
]
Neuronpedia = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the latents in Neuronpedia's JSON format too.", rich_help_panel=_SHOWN),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="The model whose logits are shown.", show_default="the store's",
        autocompletion=lambda incomplete: [name for name in options.MODELS if name.startswith(incomplete)],
        rich_help_panel=_MODEL,
    ),
]  # fmt: skip
Logits = Annotated[
    bool, typer.Option("--logits/--no-logits", help="Load the model for its logits.", rich_help_panel=_MODEL)
]


def dashboard(
    sae: Autoencoder,
    store: StoreFolder,
    events: EventFolder,
    out: Out,
    interpretations: Interpretations = None,
    latents: Latents = None,
    top: Top = 12,
    title: Title = None,
    neuronpedia: Neuronpedia = None,
    model: ModelName = None,
    logits: Logits = True,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Write a page for each latent, and an index with search and filters: open index.html. A stopped run goes on.

    Example: pellucid sae dashboard sae --store store --events events --out pages

    With explanations: pellucid sae dashboard sae --store store --events events --interpretations run --out pages
    """
    from pellucid.dashboard import sources as opening
    from pellucid.dashboard.pages import export_neuronpedia, write_dashboard

    output.require_folder_of(neuronpedia)
    sources = opening.opened(
        sae, store, events, interpretations=interpretations, latents=latents, top=top,
        model=model, logits=logits, seed=seed,
    )  # fmt: skip
    name = title or sae.resolve().name
    written = write_dashboard(sources, out, name)
    beside = None if neuronpedia is None else export_neuronpedia(sources, neuronpedia, name)
    if as_json:
        output.document(_document(written._asdict(), sources, neuronpedia, beside))
        return
    kept = f", {written.pages - written.new:,} of which were there" if written.new < written.pages else ""
    output.line(f"{written.pages:,} pages{kept}; {written.dead:,} latents of them are active nowhere")
    if beside is not None:
        output.line(f"Neuronpedia's format: {neuronpedia}; explanations: {beside}")
    output.line(f"Open {written.page}")


def _document(
    written: dict[str, Any], sources: "Sources", neuronpedia: Path | None, beside: Path | None
) -> dict[str, Any]:
    paths = {"neuronpedia": neuronpedia, "explanations": beside, "folder": written["folder"]}
    said = {name: None if path is None else str(path) for name, path in paths.items()}
    return {**written, **said, "site": sources.site, "latents": list(sources.pages)}
