"""``pellucid sae interpret``: say what latents stand for, and find out how well that holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli import asking, options, output
from pellucid.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from rich.table import Table

    from pellucid.sae.interpretation.summary import Mean, Summary

# Completion must not wait for torch.
SCORERS = ("detection", "fuzzing", "embedding")
SPECIAL = ("none", "oracle")
_WHICH, _LLM, _SPENT, _SCORES = "Which latents", "The language model", "What may be spent", "How it is scored"


def _llms(incomplete: str) -> list[str]:
    return [name for name in (*SPECIAL, *options.MODELS) if name.startswith(incomplete)]


def _scorers(incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in SCORERS if name.startswith(last)]


Autoencoder = Annotated[Path, typer.Argument(metavar="SAE", help="The autoencoder's folder.", show_default=False)]
StoreFolder = Annotated[Path, typer.Option("--store", metavar="DIR", help="The activations: pellucid sae harvest.")]
EventFolder = Annotated[
    Path,
    typer.Option("--events", metavar="DIR", help="Where latents are active; written there first where there is none."),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; a stopped run goes on there.")]
Llm = Annotated[
    str,
    typer.Option(
        "--llm",
        metavar="NAME|URL",
        help="Who explains and judges: a model of pellucid such as smollm2; an OpenAI-compatible endpoint such as "
        "http://localhost:8000/v1; oracle, a judge that knows the truth; none, for embedding alone.",
        autocompletion=_llms,
        rich_help_panel=_LLM,
    ),
]
LlmModel = Annotated[
    str | None, typer.Option("--llm-model", metavar="NAME", help="Its name there.", rich_help_panel=_LLM)
]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        metavar="VARIABLE",
        help="The environment variable with the endpoint's key.",
        show_default="PELLUCID_LLM_KEY, else OPENAI_API_KEY",
        rich_help_panel=_LLM,
    ),
]
Images = Annotated[bool, typer.Option("--images/--no-images", help="Show the endpoint pictures.", rich_help_panel=_LLM)]
PerMinute = Annotated[
    float | None, typer.Option(min=0.01, help="The most calls a minute.", show_default="any", rich_help_panel=_LLM)
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that a call may take.", rich_help_panel=_LLM)]
Retries = Annotated[int, typer.Option(min=0, help="Attempts beyond the first.", rich_help_panel=_LLM)]
Threads = Annotated[int, typer.Option(min=1, help="Calls side by side.", rich_help_panel=_LLM)]
Scorers = Annotated[
    str, typer.Option(metavar="A,B", help="What is scored.", autocompletion=_scorers, rich_help_panel=_SCORES)
]
Latents = Annotated[
    str | None,
    typer.Option(metavar="A-B,C|all", help="By number.", show_default="all", rich_help_panel=_WHICH),
]
Sample = Annotated[
    int | None, typer.Option(min=1, help="So many at random of those that are active.", rich_help_panel=_WHICH)
]
Examples = Annotated[
    int, typer.Option(min=3, help="Examples with the latent that score it, as many without.", rich_help_panel=_SCORES)
]
Shown = Annotated[int, typer.Option(min=1, help="Examples that explain it.", rich_help_panel=_SCORES)]
Radius = Annotated[int, typer.Option(min=0, help="Tokens on each side.", rich_help_panel=_SCORES)]
PerPrompt = Annotated[
    int | None,
    typer.Option(
        min=1, help="Examples a prompt.", show_default="1 of a local model, 5 of an endpoint", rich_help_panel=_SCORES
    ),
]
Baselines = Annotated[
    int, typer.Option(min=0, help="Latents scored with another one's explanation too.", rich_help_panel=_SCORES)
]
Directions = Annotated[
    int,
    typer.Option("--random-directions", min=0, help="Random directions treated as latents.", rich_help_panel=_SCORES),
]
Encoder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The sentence encoder of embedding.", show_default="MiniLM", rich_help_panel=_SCORES
    ),
]
BudgetCalls = Annotated[
    int | None, typer.Option(min=1, help="Calls, over all sessions.", show_default="any", rich_help_panel=_SPENT)
]
BudgetTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens, over all sessions.", show_default="any", rich_help_panel=_SPENT)
]
PriceIn = Annotated[float, typer.Option(min=0, help="Price of a million tokens that are read.", rich_help_panel=_SPENT)]
PriceOut = Annotated[
    float, typer.Option(min=0, help="Price of a million tokens that are written.", rich_help_panel=_SPENT)
]
CacheFile = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FILE", help="Where answers are kept.", show_default="OUT/answers.sqlite"),
]
Prompts = Annotated[bool, typer.Option("--prompts/--no-prompts", help="Keep all questions and answers readable.")]


def interpret(
    sae: Autoencoder,
    store: StoreFolder,
    events: EventFolder,
    llm: Llm,
    out: Out,
    scorers: Scorers = "detection,fuzzing",
    latents: Latents = None,
    sample: Sample = None,
    examples: Examples = 20,
    shown: Shown = 16,
    radius: Radius = 16,
    per_prompt: PerPrompt = None,
    baselines: Baselines = 20,
    directions: Directions = 8,
    encoder: Encoder = None,
    llm_model: LlmModel = None,
    key_variable: KeyVariable = None,
    images: Images = False,
    per_minute: PerMinute = None,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    threads: Threads = 8,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    budget_calls: BudgetCalls = None,
    budget_tokens: BudgetTokens = None,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    cache: CacheFile = None,
    prompts: Prompts = True,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Explain latents from marked examples, and score the explanations on other documents. A stopped run goes on.

    Example: pellucid sae interpret sae --store store --events events --llm smollm2 --sample 50 --out run

    A server: pellucid sae interpret sae --store store --events events --llm http://localhost:8000/v1 --llm-model NAME
    --scorers detection,fuzzing,embedding --budget-calls 5000 --out run
    """
    wanted = _wanted(scorers)
    from pellucid.sae.interpretation.backends import Asked
    from pellucid.sae.interpretation.command import Wish, interpret_folders

    asked = Asked(
        llm=llm, model=llm_model, key_variable=key_variable, sees=images, per_prompt=per_prompt, per_minute=per_minute,
        timeout=timeout, retries=retries, threads=threads, device=device, dtype=dtype,
    )  # fmt: skip
    wish = Wish(
        latents=latents, sample=sample, scorers=wanted, radius=radius, explain=shown, score=examples,
        baselines=baselines, random_directions=directions, seed=seed, calls=budget_calls, tokens=budget_tokens,
        cache=cache, encoder=encoder, keep_prompts=prompts,
    )  # fmt: skip
    summary, notes = interpret_folders(sae, store, events, out, asked, wish)
    if as_json:
        output.document(_document(summary, out, notes, price_in, price_out))
    else:
        _shown(summary, out, notes, price_in, price_out)


