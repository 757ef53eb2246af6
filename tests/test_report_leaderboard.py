"""The leaderboard's page: notes before numbers, every number there, none of an invalid metric, foreign text inert."""

import re
from base64 import b64encode
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from itertools import pairwise
from math import nan

import pytest

from leaderboards import METHODS, PEERS, board
from pellucid.errors import InputError
from pellucid.report import leaderboard_page
from pellucid.report.colour import contrast
from pellucid.report.heatmap import MINUS, digits
from pellucid.report.leaderboard import UNTRIED, CurvePoint, RankDiagram, TauMatrix
from pellucid.report.leaderboard_figures import PANEL, WHISKER_WIDTH, panels, patches, rank_chart, scale_of
from pellucid.report.leaderboard_tables import agreement, glance, tau_rows
from pellucid.report.leaderboard_words import (
    AT_HOME,
    CAUTIONS,
    DISPUTED,
    NO_BETTER,
    headline,
    listed,
    outcome,
    outcomes,
    peers_in_words,
    ranked,
    short_names,
    winner_in_words,
)
from pellucid.report.visible import visible
from test_report import HOSTILE, Page

BIBTEX = "@article{key,\n  title = {A <b>bold</b> title},\n}"
FEW = board(inputs=40)
BARE = replace(
    board(methods=1, peers=0, metrics=2), prices=(), families=(), diagram=None, tau=TauMatrix((), ()), curves=(),
    disagreements=(), failures=(), absent=(), provenance=(),
)  # fmt: skip
PAGES = {
    "one": lambda: leaderboard_page([board()], BIBTEX),
    "few": lambda: leaderboard_page([FEW], ""),
    "two": lambda: leaderboard_page([board(), replace(FEW, task="other")], BIBTEX),
    "bare": lambda: leaderboard_page([BARE], ""),
    "no tables": lambda: leaderboard_page([replace(BARE, tables=())], ""),
}


class Board(Page):
    """The strict reader of the other pages; names may be broken where ``wbr`` stands."""

    def handle_starttag(self, tag, attrs):
        if tag != "wbr":
            super().handle_starttag(tag, attrs)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_balanced_and_can_neither_run_nor_fetch(name):
    html = PAGES[name]()
    page = Board(html)
    assert not {"script", "iframe", "object", "embed", "img", "base", "form"} & set(page.tags)
    for _, attribute, value in page.attributes:
        assert not attribute.startswith("on")
        assert attribute not in {"src", "srcset", "action", "style", "xlink:href"}
        assert attribute != "href" or value.startswith("#") or value == "data:,"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy.replace("&#39;", "'")
    assert "url(" not in style


@pytest.mark.parametrize("name", PAGES)
def test_ids_are_unique_links_lead_somewhere_and_headings_do_not_skip(name):
    page = Board(PAGES[name]())
    ids = [value for _, attribute, value in page.attributes if attribute == "id"]
    links = {value[1:] for _, attribute, value in page.attributes if attribute == "href" and value[0] == "#"}
    assert len(ids) == len(set(ids))
    assert links <= set(ids)
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(page.headings))


def test_every_table_has_a_caption_and_every_drawing_a_name():
    page = Board(PAGES["two"]())
    assert page.tags.count("table") == page.tags.count("caption") > 10
    named = [value for tag, name, value in page.attributes if tag == "svg" and name in ("aria-label", "aria-hidden")]
    assert len(named) == page.tags.count("svg") > 20
    assert all(named)


def test_the_notes_come_before_every_number_and_the_words_before_the_tables():
    text = Board(leaderboard_page([FEW], "")).text
    assert "Not enough for a claim: 40 independent inputs" in text
    assert text.index("Not enough for a claim") < text.index("leads with") < text.index("Who wins what")
    assert text.index("Who wins what") < text.index("Scores, family by family")
    silent = Board(leaderboard_page([replace(FEW, notes=())], "")).text
    assert silent.index("Not enough for a claim") < silent.index("leads with")
    assert "Not enough" not in Board(leaderboard_page([board()], "")).text


