"""``pellucid explain``: one input of one model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.cli import asking, options, output

if TYPE_CHECKING:
    from pellucid.explanation import Explanation


def explain(
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
    method: options.MethodName = "kernel_shap",
    features: options.Features = None,
    baseline: options.Baseline = None,
    settings: options.Settings = None,
    target: options.Target = None,
    tokens: options.Tokens = None,
    choices: options.Choices = None,
    contrast: options.Contrast = None,
    label: options.Label = None,
    region: options.Region = None,
    pixel: options.Pixel = None,
    latent: options.LatentIndex = None,
    sae: options.Autoencoder = None,
    site: options.Site = None,
    checks: options.ChecksLevel = "free",
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    as_json: options.AsJson = False,
    html: options.Html = None,
    save: options.Save = None,
    top: options.Top = None,
) -> None:
    """Say which parts of one input drove the model's output.

    Example: pellucid explain --text "Name the capital of France." --target Paris --method occlusion

    Its latents: pellucid explain --text "..." --method attnlrp --features latents --sae DIR --site model.layers.15
    """
    from pellucid.api import explain as ask
    from pellucid.api import method_and_imputer
    from pellucid.verdicts import BEST

    require_room(html, save)
    wanted = asking.target(target, tokens, choices, contrast, label, region, pixel, latent)
    given = asking.settings(settings)
    chosen: Any = method
    if method != BEST:
        (chosen, baseline), given = method_and_imputer(method, baseline, given), {}
    asked = asking.model(model, labels, preprocessing, device, dtype, system, no_chat)
    raw = asking.raw(asked, text, prompt_file, template, field, absent, image, row, column)
    given |= {"target": wanted, "features": features, "baseline": baseline, "sae": sae, "site": site}
    explanation = ask(asked, raw, method=chosen, checks=checks, seed=seed, **given)
    deliver(explanation, as_json=as_json, html=html, save=save, top=top)


def require_room(html: Path | None, save: Path | None) -> None:
    """Refuse files whose folders are not there, before any work is done for them."""
    output.require_folder_of(html)
    output.require_folder_of(save if save is not None and save.suffix == ".zip" else None)


def deliver(
    explanation: "Explanation",
    *,
    as_json: bool,
    html: Path | None,
    save: Path | None,
    top: int | None,
    every_layer: bool = False,
) -> None:
    """Write every form of the result that was asked for; where none was, draw it in the terminal."""
    from pellucid import report
    from pellucid.files import write_atomically
    from pellucid.report.layer_table import layers_renderable

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
        if shown.layer_values is not None:
            output.drawn(layers_renderable(shown, every=every_layer))
        if len(shown.features) < len(explanation.features):
            output.line(f"the {top} strongest of {len(explanation.features)} features (--top {top})")


def strongest(explanation: "Explanation", count: int) -> "Explanation":
    """The same explanation with only the features of the largest total score, in the order of the text."""
    import numpy as np

    order = np.argsort(-np.abs(explanation.values.sum(0)), kind="stable")
    kept = sorted(order[:count].tolist())
    return explanation.keeping(kept)
