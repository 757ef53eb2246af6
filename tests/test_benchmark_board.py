"""The leaderboard's numbers against SciPy and slow replicas, on result folders that are written here."""

import itertools

import numpy as np
import pytest
import scipy.stats

from benchmark_runs import Run
from oracles import metrics as oracle
from pellucid.benchmark.board import read_board, read_boards
from pellucid.benchmark.markdown import board_markdown
from pellucid.errors import InputError, RecordError
from pellucid.report.leaderboard_words import headline

SRG = "srg [mask, word, log-odds]"
MORF = "morf [mask, word, log-odds]"
GINI = "sparseness [word]"


def draws(inputs=60, seed=0, **shifts):
    """Scores that share the noise of an input: shifts by entrant."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=inputs)
    return {name: shared + shift + 0.4 * generator.normal(size=inputs) for name, shift in shifts.items()}


def standing(board, entrant, metric=SRG):
    table = next(each for each in board.tables if each.name == metric)
    return next(each for each in table.standings if each.entrant == entrant)


def names(board, metric=SRG):
    return [each.entrant for each in next(each for each in board.tables if each.name == metric).standings]


@pytest.fixture
def scores():
    return draws(good=1.0, fair=0.6, poor=0.0, same=0.95)


def test_means_ranks_and_intervals(scores, tmp_path):
    board = read_board(Run({SRG: scores}).write(tmp_path))
    means = {name: values.mean() for name, values in scores.items()}
    expected = dict(zip(means, scipy.stats.rankdata([-mean for mean in means.values()]), strict=True))
    for name, values in scores.items():
        found = standing(board, name)
        assert (found.mean, found.rank) == (pytest.approx(means[name]), expected[name])
        theirs = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
        assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.03)
    assert names(board) == sorted(means, key=lambda name: -means[name])
    assert (board.inputs, board.clusters, board.tables[0].inputs, board.enough) == (60, 60, 60, False)


def test_tests_against_the_best_are_scipys_with_holms_correction(scores, tmp_path):
    board = read_board(Run({SRG: scores}).write(tmp_path))
    best = max(scores, key=lambda name: scores[name].mean())
    others = [name for name in scores if name != best]
    raw = [scipy.stats.wilcoxon(scores[name], scores[best], method="asymptotic").pvalue for name in others]
    for name, p_value in zip(others, oracle.holm(raw), strict=True):
        found, apart = standing(board, name), scores[name] - scores[best]
        assert found.p_value == pytest.approx(p_value, rel=1e-6)
        assert found.win_rate == pytest.approx((apart > 0).mean())
        assert found.difference[0] == pytest.approx(apart.mean())
        theirs = scipy.stats.bootstrap((apart,), np.mean, method="percentile", rng=1).confidence_interval
        assert found.difference[1:] == pytest.approx(tuple(theirs), abs=0.03)
    top = standing(board, best)
    assert (top.difference, top.p_value, top.win_rate) == (None, None, None)


def test_paired_intervals_are_narrower_than_those_of_the_means(scores, tmp_path):
    board = read_board(Run({SRG: scores}).write(tmp_path))
    found = standing(board, "poor")
    assert found.difference[2] - found.difference[1] < 0.8 * (found.high - found.low)


def test_inputs_of_one_cluster_count_once(tmp_path):
    one = draws(inputs=20, first=0.5, second=0.0)
    many = {name: np.repeat(values, 4) for name, values in one.items()}
    clusters = [f"document {number // 4}" for number in range(80)]
    alone = read_board(Run({SRG: one}).write(tmp_path / "alone"))
    board = read_board(Run({SRG: many}, clusters).write(tmp_path / "clustered"))
    naive = read_board(Run({SRG: many}).write(tmp_path / "naive"))
    assert (board.inputs, board.clusters, board.tables[0].clusters) == (80, 20, 20)
    assert standing(board, "second").p_value == pytest.approx(standing(alone, "second").p_value)
    assert standing(board, "second").p_value > 2 * standing(naive, "second").p_value
    width = {
        name: standing(each, "first").high - standing(each, "first").low
        for name, each in {"alone": alone, "board": board, "naive": naive}.items()
    }
    assert width["board"] == pytest.approx(width["alone"], rel=0.1)
    assert width["board"] > 1.6 * width["naive"]


def test_where_low_is_good_the_lowest_wins(tmp_path):
    run = Run({MORF: draws(good=0.0, poor=1.0) | {"oracle": np.full(60, -1.0), "random": np.full(60, 2.0)}})
    run.facts("morf")["higher_is_better"] = False
    board = read_board(run.write(tmp_path))
    good, poor = standing(board, "good", MORF), standing(board, "poor", MORF)
    assert (good.rank, poor.rank, poor.win_rate < 0.5) == (1, 2, True)
    assert good.normalised == pytest.approx((good.mean - 2) / -3)


def test_reference_rows_are_no_rivals_and_set_the_scale(scores, tmp_path):
    noise = np.random.default_rng(5).normal(size=(5, 60)) / 10
    board = read_board(Run({SRG: scores | {"random": noise, "oracle": scores["good"] + 3}}).write(tmp_path))
    random, ceiling, good = (standing(board, name) for name in ("random", "oracle", "good"))
    assert (random.rank, random.difference, random.p_value, ceiling.rank) == (None, None, None, None)
    assert random.mean == pytest.approx(noise.mean())
    assert random.seeds == pytest.approx(noise.mean(1).std(ddof=1))
    assert good.normalised == pytest.approx((good.mean - random.mean) / (ceiling.mean - random.mean))
    assert (random.normalised, ceiling.normalised, good.rank) == (0, 1, 1)
    assert set(names(board)[-2:]) == {"random", "oracle"}


def test_without_a_ceiling_above_chance_nothing_is_normalised(scores, tmp_path):
    board = read_board(Run({SRG: scores | {"random": scores["good"], "oracle": scores["good"] - 0.01}}).write(tmp_path))
    assert standing(board, "good").normalised is None


def test_a_control_is_shown_and_not_ranked(scores, tmp_path):
    run = Run({GINI: scores})
    run.facts("sparseness")["higher_is_better"] = None
    board = read_board(run.write(tmp_path))
    assert {each.rank for each in board.tables[0].standings} == {None}
    assert (board.families, board.diagram, board.tau.metrics) == ((), None, ())


def test_equal_means_share_a_rank(tmp_path):
    values = draws(first=1.0)["first"]
    board = read_board(Run({SRG: {"a": values, "b": values[::-1], "c": values - 1}}).write(tmp_path))
    assert [standing(board, name).rank for name in "abc"] == [1.5, 1.5, 3]


# Support


def test_an_input_without_a_score_of_one_is_left_out_for_all(scores, tmp_path):
    scores["fair"][[3, 8]] = np.nan
    board = read_board(Run({SRG: scores}).write(tmp_path))
    kept = np.delete(scores["good"], [3, 8])
    assert standing(board, "good").mean == pytest.approx(kept.mean())
    assert (board.tables[0].inputs, standing(board, "fair").undefined, standing(board, "good").undefined) == (58, 2, 0)
    assert "at worst 58 of 60" in " ".join(board.notes)


def test_one_with_many_gaps_is_not_ranked_and_takes_no_input_from_the_others(scores, tmp_path):
    scores["poor"][:7] = np.nan
    board = read_board(Run({SRG: scores}).write(tmp_path))
    assert "poor" not in names(board)
    assert board.tables[0].inputs == 60
    (failed,) = board.failures
    assert (failed.entrant, failed.inputs, failed.of, failed.ranked) == ("poor", 7, 60, False)
    assert failed.reason == f"not ranked under {SRG}: the score is undefined there."


def test_a_row_that_is_missing_is_a_gap(scores, tmp_path):
    scores["poor"][:7] = np.inf
    assert "poor" not in names(read_board(Run({SRG: scores}).write(tmp_path)))


def test_a_seed_that_is_undefined_makes_the_input_undefined(scores, tmp_path):
    several = np.stack([scores["fair"], scores["fair"] + 0.3, scores["fair"] - 0.6])
    several[2, 5] = np.nan
    board = read_board(Run({SRG: scores | {"fair": several}}).write(tmp_path))
    found, kept = standing(board, "fair"), np.delete(several, 5, 1)
    assert (found.mean, found.seeds) == (pytest.approx(kept.mean()), pytest.approx(kept.mean(1).std(ddof=1)))
    assert (found.undefined, standing(board, "good").seeds) == (1, None)


def test_gaps_that_leave_too_little_together_cost_the_worst_their_rank(tmp_path):
    scores = draws(inputs=40, **{f"method {number}": 0.1 * number for number in range(9)})
    for number in range(8):
        scores[f"method {number}"][4 * number : 4 * number + (4 if number else 3)] = np.nan
    board = read_board(Run({SRG: scores}).write(tmp_path))
    assert board.tables[0].inputs >= 20
    assert {"method 0", "method 8"} <= set(names(board))
    assert len(board.failures) == 9 - len(names(board)) > 0


def test_an_input_that_a_metric_judges_for_nobody_is_none_of_its_inputs(scores, tmp_path):
    half = {name: np.where(np.arange(60) < 30, values, np.inf) for name, values in scores.items()}
    board = read_board(Run({SRG: scores, "auprc [word]": half}).write(tmp_path))
    assert [table.inputs for table in board.tables] == [60, 30]
    assert board.failures == ()


def test_a_method_that_raises_is_listed_with_its_commonest_sentence(scores, tmp_path):
    scores["poor"][:4] = np.inf
    scores["fair"][:30] = np.inf
    run = Run({SRG: scores})
    for case in range(4):
        run.fail("poor", case, "too long." if case else "no gradient.")
    for case in range(30):
        run.fail("fair", case, "out of memory.")
    board = read_board(run.write(tmp_path))
    found = {each.entrant: each for each in board.failures}
    assert (found["poor"].inputs, found["poor"].of, found["poor"].ranked, found["poor"].reason) == (
        4,
        60,
        True,
        "too long.",
    )
    assert (found["fair"].inputs, found["fair"].ranked) == (30, False)
    assert set(found) == {"poor", "fair"}


def test_a_method_that_always_raises_is_listed(scores, tmp_path):
    run = Run({SRG: scores})
    run.manifest["entrants"].append({"name": "broken", "kind": "method", "family": "gradient"})
    for case in range(60):
        run.fail("broken", case, "never.")
    (failed,) = read_board(run.write(tmp_path)).failures
    assert (failed.entrant, failed.inputs, failed.ranked, failed.reason) == ("broken", 60, False, "never.")


def test_what_a_metric_refuses_is_said(scores, tmp_path):
    run = Run({SRG: scores, MORF: {name: values for name, values in scores.items() if name != "poor"}})
    for case in range(60):
        run.fail("poor", case, "it has no scale.", MORF)
    for case in range(60):
        run.fail("good", case, "a logit has no probability.", "insertion [mask, word, probability]")
    run.manifest["metrics"].append({"metric": "insertion", "facts": {"family": "removal", "higher_is_better": True}})
    board = read_board(run.write(tmp_path))
    (failed,) = board.failures
    assert (failed.entrant, failed.reason) == ("poor", f"not ranked under {MORF}: it has no scale.")
    assert "insertion [mask, word, probability] judged no input: a logit has no probability." in board.notes
    assert [table.metric for table in board.tables] == ["srg", "morf"]


# The gate


@pytest.mark.parametrize("findings", [[["oracle beats random", False, "p = 0.4."]], None])
def test_a_metric_that_fails_the_gate_or_never_passed_it_shows_no_number(scores, findings, tmp_path):
    run = Run({SRG: scores, MORF: scores})
    run.manifest["gate"] = [{"name": MORF, "findings": [["fine", True, ""]]}]
    if findings:
        run.manifest["gate"].append({"name": SRG, "findings": findings})
    board = read_board(run.write(tmp_path))
    srg, morf = board.tables
    assert (srg.valid, srg.standings, morf.valid, len(morf.standings)) == (False, (), True, 4)
    assert srg.findings
    assert not all(passed for _, passed, _ in srg.findings)
    verdict = "failed" if findings else "has not tried"
    assert f"The validity gate {verdict} {SRG}: no number of theirs is shown." in board.notes
    assert srg.is_tried is bool(findings)
    said = "1 metric failed" if findings else "1 metric was not tried by"
    assert f"{said} the validity gate and shows no numbers." in headline(board)
    assert f"It {'failed' if findings else 'was not tried by'} the validity gate" in board_markdown(board)
    assert board.tau.metrics == board.families[0].metrics == (MORF,)
    assert board.diagram.metric == MORF


def test_findings_about_a_short_name_hold_for_all_of_its_settings(scores, tmp_path):
    run = Run({SRG: scores, "srg [pad, word, log-odds]": scores})
    run.manifest["gate"] = [{"name": "srg", "findings": [["fine", True, ""]]}]
    assert [table.valid for table in read_board(run.write(tmp_path)).tables] == [True, True]


# Over metrics


def test_families_take_the_median_rank_of_those_that_all_metrics_rank(tmp_path):
    flat = {name: np.linspace(0, 1, 30) for name in "abcd"}
    tables = {
        "srg [x]": {name: flat[name] + shift for name, shift in zip("abcd", (3, 2, 1, 0), strict=True)},
        "morf [x]": {name: flat[name] + shift for name, shift in zip("abcd", (3, 2, 1, 0), strict=True)},
        "lerf [x]": {name: flat[name] + shift for name, shift in zip("abc", (1, 2, 3), strict=True)},
        "auprc [x]": {name: flat[name] + shift for name, shift in zip("abcd", (0, 1, 2, 3), strict=True)},
    }
    run = Run(tables)
    run.facts("auprc")["family"] = "plausibility"
    board = read_board(run.write(tmp_path))
    removal, plausible = board.families
    assert (removal.family, plausible.family) == ("removal", "plausibility")
    # a: 1, 1, 3; b: 2, 2, 2; c: 3, 3, 1. d has no rank under lerf.
    assert removal.ranks == (("a", 1.0), ("b", 2.0), ("c", 3.0))
    assert plausible.ranks == (("d", 1.0), ("c", 2.0), ("b", 3.0), ("a", 4.0))


def test_the_tau_matrix_is_scipys_and_reads_directions(tmp_path):
    generator = np.random.default_rng(2)
    shift = dict(zip("abcdefg", generator.permutation(7), strict=True))
    tables = {
        SRG: {name: generator.normal(size=40) + 0.3 * each for name, each in shift.items()},
        MORF: {name: generator.normal(size=40) - 0.3 * each for name, each in shift.items()},
        "auprc [word]": {name: generator.normal(size=40) + 0.1 * each for name, each in shift.items()},
        "auroc [word]": {name: np.ones(40) for name in shift},
    }
    run = Run(tables)
    run.facts("morf")["higher_is_better"] = False
    tau = read_board(run.write(tmp_path)).tau
    means = [[values.mean() for values in entrants.values()] for entrants in tables.values()]
    means[1] = [-mean for mean in means[1]]
    assert tau.metrics == tuple(tables)
    for one, other in itertools.combinations(range(3), 2):
        expected = scipy.stats.kendalltau(means[one], means[other]).statistic
        assert tau.values[one][other] == tau.values[other][one] == pytest.approx(expected)
    assert [row[place] for place, row in enumerate(tau.values)] == [1, 1, 1, 1]
    assert tau.values[3][:3] == (None, None, None)


def test_the_diagram_is_friedmans_over_clusters(tmp_path):
    scores = draws(inputs=30, a=1.0, b=0.9, c=0.1, d=0.0)
    clusters = [str(number // 2) for number in range(30)]
    diagram = read_board(Run({SRG: scores}, clusters).write(tmp_path)).diagram
    blocks = np.stack([values.reshape(15, 2).mean(1) for values in scores.values()])
    ranks = dict(zip(scores, scipy.stats.rankdata(-blocks, axis=0).mean(1), strict=True))
    assert dict(diagram.ranks) == pytest.approx(ranks)
    assert [name for name, _ in diagram.ranks] == sorted(ranks, key=ranks.get)
    assert diagram.p_value == pytest.approx(scipy.stats.friedmanchisquare(*blocks).pvalue)
    q = scipy.stats.studentized_range.ppf(0.95, 4, np.inf) / np.sqrt(2)
    assert diagram.critical_difference == pytest.approx(q * np.sqrt(4 * 5 / (6 * 15)), rel=1e-5)
    assert diagram.blocks == 15
    runs = [
        run
        for run in itertools.combinations(ranks, 2)
        if abs(ranks[run[0]] - ranks[run[1]]) < diagram.critical_difference
    ]
    assert {frozenset(pair) for group in diagram.groups for pair in itertools.combinations(group, 2)} == set(
        map(frozenset, runs)
    )


def test_where_friedmans_test_finds_nothing_nothing_is_told_apart(tmp_path):
    # Found by trying seeds: the largest gap is above Nemenyi's difference all the same.
    values = np.random.default_rng(179).normal(size=(20, 5)) + np.array([0.6, 0, 0, 0, -0.5])
    diagram = read_board(Run({SRG: dict(zip("abcde", values.T, strict=True))}).write(tmp_path)).diagram
    ranks = [rank for _, rank in diagram.ranks]
    assert diagram.p_value > 0.05
    assert ranks[-1] - ranks[0] > diagram.critical_difference
    assert diagram.groups == (tuple(name for name, _ in diagram.ranks),)


def test_two_entrants_make_no_diagram(tmp_path):
    assert read_board(Run({SRG: draws(a=0.0, b=1.0)}).write(tmp_path)).diagram is None


def contradicting(tmp_path, **manifest):
    a, b = np.zeros(20), np.zeros(20)
    a[7], b[7] = 5.0, 1.0
    a[3], b[3] = 2.0, 1.0
    noise = np.random.default_rng(1).normal(size=20) / 100
    run = Run({SRG: {"a": a, "b": noise}, "auprc [word]": {"a": noise / 2, "b": b}})
    run.facts("auprc")["family"] = "plausibility"
    for case in (3, 7):
        run.attribute("a", case, [1.0, -4.0, 2.0])
        run.attribute("b", case, [3.0, 0.0, 0.0], seed=1)
        run.attribute("b", case, [0.0, 0.0, 0.5], seed=0)
    run.manifest |= manifest
    return read_board(run.write(tmp_path))


def test_the_clearest_contradiction_is_shown(tmp_path):
    (found,) = contradicting(tmp_path).disagreements
    assert (found.case, found.first_metric, found.second_metric) == ("case 0007", SRG, "auprc [word]")
    assert (found.first_winner, found.second_winner) == ("a", "b")
    assert (found.first_values, found.second_values) == ((0.25, -1.0, 0.5), (0.0, 0.0, 1.0))
    assert (found.text, found.features) == ("the text of case 0007", ("a", "b", "c"))


def test_inputs_that_may_not_be_shown_are_not(tmp_path):
    (found,) = contradicting(tmp_path, quotable=False).disagreements
    assert (found.text, found.features) == ("", ("1", "2", "3"))


def test_metrics_that_agree_are_no_example(scores, tmp_path):
    assert read_board(Run({SRG: scores, MORF: scores}).write(tmp_path)).disagreements == ()


def test_curves_share_their_inputs(tmp_path):
    scores = draws(inputs=20, fast=0.0, slow=0.0)
    run = Run({SRG: scores})
    generator = np.random.default_rng(3)
    table = generator.normal(size=(2, 3, 20))
    for (number, name), (level, rows), case in itertools.product(
        enumerate(("fast", "slow")), enumerate((10, 30, 100)), range(20)
    ):
        # What a budget costs differs from input to input.
        if (name, level, case) != ("slow", 2, 4):
            run.curve(name, case, rows + case % 2, SRG, table[number, level, case])
    board = read_board(run.write(tmp_path))
    kept = np.delete(np.arange(20), 4)
    assert board.curve_metric == SRG
    points = {(point.entrant, round(point.rows)): point for point in board.curves}
    assert len(points) == 6
    for (number, name), (level, rows) in itertools.product(enumerate(("fast", "slow")), enumerate((10, 30, 100))):
        point = points[name, rows + 1]
        assert (point.rows, point.score) == (
            pytest.approx(rows + (kept % 2).mean()),
            pytest.approx(table[number, level, kept].mean()),
        )
        assert point.low < point.score < point.high


def test_a_curve_goes_on_to_what_the_entrant_was_ranked_with(tmp_path):
    scores = draws(inputs=20, fast=0.0, slow=0.0)
    run = Run({SRG: scores})
    for case in range(20):
        run.curve("fast", case, 10, SRG, -1.0 + case / 100)
        run.cost("fast", case, rows=64)
    points = read_board(run.write(tmp_path)).curves
    assert [(point.rows, point.score) for point in points] == [
        (10, pytest.approx(-0.905)),
        (64, pytest.approx(scores["fast"].mean())),
    ]


def test_prices(scores, tmp_path):
    run = Run({SRG: scores})
    for case, seconds in enumerate((1.0, 2.0, 9.0)):
        run.cost("good", case, rows=10 * case, backwards=case, seconds=seconds, memory=100 + case)
        run.cost("fair", case, memory=None if case else 5)
    run.entrant("good").update(settings={"steps": 32, "baseline": "mask"}, tuned=True, baseline="mask")
    board = read_board(run.write(tmp_path))
    good, fair = board.prices
    assert (good.rows, good.backwards, good.seconds, good.memory_bytes) == (10, 1, 2, 101)
    assert (good.settings, good.tuned) == ("steps=32, baseline=mask", True)
    assert (fair.memory_bytes, fair.tuned) == (None, False)
    assert board.tables[0].same_imputer == ("good",)


def test_what_surrounds_the_numbers(scores, tmp_path):
    run = Run({SRG: scores})
    run.manifest |= {"tuning_cases": 10, "selection": {"methods": "all", "rows": 128}}
    run.manifest["provenance"]["data"] = "Some sentences"
    board = read_board(run.write(tmp_path))
    assert board.notes == ("Not enough for a claim: 60 independent inputs, 100 are needed.",)
    assert board.absent == (("shap:partition", "SHAP is not installed"),)
    known = dict(board.provenance)
    assert (known["weights"], known["imputers"], known["packages"]) == ("abc", "mask, pad", "torch=2")
    assert (known["data"], known["digest of the inputs"]) == ("Some sentences", "123")
    assert (known["asked for"], known["tuned on"]) == ("methods=all, rows=128", "10 inputs of another split")
    table = board.tables[0]
    assert (table.metric, table.title, table.family, table.source) == ("srg", "SRG", "removal", "A paper")


def test_enough_inputs_need_no_warning(tmp_path):
    board = read_board(Run({SRG: draws(inputs=120, a=0.0, b=1.0)}).write(tmp_path))
    assert (board.enough, board.notes) == (True, ())


def test_a_run_that_was_stopped_counts_finished_inputs_only(scores, tmp_path):
    run = Run({SRG: scores})
    run.manifest["cases"], run.case_rows = 200, run.case_rows[:25]
    board = read_board(run.write(tmp_path))
    assert (board.inputs, board.tables[0].inputs) == (25, 25)
    assert standing(board, "good").mean == pytest.approx(scores["good"][:25].mean())
    assert "25 of 200 inputs are done: the run was stopped, or its budget was spent." in board.notes


def test_one_input_has_means_and_no_intervals(tmp_path):
    found = standing(read_board(Run({SRG: {"a": [1.0], "b": [2.0], "c": [0.0]}}).write(tmp_path)), "a")
    assert (found.mean, found.rank, found.p_value) == (1, 2, 1)
    assert np.isnan([found.low, found.high]).all()


def test_all_tasks_of_a_folder(scores, tmp_path):
    for task in ("first", "second"):
        run = Run({SRG: scores})
        run.manifest["task"] = task
        run.write(tmp_path / task)
    assert [board.task for board in read_boards(tmp_path)] == ["first", "second"]
    assert read_boards(tmp_path / "second") == [read_board(tmp_path / "second")]


# Bad folders


def test_folders_that_cannot_be_read(scores, tmp_path):
    with pytest.raises(InputError, match=r"run\.json is missing"):
        read_board(tmp_path)
    with pytest.raises(InputError, match="no results of a benchmark"):
        read_boards(tmp_path)
    run = Run({SRG: scores})
    run.case_rows = []
    with pytest.raises(InputError, match=r"no input of .* is finished"):
        read_board(run.write(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 7}, "version 7, and this pellucid reads version 1"),
        ({"entrants": 5}, "entrants: "),
        ({"metrics": []}, "holds scores of 'srg .*', which its run.json does not name"),
        ({"entrants": []}, "holds scores of 'good', which its run.json does not name"),
    ],
)
def test_manifests_that_do_not_fit(scores, changes, said, tmp_path):
    run = Run({SRG: scores})
    run.manifest |= changes
    with pytest.raises(RecordError, match=said):
        read_board(run.write(tmp_path))


def test_a_broken_shard_is_named(scores, tmp_path):
    folder = Run({SRG: scores}).write(tmp_path)
    (folder / "scores" / "1.parquet").write_bytes(b"nothing")
    with pytest.raises(RecordError, match=r"scores/1\.parquet' cannot be read .*run the benchmark again"):
        read_board(folder)


def test_a_run_that_was_stopped_before_it_scored_says_so(scores, tmp_path):
    run = Run({SRG: scores})
    del run.manifest["entrants"]
    with pytest.raises(InputError, match=r"has not begun to score; the same command goes on"):
        read_board(run.write(tmp_path))


def test_of_a_case_in_two_shards_the_first_counts(scores, tmp_path):
    once = read_board(Run({SRG: scores}).write(tmp_path / "once"))
    folder = Run({SRG: scores}).write(tmp_path / "twice")
    Run({SRG: {name: values + 9 for name, values in scores.items()}}).write(tmp_path / "other")
    for path in (tmp_path / "other").glob("*/*.parquet"):
        (folder / path.parent.name / f"z{path.name}").write_bytes(path.read_bytes())
    twice = read_board(folder)
    assert (twice.tables, twice.inputs) == (once.tables, once.inputs)
    assert any("stand in two shards" in note for note in twice.notes)
    assert not any("two shards" in note for note in once.notes)


def test_an_outlier_that_makes_the_best_mean_beats_nobody(tmp_path):
    generator = np.random.default_rng(0)
    most = generator.normal(0.5, 0.05, 60)
    few = most - 0.02 - generator.uniform(0, 0.01, 60)
    few[:3] += 5
    board = read_board(Run({SRG: {"few": few, "most": most}}).write(tmp_path))
    found = standing(board, "most")
    assert (found.rank, found.win_rate, found.p_value < 1e-6) == (2, 0.95, True)
    assert (found.is_worse, found.is_disputed) == (False, True)
    for text in (headline(board)[0], board_markdown(board)):
        assert "cannot be told apart from most" in text
        assert "Mean and rank test disagree: most scores better than few on most inputs" in text


def test_a_case_that_is_there_twice_in_a_shard_is_refused(scores, tmp_path):
    run = Run({SRG: scores})
    run.case_rows.append(run.case_rows[0])
    with pytest.raises(RecordError, match="holds a case twice"):
        read_board(run.write(tmp_path))
