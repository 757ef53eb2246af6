"""The audit from cases to report, on a tiny model that is saved as a folder like any other."""

import html
import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pellucid import Template, load
from pellucid.audit.attribution import Attribution
from pellucid.audit.case import Audited
from pellucid.audit.config import AuditConfig
from pellucid.audit.ledger import read_records, verify
from pellucid.audit.replay import replay
from pellucid.audit.run import RunFile, run_audit, write_report
from pellucid.errors import InputError, ModelError, NumericalError, RecordError, UnknownNameError
from pellucid.methods import all_methods
from pellucid.targets import Choice
from pellucid.testing import tiny_model

TEMPLATE = "the tumour is {size} and {nodes} nodes are {state} risk"
ROWS = ["a,large,six,positive,high", "b,small,no,positive,low", "c,large,no,small,high", "d,small,six,,low"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_model()
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> AuditConfig:
    (tmp_path / "cases.csv").write_text("\n".join(["id,size,nodes,state,outcome", *ROWS]) + "\n")
    return AuditConfig.of(
        cases=tmp_path / "cases.csv",
        template=TEMPLATE,
        choices="high,low",
        id_column="id",
        absent="risk",
        missing="no",
        model=str(model_folder),
        expected=["nodes", "size"],
        decoy=["state"],
        outcome={"column": "outcome", "options": {"high": "high", "low": "low"}},
        out=tmp_path / "out",
        store_text=True,
        full_checks_on=1,
    )


def keys(config: AuditConfig) -> Path:
    return config.out.parent / "keys"


def test_a_run_gives_a_ledger_that_verifies_and_a_report(config: AuditConfig) -> None:
    summary = run_audit(config, keys(config))
    assert verify(config.out).ok
    records = list(read_records(config.out))
    assert [record.input.case for record in records] == ["a", "b", "c", "d"]
    assert records[0].attributions[0].checks.level == "full"
    assert records[1].attributions[0].checks.level == "free"
    page = summary.report.read_text()
    assert "<script" not in page
    assert "://" not in re.sub(r'xmlns="[^"]*"', "", page)
    assert len(summary.lines) == 5
    assert "4 cases" in summary.lines[0]


def test_the_recorded_decision_is_that_of_the_plain_model(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    model = load(config.model)
    for record in read_records(config.out):
        assert record.input.text is not None
        ids = model.tokenizer(record.input.text)["input_ids"]
        logits = model.module(torch.tensor([ids])).logits[0, -1].double()
        options = [model.tokenizer.convert_tokens_to_ids(option) for option in ("high", "low")]
        probabilities = logits[options].softmax(0).tolist()
        assert list(record.decision.probabilities) == pytest.approx(probabilities, abs=1e-6)
        assert record.decision.chosen == ("high", "low")[int(probabilities[1] > probabilities[0])]
        values = record.attributions[0]
        gap = sum(values.values[0]) - (values.full_values[0] - values.base_values[0])
        assert abs(gap) < 1e-5
        assert values.full_values[0] == pytest.approx(math.log(max(probabilities)), abs=1e-5)


def test_a_flip_is_real_and_the_smallest(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    model = load(config.model)
    template = Template(TEMPLATE, absent="risk", missing="no")
    cohort = {"size": ["large", "small"], "nodes": ["six", "no"], "state": ["positive", "small", None]}

    def decision(values: dict[str, str | None]) -> str | None:
        return model.bind(Choice(("high", "low")), model.encode(template(**values))).target.chosen

    for record in read_records(config.out):
        case = {field.name: field.value for field in record.input.fields}
        singles = [{**case, name: value} for name, known in cohort.items() for value in known if value != case[name]]
        flips = any(decision(changed) != record.decision.chosen for changed in singles)
        search = record.counterfactual
        assert search is not None
        if search.found:
            changed = {**case, **{change.field: change.after for change in search.changes}}
            assert decision(changed) == search.decision != record.decision.chosen
        assert (search.found and len(search.changes) == 1) == flips


def test_a_stopped_run_goes_on_where_it_stopped(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    work, seen = Audited.record, []

    def stop_at_third(self: Audited, case: object, level: str) -> object:
        seen.append(case)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return work(self, case, level)

    monkeypatch.setattr(Audited, "record", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_audit(config, keys(config))
    assert verify(config.out).count == 2
    first = (config.out / "records.jsonl").read_bytes()
    run_audit(config, keys(config))
    assert len(seen) == 5
    assert (config.out / "records.jsonl").read_bytes().startswith(first)
    assert verify(config.out).count == 4
    # Done is done: a further run asks the model nothing.
    run_audit(config, keys(config))
    assert len(seen) == 5


def test_a_killed_run_verifies_and_resumes(config: AuditConfig, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from pellucid.audit.config import AuditConfig; "
        "from pellucid.audit import case; from pellucid.audit.run import run_audit\n"
        "work = case.Audited.record\n"
        "def slow(self, *rest):\n    time.sleep(0.3); return work(self, *rest)\n"
        "case.Audited.record = slow\n"
        "config = AuditConfig.model_validate_json(Path(sys.argv[1]).read_text()); run_audit(config, Path(sys.argv[2]))"
    )
    (tmp_path / "config.json").write_text(config.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "config.json"), str(keys(config))])
    records = config.out / "records.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (records.exists() and records.read_bytes().count(b"\n") >= 1):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert verify(config.out).ok
    run_audit(config, keys(config))
    assert verify(config.out).count == 4


def test_other_settings_or_another_model_are_refused(config: AuditConfig, tmp_path: Path) -> None:
    run_audit(config, keys(config))
    with pytest.raises(InputError, match="other settings"):
        run_audit(config.with_overrides(seed=1), keys(config))
    folder = tmp_path / "other"
    model = load(config.model)
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.5)
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    run = RunFile.read(config.out)
    changed = config.with_overrides(model=str(folder))
    run.model_copy(update={"config": changed, "identity": changed.identity()}).write(config.out)
    with pytest.raises(InputError, match="another model"):
        run_audit(changed, keys(config))


def test_without_consent_no_text_is_stored_anywhere(config: AuditConfig) -> None:
    config = config.with_overrides(store_text=False)
    # Words that neither the template nor the report's own prose would use.
    values = ("zebraone", "zebratwo", "zebrathree", "zebrafour")
    config.cases.write_text(
        "id,size,nodes,state,outcome\nx,{},{},positive,high\ny,{},{},positive,low\n".format(*values)
    )
    run_audit(config, keys(config))
    for path in config.out.rglob("*"):
        content = path.read_text()
        assert "zebra" not in content, path
    with pytest.raises(InputError, match="--cases"):
        replay(config.out, keys_folder=keys(config))
    assert replay(config.out, cases=config.cases, keys_folder=keys(config)).ok


def test_a_replay_gives_the_same_and_sees_a_difference(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    found = replay(config.out, keys_folder=keys(config))
    assert found.ok
    assert len(found.outcomes) == 4
    one = replay(config.out, record="b", keys_folder=keys(config))
    assert [outcome.case for outcome in one.outcomes] == ["b"]
    with pytest.raises(UnknownNameError):
        replay(config.out, record="nobody", keys_folder=keys(config))
    changed = config.cases.parent / "changed.csv"
    changed.write_text(config.cases.read_text().replace("b,small", "b,large"))
    with pytest.raises(InputError, match="another text"):
        replay(config.out, cases=changed, keys_folder=keys(config))
    with pytest.raises(InputError, match="site key"):
        replay(config.out, keys_folder=keys(config).parent / "other-keys")


def test_a_replay_with_other_weights_differs(config: AuditConfig, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = load(config.model)
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    config = config.with_overrides(model=str(folder))
    run_audit(config, keys(config))
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.5)
    model.module.save_pretrained(folder)
    found = replay(config.out, keys_folder=keys(config))
    assert not found.ok
    assert "weights changed" in found.lines[1]
    assert max(outcome.difference for outcome in found.outcomes) > 1e-3


def test_a_changed_record_is_not_replayed(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    path = config.out / "records.jsonl"
    path.write_text(path.read_text().replace('"case":"a"', '"case":"z"', 1))
    with pytest.raises(RecordError, match="record"):
        replay(config.out, keys_folder=keys(config))


def test_nan_keeps_what_was_finished(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    work, seen = Audited.record, []

    def poison_third(self: Audited, case: object, level: str) -> object:
        seen.append(case)
        if len(seen) == 3:
            with torch.no_grad():
                next(self.model.module.parameters()).fill_(math.nan)
        return work(self, case, level)

    monkeypatch.setattr(Audited, "record", poison_third)
    with pytest.raises(NumericalError, match="NaN"):
        run_audit(config, keys(config))
    assert verify(config.out).count == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "the {size} is {gone} risk"}, "gone"),
        ({"expected": ["hair"]}, "hair"),
        ({"choices": "high,low", "method": "kernel_shop"}, "kernel_shap"),
        ({"model": "no-such-model-anywhere"}, "no-such-model"),
        ({"settings": {"samplez": 3}}, "samplez"),
        ({"imputer": "blur"}, "blur"),
    ],
)
def test_bad_settings_are_one_sentence(config: AuditConfig, change: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, ModelError), match=message) as caught:
        run_audit(config.with_overrides(**change), keys(config))
    assert "\n" not in str(caught.value)


