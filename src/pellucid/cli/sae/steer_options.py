"""The options of ``pellucid sae steer``, and what a shell completes them with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli import options

# Completion must not wait for torch.
MODES = ("add", "clamp", "ablate", "project", "cap", "floor")
POSITIONS = ("all", "prompt", "last-prompt", "answer", "generated")
CONTROLS = ("random-direction", "random-latent", "difference-of-means", "prompted")
SCALES = ("activation", "norm")
_WHAT, _HOW, _TOLD = "What is steered", "How", "What is measured"


def _one(names: Sequence[str]) -> Any:
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


Autoencoder = Annotated[Path, typer.Argument(metavar="SAE", help="The autoencoder's folder.", show_default=False)]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="The model.", show_default="as the SAE says", autocompletion=_one(options.MODELS)
    ),
]
SiteName = Annotated[
    str | None, typer.Option("--site", help="Where in the model, as model.layers.15.", show_default="as the SAE says")
]
Latents = Annotated[
    list[str],
    typer.Option(
        "--latent", metavar="N[+M]", help="A latent; 3+7: both at once. May be repeated.", rich_help_panel=_WHAT
    ),
]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="A prompt. May be repeated.", rich_help_panel=_WHAT)
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="A prompt a line; - is stdin.", rich_help_panel=_WHAT),
]
Image = Annotated[Path | None, typer.Option(metavar="FILE", help="The picture of every prompt.", rich_help_panel=_WHAT)]
Strengths = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Multiples of the scale, below 0 too.", show_default="both ways", rich_help_panel=_HOW
    ),
]
Mode = Annotated[
    list[str] | None,
    typer.Option(
        "--mode", help=f"{', '.join(MODES)}. May be repeated.", show_default="add", rich_help_panel=_HOW,
        autocompletion=_one(MODES),
    ),
]  # fmt: skip
Positions = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(POSITIONS)}, or a list: 3,4,-1.", rich_help_panel=_HOW, autocompletion=_one(POSITIONS)
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="activation|norm|NUMBER", show_default="activation with --events, else norm", rich_help_panel=_HOW,
        help="What 1 is: 99.9th percentile of activations, length of the model's activations, or a number.",
        autocompletion=_one(SCALES),
    ),
]  # fmt: skip
MaxNewTokens = Annotated[int, typer.Option(min=1, help="The longest answer.", rich_help_panel=_HOW)]
Temperature = Annotated[float, typer.Option(min=0, help="0 is greedy.", rich_help_panel=_HOW)]
Samples = Annotated[int, typer.Option(min=1, help="Sampled answers to each prompt.", rich_help_panel=_HOW)]
Rows = Annotated[int, typer.Option(min=1, help="Prompts answered at a time.", rich_help_panel=_HOW)]
Concept = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[N=]REGEX", help="What tells that a latent's concept appears. May be repeated.", rich_help_panel=_TOLD
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL=LABEL", help="In place of --concept: the label of a text classifier.", rich_help_panel=_TOLD
    ),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="NAME|URL=MODEL", rich_help_panel=_TOLD, autocompletion=_one(options.MODELS),
        help="A language model that rates answers; without --concept it says whether --label appears.",
    ),
]  # fmt: skip
Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label", metavar="[N=]WORDS", help="The concept in words, for pages and --judge.", rich_help_panel=_TOLD
    ),
]
Other = Annotated[
    list[str] | None,
    typer.Option(
        "--other", metavar="NAME=REGEX", help="A concept to leave alone. May be repeated.", rich_help_panel=_TOLD
    ),
]
Prefix = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[N=]TEXT", help="Asks for the concept in words, as a control: 'Talk about war.'", rich_help_panel=_TOLD
    ),
]
ControlNames = Annotated[
    str | None,
    typer.Option(
        "--controls", metavar="A,B|none", help=", ".join(CONTROLS), show_default="all that can be had",
        rich_help_panel=_TOLD,
    ),
]  # fmt: skip
EventsFolder = Annotated[
    Path | None, typer.Option("--events", metavar="DIR", help="Where the latents are active.", rich_help_panel=_TOLD)
]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="The harvest they were found in.", rich_help_panel=_TOLD)
]
Flips = Annotated[
    float, typer.Option("--most-flips", min=0, max=1, help="Budget: other concepts changed.", rich_help_panel=_TOLD)
]
Perplexity = Annotated[
    float, typer.Option("--most-perplexity", min=0, help="Budget: over the unsteered.", rich_help_panel=_TOLD)
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The folder to write; a stopped run goes on.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with curves and answers.")]
Show = Annotated[bool, typer.Option("--show", help="Only show the answers; measure nothing.")]
