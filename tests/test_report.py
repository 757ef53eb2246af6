"""Pages and terminal views: hostile text stays text, checks come first, every number is there, nothing is fetched."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest

from pellucid.account import Entry
from pellucid.explanation import Explanation
from pellucid.records import Check, Checks, Cost, Feature, Fingerprint
from pellucid.report import (
    Accuracy,
    Agreement,
    AttributionView,
    CalibrationBin,
    CaseView,
    Change,
    CohortField,
    Counterfactual,
    Deletion,
    Interval,
    LedgerView,
    Option,
    RunView,
    explanation_fragment,
    explanation_page,
    explanation_text,
    run_page,
)
from pellucid.report.colour import VIK, ZERO, contrast, ink_on, stop_of
from pellucid.report.figures import ticks
from pellucid.report.heatmap import MINUS, cell, digits, limit_of
from pellucid.report.visible import visible
from pellucid.targets import Choice, Tokens

VOID = {"meta", "link", "br", "img"}
SELF_CLOSING = {"rect", "line", "circle", "polygon", "polyline"}
HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    "</style><img src=x onerror=alert(1)>",
    "\u202edesrever",
    "nul\x00nul",
    "zero\u200bwidth",
    "{{7*7}}{% raw %}",
    "&lt;b&gt;",
    "javascript:alert(1)",
    "\ud800",
    "👩‍⚕️",
    "[bold red]markup[/]",
    "\x1b[31mred",
    "line\nbreak",
]
FIELDS = {"age": "52-years", "nodes": "12-nodes", "hair": "brown-hair"}
GOOD = Check(name="completeness", value=1e-6, threshold=0.01, passed=True, decisive=True, detail="The sum fits.")
BAD = GOOD.model_copy(update={"value": 0.3, "passed": False, "detail": "It misses by 30 %."})


class Page(HTMLParser):
    """A strict reader: tags must balance, and everything that could run or fetch is collected."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text, self.headings = [], [], [], "", []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SELF_CLOSING
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def explained(values, features, *, names=("high",), error=None, items=(GOOD,)):
    values = np.asarray(values, np.float32).reshape(len(names), len(features))
    target = Choice(("low", "high"), "high") if len(names) == 1 else Tokens("".join(names))
    return Explanation(
        values=values,
        base_values=np.full(len(names), -2, np.float32),
        full_values=values.sum(1) - 2,
        standard_error=None if error is None else np.asarray(error, np.float32).reshape(values.shape),
        features=tuple(features),
        output_names=names,
        target=target,
        unit="log-probability",
        method="occlusion",
        settings={"groups": 3},
        baseline="text deleted",
        seed=0,
        checks=Checks(level="free", items=items),
        cost=Cost(forwards=4, rows=4, tokens=80, seconds=0.5),
        fingerprint=Fingerprint(
            model="tiny", weights="ab", tokenizer="cd", template="", dtype="float32", device="cpu",
            attention="sdpa", versions={"torch": "2.13.0"},
        ),
    )  # fmt: skip


def fields(**settings):
    features = [Feature(label=name, kind="field", value=text) for name, text in FIELDS.items()]
    return explained([0.25, -1.5, 0.0], features, **settings)


def tokens(texts, values=None, **settings):
    features = [Feature(label=text, kind="token", value=text, index=i) for i, text in enumerate(texts)]
    features.append(Feature(label="<|end|>", kind="token", value="<|end|>", role="template"))
    return explained([*(values or np.linspace(-1, 1, len(texts))), 9.0], features, **settings)


def matrix():
    features = [Feature(label=name, kind="field", value=text) for name, text in FIELDS.items()]
    values = [0.125, -0.5, 0.75, 1.125, 0.0625, -2.25]
    return explained(values, features, names=(" very", " high"), error=np.full(6, 0.031))


