"""The options that several commands share, and what a shell completes them with."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

# Like the names below they stand here because completion must not wait for torch.
MODELS = tuple(sorted(path.parent.name for path in (Path(__file__).parent.parent / "models/zoo").glob("*/README.md")))
"""The models that load by name."""
FEATURES = ("token", "token+template", "word", "sentence", "field", "column", "pixel", "patch", "superpixel", "latents")
FILES = (".gguf", ".keras", ".h5")
"""The endings of files that a model is read from."""
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEVICES = ("cpu", "cuda", "mps")
COMPOSITES = (
    "gradient",
    "input-x-gradient",
    "lrp-0",
    "lrp-epsilon",
    "cp-lrp",
    "decompx",
    "attnlrp",
    "reslrp",
    "lrp-gamma",
    "alpha-beta",
    "zplus",
    "backtrace",
    "backtrace-contrast",
)
"""The rules that relevance is traced by."""
_DRAWN_ELSEWHERE = ("gradient", "input-x-gradient")
_FACTS_NAME = re.compile(r'[Ff]acts\(\s*(?:name=)?"([^"]+)"')


def method_names() -> list[str]:
    """The built-in methods' names, read from their sources without importing them."""
    folder = Path(__file__).parent.parent / "methods"
    written = [name for path in folder.glob("*.py") for name in _FACTS_NAME.findall(path.read_text("utf-8"))]
    return sorted([*written, *(name for name in COMPOSITES if name not in _DRAWN_ELSEWHERE)])


def _methods(incomplete: str) -> list[str]:
    return [name for name in ("best", *method_names()) if name.startswith(incomplete)]