def _wanted(scorers: str) -> tuple[Any, ...]:
    found = asking.parts("--scorers", scorers)
    for name in found:
        if name not in SCORERS:
            raise UnknownNameError("score", name, SCORERS)
    if not found or len(set(found)) < len(found):
        raise InputError(f"--scorers names each of {', '.join(SCORERS)} at most once, at least one; not {scorers!r}.")
    return tuple(found)


def _document(summary: "Summary", out: Path, notes: list[str], price_in: float, price_out: float) -> dict[str, Any]:
    cost = summary.ledger.cost(price_in, price_out)
    return {"folder": str(out), **summary.model_dump(mode="json"), "cost": cost, "notes": notes}


def _shown(summary: "Summary", out: Path, notes: list[str], price_in: float, price_out: float) -> None:
    for each in notes:
        output.notice(each)
    output.line(f"{summary.latents} latents: {summary.explained} explained, {summary.scored} scored")
    for reason, count in summary.reasons.items():
        output.line(f"  {count} not: {reason}")
    output.drawn(_table(summary))
    output.line("Balanced accuracy (AUC below it), mean over latents [95 % interval]; an unreadable answer is wrong.")
    spent = summary.ledger
    cost = f", cost {spent.cost(price_in, price_out):.2f}" if price_in or price_out else ""
    output.line(
        f"{spent.calls} calls ({spent.cached} from the cache, {spent.retries} retries), {spent.tokens_in} tokens read, "
        f"{spent.tokens_out} written{cost}"
    )
    output.line(f"Interpretations: {out}")


def _table(summary: "Summary") -> "Table":
    """Two lines for each score: accuracy and AUC, beside what nothing would score."""
    from rich.table import Table

    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in (
        "",
        "judge",
        "explanation",
        "of another latent",
        "random directions",
        "constant",
        "oracle",
        "unread",
    ):
        drawn.add_column(heading, no_wrap=True)
    for row in summary.rows:
        if row.judged and row.accuracy.mean is not None:
            drawn.add_row(
                row.name, row.judge, _cell(row.accuracy), _cell(row.shuffled_accuracy), _cell(row.random_accuracy),
                _cell(row.constant, False), _cell(row.oracle_accuracy, False), f"{row.unread} of {row.judged}",
            )  # fmt: skip
        name = "" if row.accuracy.mean is not None else row.name
        judge = "AUC" if name == "" else f"{row.judge}, AUC"
        cells = _cell(row.auc), _cell(row.shuffled_auc), _cell(row.random_auc)
        drawn.add_row(name, judge, *cells, "0.500", "", "")
    return drawn


def _cell(figure: "Mean", interval: bool = True) -> str:
    if figure.mean is None:
        return "-"
    value, low, high = figure.mean.value, figure.mean.low, figure.mean.high
    ends = f" [{low:.2f}, {high:.2f}]" if interval and low is not None else ""
    return f"{value:.3f}{ends}"