def traced(texts, names=("high",), layers=("embed", "block.0", "block.1"), account=(), notice="", values=None):
    """An explanation of tokens with relevance at every layer; the last token is the chat template's."""
    features = [Feature(label=text, kind="token", value=text) for text in texts]
    several = len(names) > 1
    bare = explained(np.zeros((len(names), len(texts))), features, names=names) if several else tokens(texts)
    shape = (len(names), len(layers), len(bare.features))
    found = np.random.default_rng(0).normal(size=shape) if values is None else np.asarray(values).reshape(shape)
    found = found.astype(np.float32)
    return bare.model_copy(
        update={
            "values": found[:, 0],
            "layer_values": found,
            "layer_names": tuple(layers),
            "account": tuple(account),
            "notice": notice,
        }
    )


def hostile_trace():
    rows = [Entry.of(text, text, arrived=2.0, handed_on=1.0, absorbed=0.5) for text in HOSTILE]
    return traced(HOSTILE, names=tuple(HOSTILE[:3]), layers=HOSTILE[3:8], account=rows, notice=HOSTILE[0])


def audit(stored=True, words=("A", " woman"), items=(GOOD,)):
    views = (
        AttributionView.of(fields(items=items), stored=stored, marks={"nodes": "expected", "hair": "decoy"}),
        AttributionView.of(tokens(words), stored=stored),
    )
    change = Change(field="nodes", before="12-nodes" if stored else None, after="1-node" if stored else None)
    case = CaseView(
        id="case-seven",
        decision="high",
        options=(Option(name="low", probability=0.25), Option(name="high", probability=0.75)),
        attributions=views,
        counterfactual=Counterfactual(changes=(change,), decision="low", probability=0.61),
        outcome="recurrence",
        correct=True,
        self_test=GOOD.model_copy(update={"name": "self_test"}),
        cost=Cost(forwards=9),
    )
    between = Interval(mean=0.5, low=0.25, high=0.625)
    return RunView(
        title="An audit",
        subtitle="tiny, 2 cases",
        headline=("One.", "Two.", "Three.", "Four.", "Five."),
        cases=(case, replace(case, id="case-eight", counterfactual=None, no_counterfactual="Nothing flips it.")),
        unit="log-probability",
        cohort=tuple(CohortField(name=name, signed=between, absolute=between) for name in FIELDS),
        interval="95 % bootstrap.",
        hardware=(("processor", "two cores"),),
        method=(("template", "Age: {age}"),),
        proves=("It shows this.",),
        proves_not=("It is not causal.",),
        ledger=LedgerView(count=2, head="ff" * 32, key_id="key-one", verify="pellucid audit verify out"),
        agreement=Agreement(
            expected=("nodes",), k=1, precision_at_k=1.0, rank_correlation=None, decoy_ranks={"hair": 2.5}, fields=3
        ),
        accuracy=Accuracy(
            cases=2, accuracy=between, event="high", brier=0.125, expected_calibration_error=0.1875,
            bins=(CalibrationBin(predicted=0.4, observed=0.5, count=2),),
        ),
        deletion=Deletion(
            fraction=(0.0, 1.0), attributed=(between, between), random=(between, between), unit="log-probability",
            verdict="No better than chance.",
        ),
        text_stored=stored,
    )  # fmt: skip


