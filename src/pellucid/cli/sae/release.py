"""``pellucid sae release``: pack an autoencoder to be handed on, or check one that was."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli import options, output
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.sae.releasing import Released

# Completion must not wait for torch.
LAYOUTS = ("pellucid", "sae-lens", "dictionary-learning", "sparsify")


def _layouts(incomplete: str) -> list[str]:
    return [name for name in LAYOUTS if name.startswith(incomplete)]


Autoencoder = Annotated[
    Path, typer.Argument(metavar="SAE", help="The autoencoder's folder; with --verify, a release.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A new folder for the release.")]
Interpretations = Annotated[
    Path | None, typer.Option("--interpretations", metavar="DIR", help="A run of pellucid sae interpret.")
]
EvaluationFile = Annotated[
    Path | None, typer.Option("--evaluation", metavar="FILE", help="What pellucid sae evaluate wrote.")
]
Format = Annotated[
    str, typer.Option("--format", help="The layout: " + ", ".join(LAYOUTS) + ".", autocompletion=_layouts)
]
Name = Annotated[str | None, typer.Option(help="What it is called.", show_default="the folder's name")]
License = Annotated[str, typer.Option(help="Of the weights, as model hubs name it, such as mit.")]
Verify = Annotated[bool, typer.Option("--verify", help="Check a release: its checksums, and that all can be read.")]


def release(
    sae: Autoencoder,
    out: Out = None,
    interpretations: Interpretations = None,
    evaluation: EvaluationFile = None,
    format: Format = "pellucid",
    name: Name = None,
    license: License = "",
    verify: Verify = False,
    as_json: options.AsJson = False,
) -> None:
    """Pack weights, interpretations, scores, an evaluation, a card and checksums into a folder; or check one.

    Example: pellucid sae release sae --interpretations run --evaluation evaluation.json --format sae-lens --out release

    To check one: pellucid sae release release --verify
    """
    from pellucid.sae import releasing

    if verify:
        if out is not None:
            raise InputError("--verify checks the release that is named first and writes nothing; leave out --out.")
        _tell(releasing.verify(sae), "whole: every file is the one of the checksums", as_json)
        return
    if out is None:
        raise InputError("a release needs a new folder: --out DIR; or --verify to check one.")
    found = releasing.release(
        sae, out, interpretations=interpretations, evaluation=evaluation, format=format, name=name, license=license
    )
    _tell(found, f"in the layout {format}", as_json)


def _tell(found: "Released", said: str, as_json: bool) -> None:
    if as_json:
        output.document({**found._asdict(), "folder": str(found.folder), "files": list(found.files)})
        return
    output.line(f"{found.folder}: {said}; {found.bytes / 1e6:.1f} MB, {found.interpretations:,} latents explained")
    output.line(", ".join(found.files))
