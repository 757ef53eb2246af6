"""A steering experiment as one self-contained page: curves over strength, verdicts, and answers side by side."""

from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from pellucid.report import figures, steering_figures
from pellucid.report.heatmap import MINUS
from pellucid.report.page import environment, stylesheet

VERDICTS = {True: "steers as labelled", False: "does not steer", None: "cannot be told"}


def steering_page(summary: Mapping[str, Any]) -> str:
    """The page of an experiment, from the document that ``summary.json`` holds."""
    style = _style()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    template = _environment().get_template("steering.html.j2")
    # The style sheet is ours and part of the package: the one text that is not escaped.
    return template.render(run=summary, style=Markup(style), policy=policy, verdicts=VERDICTS)


@cache
def _environment() -> Environment:
    made = environment()
    made.filters |= {"interval": _interval, "condition": condition_in_words}
    made.globals |= {"figures": figures, "curves": steering_figures}
    return made


@cache
def _style() -> str:
    own = files("pellucid.report").joinpath("assets/steering.css").read_text("utf-8")
    return f"{stylesheet()}\n{own}\n"


def _interval(given: Mapping[str, Any] | None) -> str:
    """An interval for a table; a dash where there is none."""
    return "\N{EN DASH}" if given is None else steering_figures.in_words(given)


def condition_in_words(key: str) -> str:
    """A condition's name for people.

    >>> condition_in_words("random-direction add 4"), condition_in_words("prompted")
    ('a random direction, add 4', 'asked in words')
    """
    arm, _, rest = key.partition(" ")
    called = {**steering_figures.ARMS, **steering_figures.LEVELS}[arm][0]
    return f"{called}, {rest.replace('-', MINUS)}" if rest else called