PAGES = {
    "fields": lambda: explanation_page(fields(error=[0.1, 0.2, 0.3])),
    "tokens": lambda: explanation_page(tokens(HOSTILE)),
    "matrix": lambda: explanation_page(matrix()),
    "fragment": lambda: explanation_fragment(tokens(HOSTILE)),
    "run": lambda: run_page(audit(words=HOSTILE)),
    "redacted": lambda: run_page(audit(stored=False)),
    "traced": lambda: explanation_page(hostile_trace()),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_balanced_and_can_neither_run_nor_fetch(name):
    html = PAGES[name]()
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "img", "base", "form", "audio", "video"} & set(page.tags)
    for tag, attribute, value in page.attributes:
        assert not attribute.startswith("on")
        assert attribute not in {"src", "srcset", "action", "style", "xlink:href", "data"}, (tag, attribute)
        assert attribute != "href" or value.startswith("#") or value == "data:,"
    style = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert style
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("name", PAGES)
def test_ids_are_unique_links_lead_somewhere_and_headings_do_not_skip(name):
    page = Page(PAGES[name]())
    ids = [value for _, attribute, value in page.attributes if attribute == "id"]
    links = [value[1:] for _, attribute, value in page.attributes if attribute == "href" and value[0] == "#"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_the_policy_allows_exactly_the_style_sheet_that_is_there():
    for html in (explanation_page(fields()), run_page(audit())):
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
        (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        digest = b64encode(sha256(style.encode()).digest()).decode()
        assert "default-src 'none'" in policy.replace("&#39;", "'")
        assert f"style-src 'sha256-{digest}'" in policy.replace("&#39;", "'")
        assert "unsafe" not in policy


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_text_wherever_it_comes_in(hostile):
    quiet = Page(run_page(audit(words=("x",))))
    view = audit(words=(hostile,), items=(GOOD.model_copy(update={"detail": hostile, "name": hostile}),))
    case = replace(
        view.cases[0],
        id=hostile,
        decision=hostile,
        options=(Option(name=hostile, probability=1.0), Option(name="x", probability=0.0)),
        counterfactual=Counterfactual(changes=(Change(field=hostile, before=hostile, after=hostile),),
                                      decision=hostile, probability=0.5),
    )  # fmt: skip
    view = replace(
        view, title=hostile, subtitle=hostile, headline=(hostile,) * 5, cases=(case, view.cases[1]), unit=hostile,
        cohort=(replace(view.cohort[0], name=hostile), *view.cohort[1:]), method=((hostile, hostile),),
    )  # fmt: skip
    html = run_page(view)
    html.encode()
    page = Page(html)
    allowed = set(quiet.tags) | {"br", "span"}
    assert set(page.tags) <= allowed
    assert {name for _, name, _ in page.attributes} <= {name for _, name, _ in quiet.attributes}
    for character in "\u202e\u200b\x00\ud800\x1b":
        assert character not in html
    assert visible(hostile).replace("⏎", "") in page.text.replace("⏎", "")


def test_a_hidden_character_stands_as_its_code_point_and_emoji_stay_whole():
    assert visible("a\u202eb\u2066c\x00\x7f\ufeff") == "a⟨U+202E⟩b⟨U+2066⟩c⟨U+0000⟩⟨U+007F⟩⟨U+FEFF⟩"
    assert visible("\U000e0041\u3164\u00ad") == "⟨U+E0041⟩⟨U+3164⟩⟨U+00AD⟩"
    assert visible("👩‍⚕️ 👨‍👩‍👧 ❤️") == "👩‍⚕️ 👨‍👩‍👧 ❤️"
    assert visible("a\u200db") == "a⟨U+200D⟩b"
    assert visible("\u200b" * 50) == "⟨U+200B⟩\N{MULTIPLICATION SIGN}50"
    assert visible("Z" + "\u0301" * 40).count("\u0301") == 4
    assert visible("naïve Ünïcödé مرحبا") == "naïve Ünïcödé مرحبا"


def test_a_token_is_isolated_and_its_line_break_drawn():
    html = explanation_fragment(tokens(["\u202eevil", "a\nb"]))
    assert "<bdi><span class='escape'>⟨U+202E⟩</span>evil</bdi>" in html
    assert "<bdi>a<span class='escape'>⏎</span><br>b</bdi>" in html


def test_a_megabyte_of_text_is_cut_and_its_length_stated():
    million = "x" * 1_000_000
    for html in (explanation_page(tokens([million])), run_page(audit(words=(million,)))):
        assert len(html) < 100_000
        assert "(1,000,000 characters)" in html
    assert len(explanation_text(tokens([million]))) < 5_000


def test_ink_is_legible_on_every_colour_and_the_style_sheet_uses_it():
    css = explanation_fragment(fields())
    for stop, colour in enumerate(VIK):
        assert contrast(ink_on(colour), colour) >= 4.5
        assert f".v{stop} {{ background: {colour}; color: {ink_on(colour)}; }}" in css
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_the_fixed_text_colours_are_legible_in_light_dark_and_print():
    css = re.search(r"<style>(.*?)</style>", explanation_fragment(fields()), re.DOTALL)[1]
    themes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block)) for block in css.split("@media")]
    themes = [
        {name: c if len(c) == 7 else "#" + "".join(2 * digit for digit in c[1:]) for name, c in theme.items()}
        for theme in themes
        if "ground" in theme
    ]
    assert len(themes) == 3
    for theme in themes:
        for ground in ("ground", "raised", "good-ground", "bad-ground", "unsure-ground"):
            for ink in ("ink", "soft"):
                assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for ink in ("accent", "good", "bad", "unsure"):
            assert contrast(theme[ink], theme["ground"]) >= 4.5, ink