def test_a_case_that_is_too_long_is_known_before_anything_is_spent(config: AuditConfig) -> None:
    rows = config.cases.read_text() + "e," + "large " * 100 + ",six,positive,high\n"
    config.cases.write_text(rows)
    with pytest.raises(InputError, match="too long"):
        run_audit(config, keys(config))
    assert verify(config.out).count == 0


def test_a_generated_answer_is_audited(config: AuditConfig) -> None:
    config = config.with_overrides(generate={"max_new_tokens": 3}, outcome={"column": "outcome", "options": {}})
    run_audit(config, keys(config))
    records = list(read_records(config.out))
    assert all(record.decision.kind == "generated" for record in records)
    assert len(records[0].attributions[0].values) == len(records[0].decision.token_ids or ())
    assert replay(config.out, keys_folder=keys(config)).ok


def test_hostile_values_do_no_harm(config: AuditConfig) -> None:
    rows = [
        'a,"<script>alert(1)</script>",six,positive,high',
        'b,"\u202elarge\u202c {{7*7}}",no,positive,low',
        'c,"\U0001f9d1\u200d\u2695\ufe0f large",no,positive,low',
    ]
    config.cases.write_text("\n".join(["id,size,nodes,state,outcome", *rows]) + "\n")
    page = run_audit(config, keys(config)).report.read_text()
    assert "<script" not in page
    assert "\u202e" not in page
    assert "{{7*7}}" in page.replace("&#123;", "{").replace("&#125;", "}")


