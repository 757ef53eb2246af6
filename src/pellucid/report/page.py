"""Explanations and audits as self-contained HTML: no script, no network, every foreign text escaped."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pellucid.explanation import Explanation
from pellucid.report import accounts, experts, figures, firings, grid, heatmap, overlays, pictures, places
from pellucid.report.colour import NEGATIVE, POSITIVE, VIK, palette_css
from pellucid.report.run_view import RunView
from pellucid.report.view import AttributionView, PictureView, plural
from pellucid.report.visible import LIMIT, pieces, visible

SENTENCE_LIMIT = 4000
"""Characters of a text that is printed as it stands: sentences of ours, with at most some foreign words in them."""

_DRAWN = {
    "plain": Markup("{}"),
    "escape": Markup("<span class='escape'>{}</span>"),
    "break": Markup("<span class='escape'>{}</span><br>"),
    "note": Markup("<span class='note'>{}</span>"),
}


def shown(text: object, limit: int = LIMIT, sign: str = "") -> Markup:
    """Foreign text as HTML: escaped, isolated from the direction of its surroundings, hidden characters drawn.

    A ``sign`` is set small before the first visible character.
    """
    whole = str(text)
    space = whole[: len(whole) - len(whole.lstrip(" "))] if sign else ""
    glyph = Markup("<span class='sign'>{}</span>").format(sign) if sign else ""
    drawn = Markup("").join(_DRAWN[piece.kind].format(piece.text) for piece in pieces(whole[len(space) :], limit))
    return Markup("{}{}<bdi>{}</bdi>").format(space[:limit], glyph, drawn)


def _made_safe(value: object) -> object:
    """Applied by Jinja to whatever a template prints, so that no text reaches a page unseen, even in an attribute."""
    return visible(value, SENTENCE_LIMIT) if isinstance(value, str) and not isinstance(value, Markup) else value


def png(array: pictures.Colours, picture: PictureView) -> Markup:
    """A drawing as an address that holds it; of letters that need no escaping, and longer than any text may be."""
    return Markup(pictures.png_uri(array, picture))


def environment() -> Environment:
    """What every page is rendered in: all that a template prints is escaped, and its hidden characters are drawn."""
    made = Environment(
        loader=PackageLoader("pellucid.report"),
        autoescape=True,
        finalize=_made_safe,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "plain": visible, "digits": heatmap.digits}
    return made


@cache
def _environment() -> Environment:
    made = environment()
    made.filters |= {
        "png": png,
        "plural": plural,
        "in_words": figures.in_words,
    }
    made.globals |= {
        "heatmap": heatmap,
        "figures": figures,
        "pictures": pictures,
        "overlays": overlays,
        "places": places,
        "grids": grid,
        "mixtures": experts,
        "accounts": accounts,
        "firings_of": firings,
        "vik": VIK,
        "negative": NEGATIVE,
        "positive": POSITIVE,
    }
    return made


@cache
def stylesheet() -> str:
    """The style sheet of every page and fragment: all of its rules lie below ``.pellucid``."""
    return f"{files('pellucid.report').joinpath('assets/report.css').read_text('utf-8')}\n{palette_css()}\n"


def _content_security_policy() -> str:
    """Nothing may be fetched and nothing may run; of styles only ours, known by its digest."""
    digest = b64encode(sha256(stylesheet().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _render(template: str, **context: Any) -> str:
    # The style sheet is ours and part of the package: the one text that is not escaped.
    style = Markup(stylesheet())
    return _environment().get_template(template).render(style=style, policy=_content_security_policy(), **context)


def _identity(view: AttributionView) -> str:
    """An id for the fragment that follows from its content, so that the same explanation is always the same page."""
    return f"x{sha256(repr(view).encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


def explanation_fragment(explanation: Explanation) -> str:
    """One explanation as a script-free HTML fragment with its own scoped style, for notebooks."""
    view = AttributionView.of(explanation)
    return _render("fragment.html.j2", attribution=view, identity=_identity(view))


def explanation_page(explanation: Explanation) -> str:
    """One explanation as one complete, self-contained HTML page."""
    view = AttributionView.of(explanation)
    return _render("explanation.html.j2", attribution=view, identity=_identity(view))


def run_page(view: RunView) -> str:
    """A whole audit as one complete, self-contained HTML page."""
    return _render("run.html.j2", run=view)