def test_every_score_cost_failure_and_version_is_there():
    shown = board()
    text = Board(leaderboard_page([shown], BIBTEX)).text
    for table in shown.tables:
        for each in table.standings:
            assert f"{digits(each.mean)} [{digits(each.low)}, {digits(each.high)}]" in text
            assert each.p_value is None or each.p_value < 0.001 or digits(each.p_value) in text
    for price in shown.prices:
        assert price.settings in text
        assert f"{price.seconds:.3g}" in text
    for each in shown.failures:
        assert each.reason in text
        assert f"{each.inputs} of {each.of}" in text
    assert all(reason in text for _, reason in shown.absent)
    assert all(value in text for _, value in shown.provenance)
    assert BIBTEX in text


def test_of_a_metric_that_failed_the_gate_only_its_name_and_its_findings_are_shown():
    whole = board()
    bad = replace(whole.tables[0], valid=False, findings=(("random centred", False, "mean 0.3, limit 0.1"),))
    alone = replace(whole, tables=(bad, *whole.tables[1:]))
    text = Board(leaderboard_page([alone], "")).text
    assert bad.name in text
    assert "mean 0.3, limit 0.1" in text
    assert not [each for each in bad.standings if f"{digits(each.mean)} [{digits(each.low)}" in text]
    assert "Quality against rows" not in text
    assert "critical difference" not in text
    assert outcome(bad) is None
    assert bad.name not in {whole for _, whole, _ in glance(alone).columns}


def _poisoned(record, text):
    """The record with a text behind every string but those that decide how it is drawn."""
    if isinstance(record, str):
        return record + text
    if isinstance(record, tuple):
        return tuple(_poisoned(each, text) for each in record)
    if not is_dataclass(record):
        return record
    kept = {"kind", "metric"} if hasattr(record, "standings") or hasattr(record, "kind") else set()
    return replace(
        record,
        **{each.name: _poisoned(getattr(record, each.name), text) for each in fields(record) if each.name not in kept},
    )


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_text_wherever_it_comes_in(hostile):
    quiet, page = (Board(leaderboard_page([_poisoned(board(), text)], text)) for text in ("x", hostile))
    ours = {"span", "br"}
    assert [tag for tag in page.tags if tag not in ours] == [tag for tag in quiet.tags if tag not in ours]
    assert page.text.count(visible(hostile)) > 50
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not {"\u202e", "\x00", "\u200b", "\x1b"} & set(page.text)


def test_the_winner_is_the_first_in_rank_and_what_is_not_significant_is_alike():
    table = board(methods=3, peers=1).tables[0]
    order = ranked(table)
    told = [replace(each, p_value=value) for each, value in zip(order, (None, 0.4, 0.049, 0.05), strict=True)]
    found = outcome(replace(table, standings=tuple(reversed(told))))
    assert found.best.entrant == order[0].entrant
    assert set(found.alike) == {order[1].entrant, order[3].entrant}
    assert found.worse == 1


@pytest.mark.parametrize(
    ("first", "p_value", "verdict"),
    [("method", 0.01, "better"), ("method", 0.2, "alike"), ("peer", 0.2, "alike"), ("peer", 0.01, "worse")],
)
def test_pellucid_is_better_than_its_peers_only_where_the_difference_holds(first, p_value, verdict):
    table = board(methods=1, peers=1).tables[0]
    best, other = ranked(table)
    second = "peer" if first == "method" else "method"
    standings = (replace(best, kind=first), replace(other, kind=second, p_value=p_value))
    found = outcome(replace(table, standings=standings))
    assert (found.against, found.other) == (verdict, other.entrant)
    counts = {"better": 0, "not told apart": 0, "worse": 0} | {{"alike": "not told apart"}.get(verdict, verdict): 2}
    assert all(f"{words} on {count}" in peers_in_words([found, found]) for words, count in counts.items())


