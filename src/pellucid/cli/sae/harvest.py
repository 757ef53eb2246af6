"""``pellucid sae harvest``: let a model read a corpus, and keep what passes at some of its modules."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.cli import options, output

if TYPE_CHECKING:
    from pellucid.sae.store import Estimate, Store

# Completion must not wait for torch.
CORPORA = ("clinosim", "clinosim:", "clinosim-notes:", "hf:", "sotu")
SELECTORS = ("all", "assistant", "balanced:0.5", "image", "last-image", "maira-2", "patches:16", "text", "user")
ENDINGS = (".jsonl", ".ndjson", ".parquet", ".txt")
OUTLYING = 10
"""How many mean norms a norm is that is told of."""
_READ, _KEPT = "What is read", "What is kept"


def _corpora(incomplete: str) -> list[str]:
    beside = [str(path) for path in Path().glob(f"{incomplete}*") if path.is_dir() or path.suffix in ENDINGS]
    return [*(name for name in CORPORA if name.startswith(incomplete)), *sorted(beside)]


def _selectors(incomplete: str) -> list[str]:
    before, plus, last = incomplete.rpartition("+")
    return [f"{before}{plus}{name}" for name in SELECTORS if name.startswith(last)]


Sites = Annotated[
    list[str],
    typer.Option(
        "--site", metavar="MODULE[:input]", help="What comes out of a module, or goes into it. May be repeated."
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="sotu, clinosim, clinosim:FOLDER, hf:NAME, or a .txt, .jsonl or .parquet file or a folder of them.",
        autocompletion=_corpora,
        rich_help_panel=_READ,
    ),
]
TextField = Annotated[str, typer.Option(help="The column that holds the text.", rich_help_panel=_READ)]
ImageField = Annotated[str, typer.Option(help="The column that holds the path of a picture.", rich_help_panel=_READ)]
Context = Annotated[
    int | None,
    typer.Option(min=2, help="Tokens of a window of text.", show_default="256, or the model's", rich_help_panel=_READ),
]
Across = Annotated[
    bool, typer.Option("--across", help="Let a window go on in the next document.", rich_help_panel=_READ)
]
Selector = Annotated[
    str,
    typer.Option(
        help="Which tokens: text, assistant, last-image, patches:16, balanced:0.5 ..., with + between them.",
        autocompletion=_selectors,
        rich_help_panel=_KEPT,
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="WORDS", help="Words that every prompt says; left out.", rich_help_panel=_KEPT),
]
Tokens = Annotated[
    int | None, typer.Option(min=1, help="How many are kept.", show_default="all", rich_help_panel=_KEPT)
]
StoredDtype = Annotated[
    Literal["bfloat16", "float16", "float32", "int8"],
    typer.Option("--dtype", help="How they are stored; int8 with a scale for each token.", rich_help_panel=_KEPT),
]
ModelDtype = Annotated[str, typer.Option("--model-dtype", help="What the model computes in.", show_default="float32")]
ShardTokens = Annotated[int, typer.Option(min=1, help="Tokens of a shard; a run that is killed loses one at most.")]
BatchTokens = Annotated[int, typer.Option(min=1, help="Positions in one call of the network.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; a stopped run goes on there.")]


def harvest(
    site: Sites,
    data: Data,
    out: Out,
    model: options.ModelName = "smollm2",
    text_field: TextField = "text",
    image_field: ImageField = "image",
    context: Context = None,
    across: Across = False,
    selector: Selector = "text",
    without: Without = None,
    tokens: Tokens = None,
    dtype: StoredDtype = "bfloat16",
    model_dtype: ModelDtype = "float32",
    device: options.Device = "cpu",
    shard_tokens: ShardTokens = 32_768,
    batch_tokens: BatchTokens = 4_096,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Keep what passes at some modules of a model while it reads a corpus. A stopped run goes on where it was.

    Example: pellucid sae harvest --model smollm2 --site model.layers.15 --data sotu --tokens 400000 --out store

    Example: pellucid sae harvest --model llava-easy-vqa --site model.language_model.layers.1 --data questions.jsonl
    --selector text+patches:8 --out store
    """
    from pellucid.models import load
    from pellucid.sae.store import TokenSelector, read_corpus
    from pellucid.sae.store import harvest as harvested

    kept = TokenSelector.of(selector).model_copy(update={"without": tuple(without or ())})
    corpus = read_corpus(data, text_field=text_field, image_field=image_field)
    store = harvested(
        load(model, device=device, dtype=model_dtype), site, corpus, out, selector=kept, context=context,
        tokens=tokens, dtype=dtype, across=across, shard_tokens=shard_tokens, batch_tokens=batch_tokens, seed=seed,
        on_estimate=_told,
    )  # fmt: skip
    _warned(store)
    if as_json:
        output.document(_document(store))
    else:
        _shown(store)


def _warned(store: "Store") -> None:
    """Say where a few tokens with norms like no other's would rule what is trained."""
    for site in store.manifest.sites:
        found = store.statistics(site)
        if found.largest_norm > OUTLYING * found.mean_norm:
            output.notice(
                f"At {site} a token has the norm {found.largest_norm:.4g}, and the mean is {found.mean_norm:.4g}. Near "
                "the beginning of a text attention may gather in more than the first token, and such tokens are much "
                "of the variance; --selector text+from:4 leaves the first four out."
            )


def _told(estimate: "Estimate") -> None:
    output.notice(f"To do: {estimate}.")


def _document(store: "Store") -> dict[str, Any]:
    manifest = store.manifest
    return {
        "folder": str(store.folder),
        "digest": store.digest,
        "model": manifest.model,
        "corpus": manifest.corpus,
        "selector": manifest.selector.model_dump(mode="json"),
        "dtype": manifest.dtype,
        "tokens": len(store),
        "samples": store.samples,
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "sites": {site: _site(store, site) for site in manifest.sites},
    }


def _site(store: "Store", site: str) -> dict[str, Any]:
    kinds = {}
    for kind in store.manifest.sums[site]:
        found = store.statistics(site, kind)
        names = ("count", "mean_norm", "mean_square_norm", "total_variance", "largest_norm")
        numbers = {name: getattr(found, name) for name in names}
        kinds[kind] = {name: value if isfinite(value) else None for name, value in numbers.items()}
    return {"d_in": store.manifest.d_in[site], "statistics": kinds}


def _shown(store: "Store") -> None:
    manifest = store.manifest
    output.line(f"{len(store):,} tokens of {store.samples:,} samples of {manifest.corpus}, read by {manifest.model}")
    for site in manifest.sites:
        for kind in manifest.sums[site]:
            found = store.statistics(site, kind)
            said = f"norm {found.mean_norm:.4g} on average, total variance {found.total_variance:.4g}"
            output.line(f"{site}, {kind}: {found.count:,} tokens of {manifest.d_in[site]} numbers, {said}")
    output.line(f"{manifest.bytes / 1e9:.3g} GB in {len(manifest.shards)} shards, {manifest.dtype}: {store.folder}")
