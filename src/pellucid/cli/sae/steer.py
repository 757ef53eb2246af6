"""``pellucid sae steer``: push a model along its latents, and measure what that does and what else it does."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.cli import options, output
from pellucid.cli.sae import steer_asking
from pellucid.cli.sae import steer_options as given

if TYPE_CHECKING:
    from rich.table import Table

    from pellucid.sae.steering import Summary
    from pellucid.sae.steering.bench import Bench
    from pellucid.sae.steering.outcome import Point, SubjectSummary


def steer(
    sae: given.Autoencoder,
    latent: given.Latents,
    model: given.ModelName = None,
    site: given.SiteName = None,
    prompt: given.Prompts = None,
    prompts: given.PromptFile = None,
    image: given.Image = None,
    strengths: given.Strengths = None,
    mode: given.Mode = None,
    positions: given.Positions = "answer",
    scale: given.Scale = None,
    max_new_tokens: given.MaxNewTokens = 32,
    temperature: given.Temperature = 0.0,
    samples: given.Samples = 1,
    rows: given.Rows = 32,
    concept: given.Concept = None,
    classifier: given.Classifier = None,
    judge: given.JudgeName = None,
    label: given.Label = None,
    other: given.Other = None,
    prefix: given.Prefix = None,
    controls: given.ControlNames = None,
    events: given.EventsFolder = None,
    store: given.StoreFolder = None,
    most_flips: given.Flips = 0.2,
    most_perplexity: given.Perplexity = 3.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    out: given.Out = None,
    html: given.Html = None,
    show: given.Show = False,
    as_json: options.AsJson = False,
) -> None:
    """Steer answers by latents, beside controls; say how often the concept appears, and what else changes.

    Look: pellucid sae steer sae --latent 123 --prompt "Tell me about today." --show

    Measure: pellucid sae steer sae --latent 123 --concept 'war|army' --prompts prompts.txt --events events --out run
    """
    output.require_folder_of(html)
    settings = steer_asking.settings_of(
        strengths=strengths, modes=mode, positions=positions, scale=scale or ("activation" if events else "norm"),
        sampling={"max_new_tokens": max_new_tokens, "temperature": temperature, "samples": samples, "seed": seed},
        controls=steer_asking.controls_of(controls, prefix=bool(prefix), store=bool(store and events)), rows=rows,
        budget={"flips": most_flips, "perplexity": most_perplexity}, seed=seed,
    )  # fmt: skip
    asked = steer_asking.prompts_of(prompt, prompts, image)
    judging, subjects = steer_asking.told_by(show, out, latent, concept, classifier, judge, label, prefix)
    bench = steer_asking.opened(sae, model, asked, site, settings, other, events, store, judging, device, dtype)
    if show or out is None:
        shown(bench, latent, as_json)
    else:
        from pellucid.sae.steering.experiment import tried_out

        deliver(tried_out(bench, subjects, out), out, html, as_json)


def shown(bench: "Bench", latents: Sequence[str], as_json: bool) -> None:
    """Unsteered and steered answers, one below the other."""
    from pellucid.sae.steering.fitting import elsewhere
    from pellucid.sae.steering.showing import steered_answers

    numbers = {each: steer_asking.numbers_of(each) for each in latents}
    if note := elsewhere(bench.sae, bench.site):
        output.notice(f"Note: {note}.")
    found = [(each, answer) for each in latents for answer in steered_answers(bench, numbers[each])]
    if as_json:
        output.document([{"latents": list(numbers[each]), **answer._asdict()} for each, answer in found])
        return
    for prompt in dict.fromkeys(answer.prompt for _, answer in found):
        output.line(f"> {prompt}")
        for each, answer in found:
            if answer.prompt == prompt:
                way = "unsteered" if answer.strength is None else f"{each} {answer.mode} {answer.strength:+g}"
                output.line(f"  {way:>20}  {' '.join(answer.text.split())}")


def deliver(summary: "Summary", out: Path, html: Path | None, as_json: bool) -> None:
    """Every form of the result that was asked for."""
    from pellucid.files import write_atomically
    from pellucid.report.steering import steering_page

    document = summary.model_dump(mode="json")
    if html is not None:
        with output.naming(html):
            write_atomically(html, steering_page(document).encode())
        output.notice(f"Wrote {html}")
    if as_json:
        output.document(document)
        return
    for subject in summary.subjects:
        output.line(f"latent {subject.name}, recognised by {subject.matcher}")
        output.drawn(table(subject))
        for best in subject.best:
            at = "no strength" if best.strength is None else f"strength {best.strength:g}"
            verdict = {True: "steers as labelled", False: "does not steer", None: "cannot be told"}[best.holds]
            output.line(f"{best.mode}, to {best.direction}: {at}; {verdict}: {best.reason}")
        output.line("")
    for note in summary.notes:
        output.line(f"Note: {note}.")
    for share in summary.shares:
        output.line(share.sentence)
    output.line(f"Answers: {out}")


def table(subject: "SubjectSummary") -> "Table":
    """One row for each condition."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("", "concept", "others", "latents", "perplexity", "pairs", "edit", "budget"):
        drawn.add_column(heading, no_wrap=True, justify="left" if not heading else "right")
    for point in subject.points:
        drawn.add_row(*(Text(cell) for cell in cells(point)))
    return drawn


def cells(point: "Point") -> tuple[str, ...]:
    """The numbers of one condition."""
    rate = point.on_target
    ends = "" if rate is None or rate.low is None else f" [{rate.low:.2f}, {rate.high:.2f}]"
    means = [None if each is None else each.mean for each in (point.flips, point.shift)]
    ratio = "-" if point.ratio is None else f"x {point.ratio.mean:.2f}"
    rest = [None if each is None else each.mean for each in (point.distinct, point.edit)]
    numbers = ["-" if each is None else f"{each:.2f}" for each in (*means, *rest)]
    concept = "-" if rate is None else f"{rate.mean:.2f}{ends}"
    within = ("within" if point.within else "over") + (f", {point.empty} empty" if point.empty else "")
    return (point.condition.key, concept, *numbers[:2], ratio, *numbers[2:], within)
