"""``pellucid trace``: relevance from one output of a model back to one input."""

from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli import asking, options
from pellucid.cli.explain import deliver, require_room
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.methods import AbstractMethod

_HOW = "How it is traced"

Account = Annotated[
    bool,
    typer.Option("--account", help="Keep the account of every operation; about twice the price.", rich_help_panel=_HOW),
]
Approximate = Annotated[
    bool,
    typer.Option(
        "--approximate", help="Take an operation without a rule to first order, and list it.", rich_help_panel=_HOW
    ),
]
Layers = Annotated[
    bool,
    typer.Option("--layers", help="Draw every layer, not only some.", rich_help_panel="What becomes of the result"),
]


def trace(
    model: options.ModelName = "smollm2",
    text: options.Text = None,
    prompt_file: options.PromptFile = None,
    template: options.TemplateFile = None,
    field: options.Field = None,
    absent: options.Absent = None,
    image: options.Image = None,
    row: options.TableRow = None,
    column: options.ColumnValue = None,
    system: options.System = None,
    no_chat: options.NoChat = False,
    labels: options.Labels = None,
    preprocessing: options.Preprocess = None,
    composite: options.CompositeName = None,
    account: Account = False,
    approximate: Approximate = False,
    features: options.Features = None,
    target: options.Target = None,
    tokens: options.Tokens = None,
    choices: options.Choices = None,
    contrast: options.Contrast = None,
    label: options.Label = None,
    region: options.Region = None,
    pixel: options.Pixel = None,
    checks: options.ChecksLevel = "free",
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    as_json: options.AsJson = False,
    html: options.Html = None,
    save: options.Save = None,
    top: options.Top = None,
    layers: Layers = False,
) -> None:
    """Trace the model's output back through the network to one input, by the rules of a composite.

    Example: pellucid trace --model minilm-sst2 --text "A quiet, warm film." --composite attnlrp --account
    """
    from pellucid.api import explain as ask
    from pellucid.progress import working
    from pellucid.relevance.catalogue import DEFAULT

    require_room(html, save)
    wanted = asking.target(target, tokens, choices, contrast, label, region, pixel)
    # What is misspelt should be told before a model is loaded.
    named = None if composite is None else method_of(composite, account, approximate)
    asked = asking.model(model, labels, preprocessing, device, dtype, system, no_chat)
    raw = asking.raw(asked, text, prompt_file, template, field, absent, image, row, column)
    method = named or method_of(DEFAULT[asked.modality], account, approximate)
    with working("Tracing ..."):
        explanation = ask(asked, raw, method=method, target=wanted, features=features, checks=checks, seed=seed)
    deliver(explanation, as_json=as_json, html=html, save=save, top=top, every_layer=layers)


def method_of(name: str, account: bool, approximate: bool) -> "AbstractMethod":
    """The method of a composite; of one that carries gradients, whose sum means nothing, the method of that name.

    Raises UnknownNameError, and InputError on an account of what is no relevance.
    """
    from pellucid.methods import make_method
    from pellucid.methods.relevance import relevance_method
    from pellucid.relevance import composite

    rules = composite(name)
    if rules.carrier != "gradient":
        return relevance_method(rules)(strict=not approximate, account=account)
    if account:
        raise InputError(
            f"composite {name!r} carries gradients, and only relevance can be accounted for; leave --account out, or "
            "use --composite input-x-gradient."
        )
    return make_method(name)