def test_without_peers_nothing_is_said_of_them():
    lonely = board(peers=0)
    assert {each.against for each in outcomes(lonely)} == {""}
    assert not [sentence for sentence in headline(lonely) if "peer" in sentence]


@pytest.mark.parametrize("higher", [True, False])
def test_a_winner_that_is_not_above_random_is_not_praised(higher):
    table = board().tables[0]
    best, chance = ranked(table)[0], next(each for each in table.standings if each.entrant == "random")
    sign = 1 if higher else -1
    for shift, warned in ((0.1, False), (-0.1, True)):
        end = chance.mean + sign * shift
        mine = replace(best, mean=end + sign, low=min(end, end + 2 * sign), high=max(end, end + 2 * sign))
        found = outcome(replace(table, standings=(mine, chance), higher_is_better=higher, same_imputer=()))
        assert (NO_BETTER in found.cautions) is warned
        assert (NO_BETTER in winner_in_words(found, "srg")) is warned


def test_a_single_input_has_no_interval_and_nothing_is_claimed_of_it():
    table = board().tables[0]
    alone = tuple(replace(each, low=nan, high=nan) for each in table.standings)
    assert NO_BETTER not in outcome(replace(table, standings=alone)).cautions
    text = Board(leaderboard_page([replace(BARE, tables=(replace(table, standings=alone),))], "")).text
    assert f"{digits(alone[0].mean)} [no interval]" in text
    assert "not a number" not in text


def test_a_winner_on_its_own_imputer_is_marked():
    table = board().tables[0]
    at_home = replace(table, same_imputer=(ranked(table)[0].entrant,))
    assert outcome(at_home).cautions == (AT_HOME,)
    assert CAUTIONS[AT_HOME] in Board(leaderboard_page([replace(board(), tables=(at_home,))], "")).text


def test_a_control_has_no_winner_and_is_shown_all_the_same():
    control = next(table for table in board(metrics=15).tables if table.higher_is_better is None)
    shown = replace(board(), tables=(control,), tau=BARE.tau, curves=(), diagram=None, families=())
    assert outcomes(shown) == []
    text = Board(leaderboard_page([shown], "")).text
    assert "neither way is good" in text
    assert digits(control.standings[0].mean) in text
    assert "there is no winner" in text


def test_short_names_keep_only_what_tells_metrics_apart():
    tables = board().tables
    assert short_names(tables[:3]) == {
        "srg [mask, word, log-odds]": "srg · mask",
        "srg [delete, word, log-odds]": "srg · delete",
        "comprehensiveness [mask, word, probability]": "comprehensiveness",
    }
    assert list(short_names(tables[:1]).values()) == ["srg"]
    assert listed([]) == ""


def test_an_axis_keeps_order_and_an_outlier_does_not_squash_the_rest():
    table = board(methods=12).tables[0]
    far = replace(table.standings[0], mean=1e6, low=9e5, high=2e6)
    scale = scale_of(replace(table, standings=(*table.standings[1:], far)))
    drawn = [scale.whisker(each) for each in table.standings[1:]]
    places = [each.at for each in drawn]
    means = [each.mean for each in table.standings[1:]]
    assert [each for _, each in sorted(zip(means, places, strict=True))] == sorted(places)
    assert max(places) - min(places) > WHISKER_WIDTH / 4
    assert all(0 < each.low <= each.at <= each.high < WHISKER_WIDTH for each in drawn)
    assert scale.whisker(far).clipped
    assert scale.whisker(far).at == max(scale.place(1e9), *places)
    assert scale.whisker(replace(far, mean=nan)) is None


