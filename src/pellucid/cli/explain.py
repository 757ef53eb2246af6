"""``pellucid explain``: one input of one model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli import asking, options, output

if TYPE_CHECKING:
    from pellucid.explanation import Explanation

_INPUT = "What is explained"
_TARGET = "Which output"
_RESULT = "What becomes of the result"

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
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write one HTML page.", rich_help_panel=_RESULT)]
Save = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Save it to a folder or a .zip.", rich_help_panel=_RESULT)
]
Top = Annotated[
    int | None, typer.Option(min=1, help="Draw only so many features, the strongest.", rich_help_panel=_RESULT)
]


def explain(
    model: options.ModelName = "smollm2",
    text: Text = None,
    prompt_file: PromptFile = None,
    template: TemplateFile = None,
    field: Field = None,
    absent: Absent = None,
    image: Image = None,
    row: TableRow = None,
    column: ColumnValue = None,
    system: System = None,
    no_chat: NoChat = False,
    method: options.MethodName = "kernel_shap",
    features: options.Features = None,
    baseline: options.Baseline = None,
    settings: options.Settings = None,
    target: Target = None,
    tokens: Tokens = None,
    choices: Choices = None,
    contrast: Contrast = None,
    label: Label = None,
    checks: options.ChecksLevel = "free",
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    as_json: options.AsJson = False,
    html: Html = None,
    save: Save = None,
    top: Top = None,
) -> None:
    """Say which parts of one input drove the model's output.

    Example: pellucid explain --text "Name the capital of France." --target Paris --method occlusion
    """
    from pellucid.api import explain as ask
    from pellucid.api import method_and_imputer
    from pellucid.models import load

    output.require_folder_of(html)
    output.require_folder_of(save if save is not None and save.suffix == ".zip" else None)
    wanted = asking.target(target, tokens, choices, contrast, label)
    chosen, imputer = method_and_imputer(method, baseline, asking.settings(settings))
    asked = load(model, device=device, dtype=dtype, chat=False if no_chat else None, system=system)
    raw = asking.raw(asked, text, prompt_file, template, field, absent, image, row, column)
    explanation = ask(
        asked, raw, method=chosen, target=wanted, features=features, baseline=imputer, checks=checks, seed=seed
    )
    deliver(explanation, as_json=as_json, html=html, save=save, top=top)


def deliver(
    explanation: "Explanation", *, as_json: bool, html: Path | None, save: Path | None, top: int | None
) -> None:
    """Write every form of the result that was asked for; where none was, draw it in the terminal."""
    from pellucid import report
    from pellucid.files import write_atomically

    if save is not None:
        with output.naming(save):
            explanation.save(save)
        output.notice(f"Saved {save}")
    if html is not None:
        with output.naming(html):
            write_atomically(html, report.explanation_page(explanation).encode())
        output.notice(f"Wrote {html}")
    if as_json:
        output.document(explanation.to_json())
    elif html is None and save is None:
        shown = explanation if top is None else strongest(explanation, top)
        output.drawn(report.explanation_renderable(shown))
        if len(shown.features) < len(explanation.features):
            output.line(f"the {top} strongest of {len(explanation.features)} features (--top {top})")


def strongest(explanation: "Explanation", count: int) -> "Explanation":
    """The same explanation with only the features of the largest total score, in the order of the text."""
    import numpy as np

    order = np.argsort(-np.abs(explanation.values.sum(0)), kind="stable")
    kept = sorted(order[:count].tolist())
    error = explanation.standard_error
    return explanation.model_copy(
        update={
            "values": explanation.values[:, kept],
            "standard_error": None if error is None else error[:, kept],
            "features": tuple(explanation.features[index] for index in kept),
            # A picture of some of its features only would look like one whose other features score 0.
            "picture": None,
            "regions": None,
        }
    )