def test_the_scale_is_symmetric_and_zero_and_nan_are_neutral():
    assert [stop_of(v, 1.0) for v in (-1.0, 0.0, 1.0)] == [0, ZERO, len(VIK) - 1]
    assert all(stop_of(v, 1.0) + stop_of(-v, 1.0) == 2 * ZERO for v in np.linspace(0, 1, 101).tolist())
    assert stop_of(float("nan"), 1.0) == stop_of(3.0, 0.0) == ZERO


def test_a_bar_is_as_long_as_its_value_and_leaves_from_the_middle():
    full, half, negative = cell(2.0, 2.0), cell(1.0, 2.0), cell(-1.0, 2.0, error=0.5)
    assert half.width == pytest.approx(full.width / 2)
    assert half.start == 100
    assert negative.start + negative.width == pytest.approx(100)
    assert negative.whisker[1] - negative.whisker[0] == pytest.approx(full.width / 2)
    assert cell(5.0, 2.0).clipped
    assert not full.clipped


def test_the_scale_of_a_case_is_that_of_what_the_person_wrote():
    views = [AttributionView.of(fields()), AttributionView.of(tokens(["a", "b"]))]
    assert [limit_of(view, views) for view in views] == [1.5, 1.5]
    other = replace(views[1], method="lime")
    assert [limit_of(view, [views[0], other]) for view in (views[0], other)] == [1.5, 1.0]
    html = explanation_fragment(tokens(["a", "b"]))
    assert "what lies beyond the scale is drawn at its end" in html


def test_the_sign_is_a_glyph_as_well_as_a_colour():
    html = explanation_fragment(tokens([" for", " against"], [1.0, -1.0]))
    assert "<span class='sign'>+</span><bdi>for</bdi>" in html
    assert f"<span class='sign'>{MINUS}</span><bdi>against</bdi>" in html
    lines = explanation_text(fields()).splitlines()
    assert re.search(rf"nodes .* {MINUS}+│ ", next(line for line in lines if "nodes" in line))
    assert re.search(r"│\++ ", next(line for line in lines if "age" in line))


@pytest.mark.parametrize(
    ("items", "words"),
    [((GOOD,), "✓ Reliable"), ((BAD,), "✗ NOT RELIABLE"), ((), "○ Not checked")],
)
def test_the_verdict_stands_before_every_value(items, words):
    explanation = fields(items=items)
    text = Page(explanation_fragment(explanation)).text
    assert -1 < text.index(words) < text.index(f"{MINUS}1.500")
    plain = explanation_text(explanation)
    assert plain.lower().startswith(words.lower())
    for item in items:
        assert text.index(item.detail) < text.index(f"{MINUS}1.500")
        assert plain.index(item.detail) < plain.index(f"{MINUS}1.500")
    article = re.search(r"<article.*?</article>", run_page(audit(items=items)), re.DOTALL)[0]
    assert article.index(words) < article.index(f"{MINUS}1.500")