def test_equal_scores_and_no_scores_still_have_an_axis():
    table = board().tables[0]
    same = tuple(replace(each, mean=1.0, low=1.0, high=1.0) for each in table.standings)
    scale = scale_of(replace(table, standings=same))
    assert scale.low < 1.0 < scale.high
    nothing = tuple(replace(each, mean=nan, low=nan, high=nan) for each in table.standings)
    assert scale_of(replace(table, standings=nothing)).low == 0.0
    assert (
        "not a number" in Board(leaderboard_page([replace(BARE, tables=(replace(table, standings=nothing),))], "")).text
    )


def test_curves_rise_with_their_numbers_and_their_names_never_cover_each_other():
    points = board().curves
    drawn = panels(points)
    names = [curve.name for panel in drawn for curve in panel.curves]
    assert sorted(names) == sorted({point.entrant for point in points})
    assert all(len(panel.curves) <= PANEL for panel in drawn)
    assert all(len(panel.curves) + len(panel.faint) == len(names) for panel in drawn)
    for panel in drawn:
        heights = [curve.label_y for curve in panel.curves]
        assert all(below - above >= 15 - 1e-6 for above, below in pairwise(heights))
        assert max(heights) <= panel.chart.bottom
        for curve in panel.curves:
            across = [x for x, _ in curve.line.dots]
            assert across == sorted(across)
            assert panel.chart.left <= across[0] <= across[-1] <= panel.chart.right
    last = {point.entrant: point.score for point in points}
    assert last[drawn[0].curves[0].name] == max(last.values())
    worst = panels(points, higher_is_better=False)[0].curves
    assert min(last.values()) in [last[curve.name] for curve in worst]


def test_names_of_curves_that_end_together_stay_inside_the_frame():
    flat = [CurvePoint(f"m{index}", 64.0, 0.0 if index else 1.0, -0.1, 0.1) for index in range(PANEL)]
    (panel,) = panels(flat)
    heights = [curve.label_y for curve in panel.curves]
    assert max(heights) <= panel.chart.bottom
    assert all(below - above >= 15 - 1e-6 for above, below in pairwise(heights))
    assert panels([]) == []


def test_bars_of_the_rank_diagram_span_exactly_their_groups():
    diagram = RankDiagram(
        "srg", (("a", 1.0), ("b", 1.5), ("c", 3.0), ("d", 4.0)), 1.6, 30, 0.01, (("a", "b"), ("b", "c"), ("d",))
    )
    chart = rank_chart(diagram)
    height = {row.name: row.y for row in chart.rows}
    inside = [{name for name, y in height.items() if top <= y <= bottom} for _, top, bottom in chart.joins]
    assert inside == [{"a", "b"}, {"b", "c"}]
    at = {row.name: row.at for row in chart.rows}
    start, end = chart.ruler
    assert (end - start) / 1.6 == pytest.approx((at["d"] - at["a"]) / 3.0, rel=0.01)


def test_patches_are_drawn_as_a_picture_and_words_as_a_line():
    assert patches(["1,1", "0,0", "0,1", "1,0"]) == [[1, 2], [3, 0]]
    assert patches(["0,0", "0,1", "1,0"]) is None
    assert patches(["0,0", "0,0"]) is None
    assert patches([]) is None
    page = leaderboard_page([board()], "")
    assert page.count('<table class="patches">') == 2
    assert page.count('<p class="running features">') == 2


def test_tau_is_coloured_by_its_sign_and_the_worst_pair_is_named():
    tables = board().tables[:3]
    names = tuple(table.name for table in tables)
    tau = TauMatrix(names, ((1.0, 0.5, None), (0.5, 1.0, -0.25), (None, -0.25, 1.0)))
    rows = tau_rows(tau, tables)
    assert [text for text, _ in rows[1].cells] == [".50", "1", f"{MINUS}.25"]
    assert rows[0].cells[2][0] == "\N{EN DASH}"
    assert rows[0].cells[1][1] < rows[0].cells[2][1] < rows[1].cells[2][1]
    assert agreement(tau, {})[::2] == (names[2], -0.25)
    assert agreement(TauMatrix(names[:1], ((1.0,),)), {}) is None