def _composites(incomplete: str) -> list[str]:
    return [name for name in COMPOSITES if name.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    beside = [str(path) for path in Path().glob(f"{incomplete}*") if path.is_dir() or path.suffix in FILES]
    return [*(name for name in MODELS if name.startswith(incomplete)), *sorted(beside)]


def _features(incomplete: str) -> list[str]:
    return [name for name in FEATURES if name.startswith(incomplete)]


def _dtypes(incomplete: str) -> list[str]:
    return [name for name in DTYPES if name.startswith(incomplete)]


def _devices(incomplete: str) -> list[str]:
    return [name for name in DEVICES if name.startswith(incomplete)]


_MODEL = typer.Option(
    "--model",
    "-m",
    help="A model by name (see: pellucid models), a folder, a .gguf, .keras or .h5 file, or a hub id.",
    autocompletion=_models,
    show_default="smollm2",
)
_METHOD = typer.Option(
    "--method",
    help="How features are scored; see: pellucid methods. best: as a benchmark says, else a trial.",
    autocompletion=_methods,
    show_default="kernel_shap",
)
_COMPOSITE = typer.Option(
    "--composite",
    help="The rules of the trace; see: pellucid composites.",
    autocompletion=_composites,
    show_default="that of the kind of input",
)
_DEVICE = typer.Option(
    "--device", help="Where to run: cpu, cuda, cuda:1, mps.", autocompletion=_devices, show_default="cpu"
)
_DTYPE = typer.Option(
    "--dtype", help="What to compute in; float32 is the exact one.", autocompletion=_dtypes, show_default="float32"
)
_CHECKS = typer.Option("--checks", help="How much evidence to gather.", show_default="free")
_SEED = typer.Option("--seed", help="Seed of everything that samples.", min=0, show_default="0")

Level = Literal["none", "free", "full"]
ModelName = Annotated[str, _MODEL]
MaybeModelName = Annotated[str | None, _MODEL]
MethodName = Annotated[str, _METHOD]
MaybeMethodName = Annotated[str | None, _METHOD]
CompositeName = Annotated[str | None, _COMPOSITE]
MaybeComposite = Annotated[str | None, typer.Argument(metavar="[NAME]", autocompletion=_composites, show_default=False)]
Device = Annotated[str, _DEVICE]
MaybeDevice = Annotated[str | None, _DEVICE]
Dtype = Annotated[str, _DTYPE]
MaybeDtype = Annotated[str | None, _DTYPE]
ChecksLevel = Annotated[Level, _CHECKS]
MaybeChecksLevel = Annotated[Level | None, _CHECKS]
Seed = Annotated[int, _SEED]
MaybeSeed = Annotated[int | None, _SEED]
Features = Annotated[
    str | None,
    typer.Option(
        help="token, token+template, word, sentence or field; patch:SIDE, superpixel:COUNT or pixel; column; "
        "with --sae also latents, or latents:50 for the 50 largest by themselves.",
        autocompletion=_features,
        show_default="field, else word; patch; column",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="What stands in for an absent feature: neutral, delete, mask or pad; "
        "mean, blur, black, noisy-linear, marginal or median of pictures and rows; "
        "for methods that take gradients mask, pad, eos, unk, zero or mean.",
        show_default="as the method and the features have it",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method, such as samples=64. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Keys = Annotated[
    Path | None,
    typer.Option("--keys", metavar="FOLDER", help="Where the secrets are kept.", show_default="~/.config/pellucid"),
]
Ledger = Annotated[Path, typer.Argument(metavar="DIR", help="The audit's folder.")]

# What one input is, which of its outputs is explained, and what becomes of the result.

_INPUT = "What is explained"
_TARGET = "Which output"
_RESULT = "What becomes of the result"
_INSIDE = "Inside the network"

Text = Annotated[str | None, typer.Option(help="The text; - reads standard input.", rich_help_panel=_INPUT)]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A UTF-8 file with the text, less its last line break; - is stdin.", rich_help_panel=_INPUT
    ),
]
TemplateFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A text with {fields} in braces.", rich_help_panel=_INPUT)
]
Field = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="A field of the template; an empty value is a missing one.", rich_help_panel=_INPUT
    ),
]
Absent = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="What stands in for a field that is taken away.", rich_help_panel=_INPUT),
]
Image = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The picture, for a model of pictures.", rich_help_panel=_INPUT)
]
TableRow = Annotated[
    Path | None,
    typer.Option("--row", metavar="FILE", help="A JSON object from column to value.", rich_help_panel=_INPUT),
]
ColumnValue = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=VALUE", help="A value of a table's row.", rich_help_panel=_INPUT),
]
System = Annotated[str | None, typer.Option(help="The system message of the chat template.", rich_help_panel=_INPUT)]
NoChat = Annotated[bool, typer.Option("--no-chat", help="Use no chat template.", rich_help_panel=_INPUT)]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...", help="The classes of a network that does not name them, in order.", rich_help_panel=_INPUT
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        metavar="HEIGHTxWIDTH,MEAN,STD",
        help="What a Keras file reads of a picture: (value / 255 - MEAN) / STD; HEIGHTxWIDTHx1 without colour.",
        rich_help_panel=_INPUT,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="ANSWER",
        help="Log-probability of this answer.",
        rich_help_panel=_TARGET,
        show_default="the model's own answer or class",
    ),
]
Tokens = Annotated[
    str | None, typer.Option(metavar="ANSWER", help="Each token of this answer.", rich_help_panel=_TARGET)
]
Choices = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="The preferred one of these answers, among these.", rich_help_panel=_TARGET),
]
Contrast = Annotated[
    str | None, typer.Option(metavar="A,B", help="Answer A rather than answer B.", rich_help_panel=_TARGET)
]
Label = Annotated[str | None, typer.Option(help="Margin of this class of a classifier.", rich_help_panel=_TARGET)]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS[:MASK.png]",
        help="Of a network that labels places: a class where it is predicted, or where a black picture is white.",
        rich_help_panel=_TARGET,
    ),
]
Pixel = Annotated[
    str | None,
    typer.Option(metavar="CLASS,Y,X", help="A class at one pixel of such a network's output.", rich_help_panel=_TARGET),
]
Autoencoder = Annotated[
    Path | None,
    typer.Option(
        "--sae",
        metavar="FOLDER",
        help="The autoencoder of --features latents, or of --latent.",
        rich_help_panel=_INSIDE,
    ),
]
Site = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE[:input]",
        help="Where it reads.",
        rich_help_panel=_INSIDE,
        show_default="where it was trained",
    ),
]
LatentIndex = Annotated[
    str | None,
    typer.Option(
        "--latent",
        metavar="INDEX[@PLACE]",
        help="Activation of this latent, the largest one or that at a place of the sequence.",
        rich_help_panel=_TARGET,
    ),
]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one HTML page.", rich_help_panel=_RESULT)]
Save = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Save it to a folder or a .zip.", rich_help_panel=_RESULT)
]
Top = Annotated[
    int | None, typer.Option(min=1, help="Draw only so many features, the strongest.", rich_help_panel=_RESULT)
]
