"""The card of a released autoencoder: Markdown with a head that model hubs read."""

from collections.abc import Iterator, Mapping
from statistics import median

import yaml

from pellucid._version import __version__
from pellucid.sae.autoencoder import SAE
from pellucid.sae.evaluation.records import Evaluation
from pellucid.sae.interpretation.results import Interpretation

PEERS = {
    "sae-lens": 'from sae_lens import SAE\nsae = SAE.load_from_disk("FOLDER")',
    "dictionary-learning": (
        'from dictionary_learning.utils import load_dictionary\nsae, config = load_dictionary("FOLDER", device="cpu")'
    ),
    "sparsify": 'from sparsify import SparseCoder\nsae = SparseCoder.load_from_disk("FOLDER")',
}
"""How the libraries load their own layouts."""


def card(
    sae: SAE,
    *,
    name: str,
    format: str,
    license: str = "",
    interpretations: Mapping[int, Interpretation] | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """The text of ``README.md``; what is not known is left out, not filled in."""
    parts = [
        _head(sae, format, license),
        f"# {_line(name)}\n",
        _opening(sae),
        _table("What it is", _architecture(sae)),
        _table("Where it comes from", _origin(sae)),
    ]
    if evaluation is not None:
        parts.append(_table("How well it reconstructs", _evaluation(evaluation)))
    if interpretations is not None:
        parts.append(_interpretations(interpretations))
    parts += [_loading(format), _checking()]
    return "\n".join(part for part in parts if part)


def _head(sae: SAE, format: str, license: str) -> str:
    library = {"pellucid": "pellucid", "sae-lens": "saelens"}.get(format, format)
    head: dict[str, object] = {"license": license} if license else {}
    head["library_name"] = library
    # Hubs take only names of their own there.
    if "/" in sae.origin.model:
        head["base_model"] = sae.origin.model
    head["tags"] = ["sparse-autoencoder", "interpretability", sae.config.architecture]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _opening(sae: SAE) -> str:
    place = f" at `{_line(sae.origin.site)}`" if sae.origin.site else ""
    whose = f" of **{_line(sae.origin.model)}**" if sae.origin.model else ""
    return (
        f"A sparse autoencoder ({sae.config.architecture}, {sae.config.width:,} latents) of the "
        f"{sae.config.d_in}-dimensional activations{whose}{place}.\n"
    )


def _architecture(sae: SAE) -> Iterator[tuple[str, str]]:
    config = sae.config
    yield "architecture", config.architecture
    yield "width of the activations", f"{config.d_in:,}"
    yield "latents", f"{config.width:,}"
    if config.architecture != "jumprelu":
        yield "active on a token (k)", f"{config.k}"
    if len(config.prefixes) > 1:
        yield "nested prefixes", ", ".join(f"{size:,}" for size in config.prefixes)
        yield "their weights in the loss", ", ".join(f"{weight:.4g}" for weight in config.prefix_weights)
    if config.architecture in ("batchtopk", "matryoshka"):
        yield "threshold of inference", f"{float(sae.threshold):.6g}"
    yield "normalisation", config.normalisation
    yield "decoder bias taken off before encoding", "yes" if config.subtract_decoder_bias else "no"


def _origin(sae: SAE) -> Iterator[tuple[str, str]]:
    origin = sae.origin
    for said, value in (
        ("model", origin.model),
        ("weights of the model (SHA-256)", origin.fingerprint),
        ("site", origin.site),
        ("corpus", origin.corpus),
        ("tokens of training, repeats included", f"{origin.tokens:,}" if origin.tokens else ""),
        ("which tokens", ", ".join(f"{name}: {value}" for name, value in origin.selector.items() if value)),
        ("activations (SHA-256)", origin.store),
        *((f"training: {name}", str(value)) for name, value in origin.training.items()),
    ):
        if value:
            yield said, value


def _evaluation(found: Evaluation) -> Iterator[tuple[str, str]]:
    kind = {
        True: "not the same corpus file as in training; texts may be in both",
        False: "NOT held out: tokens of the training",
        None: "not known whether held out",
    }
    yield "tokens", f"{found.all.tokens:,} of {_line(found.corpus)}; {kind[found.held_out]}"
    for name, quality in {"": found.all, **(found.modalities if len(found.modalities) > 1 else {})}.items():
        of = f" ({name})" if name else ""
        if quality.fvu is not None:
            yield f"variance unexplained{of}", f"{quality.fvu:.4f}"
        if quality.worst_share is not None:
            yield f"share of that error in the worst token{of}", f"{quality.worst_share:.1%}"
        yield f"active latents a token (L0){of}", f"{quality.l0:.1f}"
        if quality.cosine is not None:
            yield f"cosine{of}", f"{quality.cosine:.4f}"
        yield f"dead latents{of}", f"{quality.dead_share:.1%} on {quality.tokens:,} tokens"
    if found.loss is not None:
        loss = found.loss
        yield "cross-entropy: clean, spliced, zeros", f"{loss.ce_clean:.3f}, {loss.ce_spliced:.3f}, {loss.ce_zero:.3f}"
        for said, score in (("CE score", loss.ce_score), ("KL score", loss.kl_score)):
            if score.value is not None:
                span = "" if score.low is None else f" [{score.low:.4f}, {score.high:.4f}]"
                yield said, f"{score.value:.4f}{span}"


def _interpretations(found: Mapping[int, Interpretation]) -> str:
    """How many explanations there are, and how well they hold beside the baselines."""
    explained = [each for each in found.values() if each.explanation]
    lines = [
        f"## What its latents stand for\n\n`interpretations.jsonl` holds {len(explained):,} explanations of "
        f"{len(found):,} latents, `scores.csv` how well each holds on texts that it was not made from.\n",
        "| score | latents | median | with the explanation of another latent | by a judge that knows the truth |",
        "|---|---|---|---|---|",
    ]
    for name in sorted({name for each in found.values() for name in each.scores}):
        for measure, said in (("accuracy", "balanced accuracy"), ("auc", "AUC")):
            own = _values(found, "scores", name, measure)
            if own:
                beside = (_values(found, kind, name, measure) for kind in ("shuffled", "oracle"))
                cells = " | ".join(f"{median(each):.3f} ({len(each)})" if each else "" for each in beside)
                lines.append(f"| {name}, {said} | {len(own):,} | {median(own):.3f} | {cells} |")
    explainers = sorted({each.explainer for each in explained if each.explainer})
    judges = sorted({judge for each in found.values() for judge in each.judges.values()})
    said = f"Explained by {', '.join(explainers) or 'an unknown explainer'}; judged by {', '.join(judges) or 'nobody'}."
    return "\n".join([*lines, "", f"{_line(said)} 0.5 is guessing.\n"])


def _values(found: Mapping[int, Interpretation], kind: str, name: str, measure: str) -> list[float]:
    scores = (getattr(each, kind).get(name) for each in found.values())
    values = (getattr(score, measure) for score in scores if score is not None)
    return [value.value for value in values if value is not None]


def _loading(format: str) -> str:
    ours = 'from pellucid import sae\nmodel = sae.SAE.load("FOLDER")\nlatents = model.encode(activations)'
    theirs = f"\n```python\n{PEERS[format]}\n```\n" if format in PEERS else ""
    return f"## Use\n\n```python\n{ours}\n```\n{theirs}"


def _checking() -> str:
    return (
        "## Check\n\n`sha256sum -c SHA256SUMS`, or `pellucid sae release --verify FOLDER`, which also reads every "
        f"file. Packed by pellucid {__version__}.\n"
    )


def _table(title: str, rows: Iterator[tuple[str, str]]) -> str:
    cells = "\n".join(f"| {_line(name)} | {_line(value)} |" for name, value in rows)
    return f"## {title}\n\n| | |\n|---|---|\n{cells}\n" if cells else ""


def _line(text: str) -> str:
    """Foreign text as one line that ends no cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
