"""The leaderboards of a benchmark as one self-contained page: first what they mean, then every number."""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment
from markupsafe import Markup

from pellucid.errors import InputError
from pellucid.report import figures, leaderboard_figures, leaderboard_tables, leaderboard_words
from pellucid.report.heatmap import digits
from pellucid.report.leaderboard import Board
from pellucid.report.page import environment, shown, stylesheet


def leaderboard_page(boards: Sequence[Board], bibtex: str) -> str:
    """One page of all tasks, without a script and without the network.

    Args:
        boards: the leaderboards, one for each task, in the order in which they are to be read.
        bibtex: entries of the methods, metrics and data that took part; empty where there are none.

    Raises:
        InputError: there is no board.
    """
    if not boards:
        raise InputError("there are 0 boards, and a leaderboard shows at least 1; run a benchmark first.")
    style = _style()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    template = _environment().get_template("leaderboard.html.j2")
    # The style sheet is ours and part of the package: the one text that is not escaped.
    return template.render(boards=boards, bibtex=bibtex.splitlines(), style=Markup(style), policy=policy)


@cache
def _environment() -> Environment:
    made = environment()
    made.filters |= {
        "amount": leaderboard_words.amount,
        "counted": leaderboard_words.counted,
        "listed": leaderboard_words.listed,
        "memory": leaderboard_words.memory,
        "named": named,
        "p_value": p_value,
        "titled": leaderboard_words.titled,
    }
    made.globals |= {
        "drawn": leaderboard_figures,
        "figures": figures,
        "interval": leaderboard_words.interval,
        "tables": leaderboard_tables,
        "words": leaderboard_words,
    }
    return made


@cache
def _style() -> str:
    own = files("pellucid.report").joinpath("assets/leaderboard.css").read_text("utf-8")
    return f"{stylesheet()}\n{own}\n"


def named(text: str, limit: int = 300) -> Markup:
    """Names as HTML, that may be broken behind an underscore or a colon: neither is in the tags around them.

    >>> named("captum:lime")
    Markup('<bdi>captum:<wbr>lime</bdi>')
    """
    found = str(shown(text, limit))
    return Markup(found.replace("_", "_<wbr>").replace(":", ":<wbr>"))  # escaped by ``shown``


def p_value(value: float | None) -> str:
    """A p-value for a table.

    >>> p_value(0.0004), p_value(0.031), p_value(None)
    ('< 0.001', '0.031', '–')
    """
    if value is None:
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else digits(value)
