"""Layers, answers and accounts, drawn: the right colour in the right cell, the numbers beside, nothing to run."""

import re
from dataclasses import replace
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pellucid.account import Entry, summed
from pellucid.errors import InputError, MissingPackageError
from pellucid.report import AttributionView, explanation_page, explanation_text, plots, run_page
from pellucid.report.accounts import BAR_WIDTH, MOST_ENTRIES, account_chart, in_words
from pellucid.report.colour import VIK, ZERO, stop_of
from pellucid.report.grid import MOST_CELLS, MOST_COLUMNS, MOST_NUMBERED, answer_map, layer_map, runs
from pellucid.report.heatmap import MINUS, digits, strongest
from pellucid.report.overlays import contours, top_mask
from pellucid.report.pictures import heat
from test_report import HOSTILE, Page, audit, fields, hostile_trace, matrix, traced
from test_report_pictures import quarters

ACCOUNT = (
    Entry.of("linear", "block.0.mlp", arrived=2.0, handed_on=1.5, absorbed=0.5),
    Entry.of("linear", "block.1.mlp", arrived=1.0, handed_on=1.25, absorbed=-0.25),
    Entry.of("softmax", "block.0.attn", arrived=-1.0, handed_on=-0.5, absorbed=0.25),
    Entry.of("gelu", "block.0.act", arrived=3.0, handed_on=3.0 - 1e-6),
)
ODD = Entry(operation="exp", module="", in_=float("inf"), out=0.0, absorbed=0.0, leaked=float("nan"))
WORDS = [" a", " b", " c", " d"]


def tables(html):
    """Every grid of a page as its rows from the top: a name, and of each cell the stop and the title."""
    found = []
    for table in re.findall(r'<table class="grid[^"]*">.*?</table>', html, re.DOTALL):
        rows = re.findall(r'<tr><th scope="row"[^>]*><bdi>(.*?)</bdi></th>(.*?)</tr>', table)
        cell = re.compile(r'<td class="v(\d+)"(?: title="([^"]*)")?>')
        found.append([(unescape(name), [(int(s), unescape(t)) for s, t in cell.findall(row)]) for name, row in rows])
    return found


def test_every_cell_of_the_layer_map_has_its_layer_its_token_its_colour_and_its_number():
    explanation = traced(WORDS)
    html = explanation_page(explanation)
    (table,) = tables(html)
    # The last feature is the template's and does not set the scale.
    limit = float(np.abs(explanation.layer_values[:, :, :4]).max())
    assert [name for name, _ in table] == ["block.1", "block.0", "embed"]
    for (name, cells), values in zip(table, explanation.layer_values[0, ::-1], strict=True):
        assert [stop for stop, _ in cells] == [stop_of(value, limit) for value in values.tolist()]
        heads = [*WORDS, "<|end|>"]
        assert [title for _, title in cells] == [
            f"{name} · {head}: {digits(value, signed=True)}" for head, value in zip(heads, values.tolist(), strict=True)
        ]
    heads = re.findall(r"<tfoot>.*?</tfoot>", html, re.DOTALL)[0]
    assert [unescape(head) for head in re.findall("<bdi>(.*?)</bdi>", heads)] == ["a", "b", "c", "d", "<|end|>"]
    assert html.index("Relevance of every token at every layer") > html.index("✓ Reliable")


def test_the_sign_stands_in_a_cell_with_room_and_the_sum_beside_the_layer():
    explanation = traced([" a", " b"], layers=("embed",), values=[[[1.0, -1.0, 0.0]]])
    html = explanation_page(explanation)
    assert re.findall(r'<td class="v\d+" title="embed[^>]*>(.*?)</td>', html) == ["+", MINUS, ""]
    assert '<th scope="row" title="embed: 0 in sum">' in html
    assert not layer_map(AttributionView.of(traced([" a"] * 60))).tall