def test_the_report_can_be_drawn_again_from_the_ledger(config: AuditConfig) -> None:
    report = run_audit(config, keys(config)).report
    before = report.read_bytes()
    report.unlink()
    assert write_report(config.out).read_bytes() == before


def test_the_run_file_names_the_settings(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    document = json.loads((config.out / "run.json").read_text())
    assert document["config"]["method"] == "kernel_shap"
    assert document["hardware"]["parameters"] > 0
    assert document["performance"]["cases"] == 4


def test_a_method_with_patents_says_so_in_every_record_and_in_the_report(config: AuditConfig) -> None:
    config = config.with_overrides(method="backtrace", token_method="attnlrp")
    summary = run_audit(config, keys(config))
    assert verify(config.out).ok
    notices = [all_methods()[name].facts.notice for name in ("backtrace", "attnlrp")]
    for record in read_records(config.out):
        assert [each.method for each in record.attributions] == ["backtrace", "attnlrp"]
        assert [each.notice for each in record.attributions] == notices
        assert record.redact().attributions[0].notice == notices[0]
    page = summary.report.read_text()
    for notice in notices:
        # Once for each case, and once where the method is told.
        assert page.count(html.escape(notice)) == len(ROWS) + 1
    assert replay(config.out, keys_folder=keys(config)).ok


def test_a_record_from_before_notices_were_kept_still_reads(config: AuditConfig) -> None:
    run_audit(config, keys(config))
    document = next(iter(read_records(config.out))).attributions[0].model_dump(mode="json")
    assert document.pop("notice") == ""
    assert Attribution.model_validate(document).notice == ""
