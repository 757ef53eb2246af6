"""Pages about latents as self-contained HTML: no network; a script only in the index, known by its digest."""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from pellucid.report import latents_figures
from pellucid.report.colour import VIK
from pellucid.report.latents_view import IndexView, LatentView, LogitView, PatchesView
from pellucid.report.page import SENTENCE_LIMIT, environment, stylesheet
from pellucid.report.visible import visible

COLUMNS = ("latent", "density", "maximum", "group", "score", "explanation")
"""What the index holds of each latent."""


def latent_page(view: LatentView) -> str:
    """One latent as one complete page, without any script."""
    return _environment().get_template("latent.html.j2").render(view=view, style=Markup(_style()), policy=_policy())


def index_page(index: IndexView) -> str:
    """The list of latents with search and filters, which a small script inside the page does."""
    script = _asset("latents.js")
    rows = [[_plain(getattr(row, name)) for name in COLUMNS] for row in index.rows]
    data = json.dumps({"columns": COLUMNS, "score": index.score, "rows": rows}, ensure_ascii=False, allow_nan=False)
    # Inside a script element only its end could be mistaken for one.
    safe = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return (
        _environment()
        .get_template("latent_index.html.j2")
        .render(index=index, style=Markup(_style()), policy=_policy(script), script=Markup(script), data=Markup(safe))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return visible(value, SENTENCE_LIMIT) if isinstance(value, str) else value


def share(fraction: float) -> str:
    """A share in percent, to two digits.

    >>> share(0.25), share(0.000123), share(0.0)
    ('25 %', '0.012 %', '0 %')
    """
    return f"{float(f'{100 * fraction:.2g}'):.10f}".rstrip("0").rstrip(".") + " %"


def _png(view: PatchesView, limit: float, heat: bool) -> Markup:
    return Markup(latents_figures.png_of(view, limit, heat=heat))


def _largest(logits: tuple[LogitView, ...]) -> float:
    return max((abs(each.value) for each in logits), default=0.0)


@cache
def _environment() -> Environment:
    made = environment()
    made.filters |= {"share": share, "png": _png}
    made.globals |= {"figures": latents_figures, "vik": VIK, "range_of": range, "largest": _largest}
    return made


def _asset(name: str) -> str:
    return files("pellucid.report").joinpath(f"assets/{name}").read_text("utf-8")


@cache
def _style() -> str:
    return f"{stylesheet()}{_asset('latents.css')}"


def _policy(script: str = "") -> str:
    """Nothing may be fetched; of styles and scripts only ours, known by their digests."""
    scripts = f" script-src {_source(script)};" if script else ""
    return (
        f"default-src 'none'; style-src {_source(_style())};{scripts} img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