def test_many_tokens_are_cut_into_bands_of_the_same_layers():
    words = [f" w{number}" for number in range(399)]
    explanation = traced(words)
    found = tables(explanation_page(explanation))
    assert len(found) == 5
    assert all([name for name, _ in band] == ["block.1", "block.0", "embed"] for band in found)
    stops = [stop for band in found for stop, _ in dict(band)["embed"]]
    limit = float(np.abs(explanation.layer_values[:, :, :-1]).max())
    assert stops == [stop_of(value, limit) for value in explanation.layer_values[0, 0].tolist()]
    for columns in (1, 3, 80, 81, 400, 1000):
        cut = runs(columns)
        assert [place for run in cut for place in run] == list(range(columns))
        assert max(map(len, cut)) <= MOST_COLUMNS
        assert len(cut) == -(-columns // MOST_COLUMNS)


@pytest.mark.parametrize(
    ("words", "width"), [(3, "wide"), (26, "wide"), (50, "medium"), (60, "narrow"), (80, "dense"), (100, "medium")]
)
def test_a_cell_is_as_wide_as_the_page_allows(words, width):
    view = AttributionView.of(traced(["x"] * words, names=("one", "two")))
    assert layer_map(view).width == width
    assert answer_map(view).width == width


def test_a_large_map_has_numbers_where_there_is_a_colour_and_says_so():
    words, layers = ["x"] * 120, tuple(f"layer {number}" for number in range(40))
    values = np.random.default_rng(1).normal(size=(1, 40, 121)) ** 3
    explanation = traced(words, layers=layers, values=values)
    assert values.size > MOST_NUMBERED
    html = explanation_page(explanation)
    cells = [cell for band in tables(html) for _, row in band for cell in row]
    assert len(cells) == values.size
    assert {bool(title) for stop, title in cells if stop == ZERO} == {False}
    assert {bool(title) for stop, title in cells if stop != ZERO} == {True}
    assert "but for those whose colour is that of 0" in html
    assert "but for those whose colour is that of 0" not in explanation_page(traced(WORDS))
    assert len(html) < 700_000


def test_what_the_template_scores_beyond_the_scale_is_said():
    loud = explanation_page(traced([" a", " b"], layers=("embed",), values=[[[1.0, -0.5, 50.0]]]))
    assert tables(loud)[0][0][1][2][0] == len(VIK) - 1
    assert "what lies beyond the scale is drawn at its end" in loud.split("Relevance of every token")[1]
    quiet = explanation_page(traced([" a", " b"], layers=("embed",), values=[[[1.0, -0.5, 0.5]]]))
    assert "what lies beyond the scale is drawn at its end" not in quiet


def test_several_targets_are_summed_and_then_shown_one_by_one():
    explanation = traced(WORDS, names=(" yes", " no"))
    html = explanation_page(explanation)
    answers, whole, first, second = tables(html)
    assert [name for name, _ in answers] == [" yes", " no"]
    limit = float(np.abs(explanation.values).max())
    for (_, cells), values in zip(answers, explanation.values, strict=True):
        assert [stop for stop, _ in cells] == [stop_of(value, limit) for value in values.tolist()]
    summed_up = explanation.layer_values.sum(0)
    for table, values in (
        (whole, summed_up),
        (first, explanation.layer_values[0]),
        (second, explanation.layer_values[1]),
    ):
        limit = float(np.abs(values).max())
        for (_, cells), row in zip(table, values[::-1], strict=True):
            assert [stop for stop, _ in cells] == [stop_of(value, limit) for value in row.tolist()]
    assert "summed over 2 targets" in html


def test_the_single_targets_of_a_very_large_map_are_left_out():
    names = tuple(f"t{number}" for number in range(20))
    layers = tuple(f"layer {number}" for number in range(10))
    assert MOST_CELLS < 20 * 10 * 90
    html = explanation_page(traced(["x"] * 90, names=names, layers=layers))
    assert len(tables(html)) == 4
    assert "The same for each of the 20 targets" not in html


def test_named_features_keep_their_matrix_of_numbers():
    html = explanation_page(matrix())
    assert tables(html) == []
    assert '<table class="matrix">' in html
    layers = np.ones((1, 2, 3), np.float32)
    named = fields().model_copy(update={"layer_values": layers, "layer_names": ("one", "two")})
    assert [name for name, _ in tables(explanation_page(named))[0]] == ["two", "one"]


def test_nan_has_the_colour_of_zero_and_says_so():
    html = explanation_page(traced([" a"], layers=("embed",), values=[[[np.nan, 1.0]]]))
    assert tables(html)[0][0][1][0] == (ZERO, "embed ·  a: not a number")


def test_a_text_that_was_not_stored_has_no_map_and_keeps_its_account():
    secret = traced(["secret-word", " b"], account=ACCOUNT)
    view = audit(stored=False)
    hidden = replace(view.cases[0], attributions=(AttributionView.of(secret, stored=False),))
    html = run_page(replace(view, cases=(hidden,)))
    assert "secret-word" not in html
    assert tables(html) == []
    assert "Where the relevance went" in html
    shown = replace(view.cases[0], attributions=(AttributionView.of(secret),))
    assert len(tables(run_page(replace(view, cases=(shown,))))) == 1


def test_bars_are_as_long_as_their_amounts_and_leave_from_zero():
    chart = account_chart(ACCOUNT)
    assert [row.operation for row in chart.rows] == ["softmax", "gelu", "linear"]
    assert (chart.low, chart.high) == (-1.0, 3.0)
    assert chart.zero == pytest.approx(BAR_WIDTH / 4)
    for row, entry in zip(chart.rows, summed(ACCOUNT), strict=True):
        for bar, amount in zip(row.bars, (entry.in_, entry.out, entry.absorbed, entry.leaked), strict=True):
            assert bar.width == pytest.approx(BAR_WIDTH * abs(amount) / 4, abs=0.01)
            assert bar.start == pytest.approx(chart.zero + min(0.0, BAR_WIDTH * amount / 4), abs=0.02)
            assert bar.number == digits(amount, signed=True)
    tops = [bar.y for bar in chart.rows[0].bars]
    assert tops == sorted(tops)
    assert tops[-1] < chart.height


def test_only_a_leak_that_matters_is_alarming():
    alarming = {row.operation: [bar.alarming for bar in row.bars] for row in account_chart(ACCOUNT).rows}
    assert alarming == {"softmax": [False] * 3 + [True], "gelu": [False] * 4, "linear": [False] * 4}
    html = explanation_page(traced(WORDS, account=ACCOUNT))
    # Once in the sum over modules, once by itself.
    assert re.findall(r'<td class="number alarm">([^<]*)</td>', html) == [f"{MINUS}0.750"] * 2


def test_what_is_no_number_in_an_account_is_said_and_draws_nothing():
    chart = account_chart([*ACCOUNT, ODD])
    odd = chart.rows[0]
    assert odd.operation == "exp"
    assert [bar.number for bar in odd.bars] == ["∞", "0", "0", "not a number"]
    assert odd.bars[0].width == odd.bars[3].width == 0
    assert odd.bars[3].alarming
    assert "not a number" in explanation_page(traced(WORDS, account=[*ACCOUNT, ODD]))
    assert "not a number, at exp" in in_words([ODD], "logit")
    assert account_chart([ODD]).rows[0].bars[0].width == 0


def test_every_number_of_the_account_is_in_a_table_with_its_module():
    html = explanation_page(traced(WORDS, account=ACCOUNT))
    whole, single = re.findall(r'<table class="account">(.*?)</table>', html, re.DOTALL)
    for entry in ACCOUNT:
        row = next(row for row in single.split("<tr>") if entry.module in row)
        numbers = re.findall(r'<td class="number(?: alarm)?">([^<]*)</td>', row)
        assert numbers == [digits(entry[name], signed=True) for name in ("leaked", "in", "out", "absorbed")]
    assert "block.0" not in whole
    # Both calls of linear in one row.
    assert re.search(r"linear.*?\+3\.000.*?\+2\.750", whole, re.DOTALL)
    assert f"4 operations: absorbed +0.500 and leaked {MINUS}0.750, in log-probability" in html
    assert f"the largest single leak is {MINUS}0.750, at softmax of block.0.attn" in html


def test_of_a_long_account_the_largest_leaks_are_listed():
    rows = [Entry.of("add", f"m{number}.", arrived=float(number), handed_on=0.0) for number in range(130)]
    html = explanation_page(traced(WORDS, account=rows))
    single = re.findall(r'<table class="account">(.*?)</table>', html, re.DOTALL)[1]
    assert single.count('<th scope="row">') == MOST_ENTRIES
    assert "m129." in single
    assert "m29." not in single
    assert f"The {MOST_ENTRIES} operations with the largest leaks, of 130" in html


def test_without_layers_account_and_notice_nothing_of_them_is_there():
    page = explanation_page(traced(WORDS).model_copy(update={"layer_values": None, "layer_names": ()}))
    assert tables(page) == []
    body = page.split("</style>")[1]
    for words in ('class="account"', 'class="fine"', "Where the relevance went"):
        assert words not in body
    assert "where the relevance went" not in explanation_text(traced(WORDS))


def test_a_notice_is_shown_small_and_in_the_terminal():
    explanation = traced(WORDS, notice="Patent <pending>.")
    assert '<p class="fine"><bdi>Patent &lt;pending&gt;.</bdi></p>' in explanation_page(explanation)
    assert "Patent <pending>." in explanation_text(explanation)


def test_the_terminal_has_one_line_for_each_kind_of_operation():
    text = explanation_text(traced(WORDS, account=ACCOUNT))
    lines = text.split("where the relevance went\n")[1].splitlines()
    assert lines[0].split() == ["operation", "in", "out", "absorbed", "leaked"]
    assert [line.split()[0] for line in lines[1:4]] == ["softmax", "gelu", "linear"]
    assert lines[3].split() == ["linear", "+3.000", "+2.750", "+0.250", "0"]
    hostile = explanation_text(hostile_trace())
    for character in "\u202e\u200b\x00\ud800\x1b":
        assert character not in hostile
    assert "[bold red]markup[/]" in hostile


def test_hostile_names_of_layers_and_operations_stay_text():
    html = explanation_page(hostile_trace())
    html.encode()
    page = Page(html)
    for character in "\u202e\u200b\x00\ud800\x1b":
        assert character not in html
    assert page.text.count(HOSTILE[0]) >= 5
    assert explanation_page(hostile_trace()) == html


def test_the_strongest_features_alone_have_no_layers_of_the_others():
    view = strongest(AttributionView.of(traced(WORDS)), 2)
    assert (len(view.features), view.layer_values, view.layer_names) == (2, (), ())


# Figures


def drawn(figure):
    """The figure as a file, so that everything in it has really been drawn."""
    file = BytesIO()
    figure.savefig(file, dpi=50)
    assert file.getvalue()[:4] == b"\x89PNG"
    return figure


def test_the_figure_of_layers_holds_the_numbers_themselves():
    words = [f"w{number}" for number in range(99)]
    explanation = traced(words)
    figure = drawn(plots.layers(explanation))
    first, second = (axes for axes in figure.axes if axes.images)
    values = np.ma.hstack([axes.images[0].get_array() for axes in (first, second)])
    np.testing.assert_allclose(values.compressed().reshape(3, 100), explanation.layer_values[0, ::-1])
    assert [label.get_text() for label in first.get_yticklabels()] == ["block.1", "block.0", "embed"]
    heads = [label.get_text() for axes in (first, second) for label in axes.get_xticklabels()]
    assert heads == [*words, "<|end|>"]
    image = first.images[0]
    assert image.norm.vmax == -image.norm.vmin == pytest.approx(np.abs(explanation.layer_values[:, :, :-1]).max())
    assert image.cmap(image.norm(0.0))[:3] == to_rgb(VIK[ZERO])
    assert image.cmap(image.norm(image.norm.vmax))[:3] == to_rgb(VIK[-1])


def test_a_figure_of_several_targets_is_their_sum_or_one_of_them():
    explanation = traced(WORDS, names=(" yes", " no"))
    for target, expected in ((None, explanation.layer_values.sum(0)), (1, explanation.layer_values[1])):
        axes = plots.layers(explanation, target).axes[0]
        np.testing.assert_allclose(axes.images[0].get_array(), expected[::-1], rtol=1e-6)
    answers = drawn(plots.matrix(explanation)).axes[0]
    np.testing.assert_allclose(answers.images[0].get_array(), explanation.values)
    assert [label.get_text() for label in answers.get_yticklabels()] == [" yes", " no"]


def test_the_figure_of_an_account_has_every_amount():
    figure = drawn(plots.account(traced(WORDS, account=[*ACCOUNT, ODD])))
    axes = figure.axes[0]
    kinds = summed([*ACCOUNT, ODD])
    assert [label.get_text() for label in axes.get_yticklabels()] == [entry.operation for entry in kinds]
    for bars, name in zip(axes.containers, ("in", "out", "absorbed", "leaked"), strict=True):
        assert bars.get_label() == name
        widths = [bar.get_width() for bar in bars]
        finite = [entry[name] for entry in kinds[1:]]
        assert widths[1:] == pytest.approx(finite)
    assert axes.yaxis_inverted()
    assert {text.get_text().strip() for text in axes.texts} == {"leaked not a number", f"leaked {MINUS}0.750"}
    assert len(drawn(plots.account(ACCOUNT)).axes) == 1


@pytest.mark.parametrize("view", ["heat", "contour", "top-k"])
def test_the_figure_of_a_picture_is_the_one_of_the_page(view):
    explanation = quarters()
    shown = AttributionView.of(explanation)
    expected = {"heat": heat(shown, 0, 1.0), "contour": contours(shown, 0), "top-k": top_mask(shown, 0)}[view]
    figure = drawn(plots.overlay(explanation, view=view))
    assert np.array_equal(figure.axes[0].images[0].get_array(), expected)
    assert len(figure.axes) == (2 if view == "heat" else 1)


def test_a_label_is_no_formula():
    words = ["$\\bad$", "a_b", "50 %", "$5"]
    drawn(plots.layers(traced(words, names=("$x$", "$\\bad"), layers=("$l_0$", "{}"))))
    drawn(plots.matrix(traced(words, names=("$x$", "$\\bad"))))
    drawn(plots.account([Entry.of("$\\sum", "", arrived=1.0, handed_on=0.0)]))
    drawn(plots.overlay(quarters(names=("$\\cat$",))))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: plots.layers(matrix()), "occlusion gave no layer_values"),
        (lambda: plots.layers(traced(WORDS), 1), "there is no target 1; the explanation has 1, counted from 0"),
        (lambda: plots.account(matrix()), "no conservation account was kept"),
        (lambda: plots.account([]), "no conservation account was kept"),
        (lambda: plots.overlay(matrix()), "no picture"),
        (lambda: plots.overlay(quarters(), 3), "there is no target 3"),
        (lambda: plots.overlay(quarters(), view="hot"), "no view of a picture is called 'hot'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_without_matplotlib_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    for call in (
        lambda: plots.layers(traced(WORDS)),
        lambda: plots.matrix(matrix()),
        lambda: plots.account(ACCOUNT),
        lambda: plots.overlay(quarters()),
    ):
        with pytest.raises(
            MissingPackageError, match=r"matplotlib is not installed; run: pip install 'pellucid\[plots\]'"
        ):
            call()