def test_the_glance_orders_by_the_first_family_and_prints_every_rank():
    shown = board()
    found = glance(shown)
    first = dict(shown.families[0].ranks)
    medians = [first[row.entrant] for row in found.rows]
    assert medians == sorted(medians)
    assert len(found.columns) == sum(count for _, count in found.families) == len(found.rows[0].cells)
    for index, (_, whole, _) in enumerate(found.columns):
        table = next((table for table in shown.tables if table.name == whole), None)
        if table is not None:
            ranks = {each.entrant: f"{each.rank:g}" for each in ranked(table)}
            assert {row.entrant: row.cells[index].text for row in found.rows} == ranks


def test_many_entrants_and_metrics_make_a_page_of_bearable_size_with_folded_families():
    html = leaderboard_page([board(methods=len(METHODS), peers=len(PEERS), metrics=15)], "")
    assert len(html) < 1_200_000
    assert html.count('<details class="family" open>') == 1
    assert html.count('<details class="family">') >= 4


def test_the_same_boards_are_the_same_page_and_no_board_is_refused():
    assert leaderboard_page([board()], BIBTEX) == leaderboard_page([board()], BIBTEX)
    with pytest.raises(InputError, match="0 boards"):
        leaderboard_page([], "")


def test_the_colour_of_peers_is_legible_in_light_dark_and_print():
    (style,) = re.findall(r"<style>(.*?)</style>", PAGES["bare"](), re.DOTALL)
    light, dark, paper = re.findall(r"--peer: (#\w{6})", style)
    grounds = re.findall(r"--ground: (#\w+)", style)
    raised = re.findall(r"--raised: (#\w+)", style)
    for ink, each in ((light, 0), (dark, 1), (paper, 0)):
        assert contrast(ink, grounds[each]) >= 4.5
        assert contrast(ink, raised[each]) >= 3


def test_only_what_all_three_bear_out_is_worse():
    table = next(each for each in board().tables if each.valid and each.higher_is_better)
    each = next(each for each in table.standings if each.p_value is not None)
    apart = replace(each, p_value=0.001, win_rate=0.1, difference=(-0.2, -0.3, -0.1))
    assert (apart.is_worse, apart.is_disputed) == (True, False)
    for change in ({"win_rate": 0.9}, {"difference": (-0.2, -0.5, 0.1)}, {"difference": (-0.2, nan, nan)}):
        assert (replace(apart, **change).is_worse, replace(apart, **change).is_disputed) == (False, True)
    assert not replace(apart, p_value=0.2).is_worse
    assert not replace(apart, p_value=0.2).is_disputed


def test_a_rank_test_against_the_mean_is_said_on_the_page():
    shown = board()
    first = outcomes(shown)[0].table
    change = {"p_value": 0.001, "win_rate": 0.9, "difference": (-0.1, -0.3, 0.1)}
    second = ranked(first)[1]
    standings = tuple(replace(each, **change) if each == second else each for each in first.standings)
    disputed = replace(first, standings=standings)
    tables = tuple(disputed if each == first else each for each in shown.tables)
    text = Board(leaderboard_page([replace(shown, tables=tables)], "")).text
    assert "Mean and rank test disagree" in text
    assert CAUTIONS[DISPUTED] in text
    found = outcome(disputed)
    assert second.entrant in found.alike
    assert found.disputed == (second.entrant,)


def test_a_metric_that_was_not_tried_has_not_failed():
    shown = board()
    tables = tuple(
        each if each.valid else replace(each, findings=((UNTRIED, False, "nothing is known."),))
        for each in shown.tables
    )
    text = Board(leaderboard_page([replace(shown, tables=tables)], "")).text
    assert "not tried by the validity gate and show" in text
    assert "failed the validity gate" not in text