def test_the_decisions_tell_every_verdict_apart():
    view = audit()
    broken = GOOD.model_copy(update={"passed": False})
    unsure = replace(view.cases[0].attributions[1], checks=Checks())
    case = replace(view.cases[0], attributions=(view.cases[0].attributions[0], unsure), self_test=broken)
    assert case.verdicts == (("fields", True), ("tokens", None), ("self-test", False))
    page = run_page(replace(view, cases=(case,)))
    row = re.search(r"<tbody>\s*<tr>.*?</tr>", page, re.DOTALL)[0]
    assert row.index("fields") < row.index("✓ Reliable") < row.index("tokens") < row.index("○ Not checked")
    assert row.index("self-test") < row.index("✗ NOT RELIABLE")


@pytest.mark.parametrize("build", [lambda: fields(error=[0.011, 0.022, 0.033]), lambda: tokens(["a", "b"]), matrix])
def test_every_number_is_in_a_table(build):
    explanation = build()
    rows = " ".join(re.findall(r"<tbody>.*?</tbody>", explanation_page(explanation), re.DOTALL))
    for value in explanation.values.ravel():
        assert digits(float(value), signed=True) in rows
    for value in [] if explanation.standard_error is None else explanation.standard_error.ravel():
        assert digits(float(value)) in rows
    for total in explanation.values.sum(0):
        assert digits(float(total), signed=True) in rows


def test_what_decides_the_numbers_is_told():
    text = Page(explanation_page(matrix())).text
    for word in ("occlusion", "Tokens", "log-probability", "text deleted", "groups", "float32", "2.13.0", "0.50 s"):
        assert word in text


def test_digits_never_hide_a_small_number_or_fake_a_zero():
    assert digits(0.0004, signed=True) == f"+4.00e{MINUS}4"
    assert digits(-12345678.0) == f"{MINUS}1.23e7"
    assert digits(float("inf")) == "∞"
    assert "not a number" in explanation_page(tokens(["a", "b"], [float("nan"), 1.0]))
    assert "not a number" in explanation_text(tokens(["a", "b"], [float("nan"), 1.0]))


def test_a_run_without_stored_text_shows_scores_and_no_text():
    shown, hidden = run_page(audit(words=("secret-word",))), run_page(audit(stored=False, words=("secret-word",)))
    for text in (*FIELDS.values(), "secret-word", "1-node"):
        assert text in shown
        assert text not in hidden
    for name in FIELDS:
        assert name in hidden
    assert f"{MINUS}1.500" in hidden
    assert "was not stored" in hidden


def test_a_run_shows_every_part():
    text = " ".join(Page(run_page(audit())).text.split())
    for words in (
        "Five.", "case-eight", "0.750", "If nodes were 1-node instead of 12-nodes, the decision would be low, p 0.610.",
        "Nothing flips it.", "two cores", "Age: {age}", "It is not causal.", "ff" * 32, "key-one", "undefined",
        "No better than chance.", "0.188", "expected", "decoy", "recurrence", "9 forward passes",
    ):  # fmt: skip
        assert words in text, words


def test_a_bare_run_still_makes_a_page():
    bare = replace(audit(), agreement=None, accuracy=None, deletion=None, ledger=None, cohort=(), cases=())
    text = Page(run_page(bare)).text
    assert "Calibration" not in text
    assert "Ledger" not in text


def test_the_same_explanation_is_the_same_page():
    assert explanation_page(matrix()) == explanation_page(matrix())
    assert explanation_text(matrix()) == explanation_text(matrix())
    assert run_page(audit()) == run_page(audit())
    first, second = (re.search(r'id="(x\w+)"', explanation_fragment(e))[1] for e in (fields(), fields(items=(BAD,))))
    assert first != second


def test_a_notebook_gets_both_views():
    bundle = fields()._repr_mimebundle_()
    assert bundle == {"text/html": explanation_fragment(fields()), "text/plain": explanation_text(fields())}
    assert "\x1b" not in bundle["text/plain"]


def test_ticks_are_round_and_inside():
    for low, high in [(0.0, 1.0), (-0.37, 2.9), (1e-5, 3e-5), (-2000.0, 100.0)]:
        found = ticks(low, high)
        assert 2 <= len(found) <= 7
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
        assert np.ptp(np.diff(found)) < 1e-9 * (high - low) + 1e-12
