"""The ledger against an attacker, a kill, a full disk and a second writer."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key
from pydantic import ValidationError

import pellucid.audit.ledger as ledger_module
from pellucid.audit.attribution import Attribution
from pellucid.audit.canonical import canonical, finite
from pellucid.audit.keys import PublicKey, Signer, SiteKey, default_folder, open_keys
from pellucid.audit.ledger import Ledger, read_records, verify
from pellucid.audit.record import (
    CaseInput,
    Change,
    Counterfactual,
    Decision,
    DecisionRecord,
    Environment,
    InputField,
    uuid7,
)
from pellucid.errors import InputError, MissingPackageError, RecordError
from pellucid.explanation import Explanation
from pellucid.records import Check, Checks, Cost, Feature, Fingerprint
from pellucid.targets import Choice

DIGEST = "ab" * 32


def explanation() -> Explanation:
    fields = (
        Feature(label="age", kind="field", value="52", start=5, end=7),
        Feature(label="nodes", kind="field", value="5", start=16, end=17),
    )
    pieces = (("<s>", None), ("Age", 0), (":", 3), (" 52", 4), (". Nodes:", 7), (" 5", 15), (".", 17))
    tokens = tuple(
        Feature(label=text, kind="token", value=text, start=at, end=None if at is None else at + len(text))
        if at is not None
        else Feature(label=text, kind="token", value=text, role="template")
        for text, at in pieces
    )
    return Explanation(
        values=np.array([[0.1, -0.2, 3e-7, 1.5, 1e-30, np.nan, 7]], dtype=np.float32),
        base_values=np.array([0.25], dtype=np.float32),
        full_values=np.array([np.inf], dtype=np.float32),
        features=tokens,
        ladder={"field": fields},
        output_names=("high",),
        target=Choice(options=("low", "high"), chosen="high"),
        unit="log-probability",
        method="occlusion",
        settings={"tolerance": float("nan"), "pair": (1, 2)},
        baseline="neutral",
        seed=0,
        checks=Checks(
            level="free",
            items=(Check(name="gap", value=0.1, threshold=0.2, passed=True, decisive=True, detail="The sum fits."),),
        ),
        cost=Cost(forwards=3),
        fingerprint=fingerprint(),
    )


def fingerprint() -> Fingerprint:
    return Fingerprint(
        model="tiny",
        weights=DIGEST,
        tokenizer=DIGEST,
        template="",
        dtype="float32",
        device="cpu",
        attention="sdpa",
        versions={"torch": "2.13.0"},
    )


def record(case: str = "p1", **changes: object) -> DecisionRecord:
    plain = {
        "record_id": uuid7(),
        "started": "2026-11-22T02:12:05.000000Z",
        "finished": "2026-11-22T02:12:06.123456Z",
        "model": fingerprint(),
        "input": CaseInput(
            case=case,
            digest=DIGEST,
            site_key=DIGEST,
            template="inline",
            template_digest=DIGEST,
            tokens=7,
            token_digest=DIGEST,
            text="Age: 52. Nodes: 5. <script>‮ \U0001f600\u2028",
            fields=(InputField(name="age", digest=DIGEST, value="52", wording="52 years", start=5, end=7),),
        ),
        "decision": Decision(
            kind="choice",
            options=("low", "high"),
            probabilities=(0.3, 0.7),
            chosen="high",
            output_digest=DIGEST,
            log_probs=(-3.5, float("nan")),
            seconds=0.5,
        ),
        "attributions": (Attribution.of(explanation()),),
        "counterfactual": Counterfactual(
            found=True,
            changes=(Change(field="age", before="52", after="70", before_digest=DIGEST, after_digest=DIGEST),),
            decision="low",
            probability=0.6,
            evaluations=9,
            searched="Every field, every value of the cohort, one at a time.",
        ),
        "noise_floor": float("inf"),
        "tolerance": 1e-4,
        "cost": Cost(seconds=1.25),
        "environment": Environment(system="Linux", python="3.11", versions={}, cpu="x", threads=1, dtype="float32"),
        "redacted": False,
    }
    return DecisionRecord(**plain | changes)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.load_or_create(tmp_path / "keys" / "signing_key.pem")


@pytest.fixture
def folder(tmp_path: Path, signer: Signer) -> Path:
    """A ledger of five records."""
    with Ledger.open(tmp_path / "run", signer) as ledger:
        for index in range(5):
            ledger.append(record(f"p{index}"))
    return tmp_path / "run"


def lines(folder: Path) -> list[bytes]:
    return (folder / "records.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(folder: Path, content: list[bytes]) -> None:
    (folder / "records.jsonl").write_bytes(b"".join(content))


def broken(folder: Path, public_key: Path | None = None) -> tuple[int | None, str]:
    result = verify(folder, public_key)
    assert not result.ok
    assert result.first_broken is not None
    assert "NOT" in result.sentence
    return result.first_broken.index, result.first_broken.reason


# What was written can be checked by anybody, with other code


def test_an_independent_reader_comes_to_the_same_hashes_and_signatures(folder: Path) -> None:
    key = load_pem_public_key((folder / "public_key.pem").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    previous = "0" * 64
    for index, line in enumerate(lines(folder)):
        document = json.loads(line)
        assert canonical(document) + b"\n" == line
        integrity = document["integrity"]
        assert integrity["sequence"] == index
        assert integrity["previous_hash"] == previous
        assert integrity["key_id"] == hashlib.sha256(key.public_bytes_raw()).hexdigest()
        signature = bytes.fromhex(integrity.pop("signature"))
        previous = integrity.pop("record_hash")
        digest = hashlib.sha256(canonical(document)).digest()
        assert digest.hex() == previous
        key.verify(signature, b"pellucid-record-v1\n" + digest)
    head = json.loads((folder / "head.json").read_bytes())
    assert (head["count"], head["last_hash"]) == (5, previous)


def test_a_good_ledger_verifies_and_says_what_that_does_not_prove(folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copy(folder / "public_key.pem", tmp_path / "elsewhere.pem")
    beside, given = verify(folder), verify(folder, elsewhere)
    assert beside.ok
    assert (beside.count, beside.key_source, beside.notes) == (5, "beside", ())
    assert len(beside.proves_not) == 2
    assert "who wrote it" in beside.proves_not[0]
    assert given.ok
    assert given.key_source == "given"
    assert len(given.proves_not) == 1
    assert given.last_hash == json.loads(lines(folder)[-1])["integrity"]["record_hash"]
    assert "5 records" in given.sentence


def test_records_come_back_as_they_were_with_nan_as_none(folder: Path) -> None:
    records = list(read_records(folder))
    assert [each.input.case for each in records] == ["p0", "p1", "p2", "p3", "p4"]
    first = records[0]
    assert first.noise_floor is None
    assert first.decision.log_probs == (-3.5, None)
    assert first.attributions[0].values == ((0.1, -0.2, 3e-7, 1.5, 1e-30, None, 7.0),)
    assert first.attributions[0].full_values == (None,)
    assert first.attributions[0].settings == {"tolerance": None, "pair": [1, 2]}
    assert first.input.text == record().input.text


# An attacker


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flip_of_any_byte_of_any_kind_is_seen(folder: Path, flip: int) -> None:
    content = (folder / "records.jsonl").read_bytes()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    target = content[starts[2] : starts[3]]
    # Every byte around the seal and the line's ends, and a walk over the rest.
    seal = starts[2] + target.index(b'"integrity"')
    places = {*range(seal, seal + 560), starts[3] - 1, starts[3] - 2, starts[2], *range(starts[2], starts[3], 41)}
    for place in sorted(places):
        changed = bytearray(content)
        changed[place] ^= flip
        (folder / "records.jsonl").write_bytes(changed)
        index, reason = broken(folder)
        assert index == 2, (place, changed[place - 20 : place + 20], reason)
        assert reason


def test_a_flip_of_any_byte_of_the_head_is_seen(folder: Path) -> None:
    content = (folder / "head.json").read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x01
        (folder / "head.json").write_bytes(changed)
        index, reason = broken(folder)
        assert index is None
        assert reason


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_cut_tail_is_seen(folder: Path, left: int) -> None:
    write_lines(folder, lines(folder)[:left])
    index, reason = broken(folder)
    assert index == left
    assert "tail was cut" in reason
    assert "5" in reason


def test_a_tail_cut_in_the_middle_of_a_record_is_seen(folder: Path) -> None:
    content = (folder / "records.jsonl").read_bytes()
    for cut in (1, 2, 500):
        (folder / "records.jsonl").write_bytes(content[:-cut])
        index, reason = broken(folder)
        assert index == 4
        assert "in the middle" in reason


def test_a_deletion_a_repetition_and_a_new_order_name_the_record(folder: Path) -> None:
    a, b, c, d, e = lines(folder)
    for content, index in (([a, b, d, e], 2), ([b, c, d, e], 0), ([a, c, b, d, e], 1), ([a, a, b, c, d], 1)):
        write_lines(folder, content)
        assert broken(folder)[0] == index
        assert "reordered" in broken(folder)[1]
    write_lines(folder, [a, b, c, d, e, b"\n"])
    assert broken(folder)[0] == 5


def test_an_edit_with_a_fresh_hash_fails_on_the_signature(folder: Path) -> None:
    content = lines(folder)
    document = json.loads(content[1])
    document["decision"]["chosen"] = "low"
    integrity = document["integrity"]
    signature = integrity.pop("signature")
    integrity.pop("record_hash")
    integrity |= {"record_hash": hashlib.sha256(canonical(document)).hexdigest(), "signature": signature}
    content[1] = canonical(document) + b"\n"
    write_lines(folder, content)
    index, reason = broken(folder)
    assert index == 1
    assert "signature" in reason
    assert json.loads(content[1])["record_id"] in verify(folder).sentence


def test_a_record_of_another_ledger_of_the_same_key_does_not_fit_in(
    folder: Path, tmp_path: Path, signer: Signer
) -> None:
    with Ledger.open(tmp_path / "other", signer) as ledger:
        for index in range(5):
            ledger.append(record(f"q{index}"))
    content = lines(folder)
    content[2] = lines(tmp_path / "other")[2]
    write_lines(folder, content)
    index, reason = broken(folder)
    assert index == 2
    assert "previous_hash" in reason


def test_a_signature_or_a_head_written_in_another_way_is_seen(folder: Path) -> None:
    content = lines(folder)
    signature = json.loads(content[1])["integrity"]["signature"].encode()
    write_lines(folder, [content[0], content[1].replace(signature, signature.upper()), *content[2:]])
    index, reason = broken(folder)
    assert index == 1
    assert "signature" in reason
    write_lines(folder, content)
    head = json.loads((folder / "head.json").read_bytes())
    (folder / "head.json").write_text(json.dumps(head))
    assert "canonical" in broken(folder)[1]


def test_a_rewritten_line_with_the_same_meaning_is_seen(folder: Path) -> None:
    content = lines(folder)
    content[3] = json.dumps(json.loads(content[3])).encode() + b"\n"
    write_lines(folder, content)
    assert broken(folder)[0] == 3


def test_a_ledger_signed_again_by_another_key_passes_beside_and_fails_against_the_true_key(
    folder: Path, tmp_path: Path
) -> None:
    true_key = shutil.copy(folder / "public_key.pem", tmp_path / "true.pem")
    forger = Signer.load_or_create(tmp_path / "forger" / "key.pem")
    originals = list(read_records(folder))
    shutil.rmtree(folder)
    with Ledger.open(folder, forger) as ledger:
        for each in originals:
            ledger.append(each)
    assert verify(folder).ok
    index, reason = broken(folder, true_key)
    assert index == 0
    assert "another key signed it" in reason


def test_a_head_of_another_ledger_or_of_another_key_is_seen(folder: Path, tmp_path: Path, signer: Signer) -> None:
    with Ledger.open(tmp_path / "other", signer) as ledger:
        for index in range(5):
            ledger.append(record(f"p{index}"))
    shutil.copy(tmp_path / "other" / "head.json", folder / "head.json")
    index, reason = broken(folder)
    assert index is None
    assert "another hash" in reason
    forger = Signer.load_or_create(tmp_path / "forger" / "key.pem")
    with Ledger.open(tmp_path / "forged", forger) as ledger:
        ledger.append(record())
    shutil.copy(tmp_path / "forged" / "head.json", folder / "head.json")
    assert "another key" in broken(folder)[1]
    (folder / "head.json").unlink()
    assert "cannot be read" in broken(folder)[1]


def test_a_swapped_public_key_is_seen(folder: Path, tmp_path: Path) -> None:
    true_key = shutil.copy(folder / "public_key.pem", tmp_path / "true.pem")
    (folder / "public_key.pem").write_bytes(Signer.load_or_create(tmp_path / "f" / "key.pem").public.pem)
    assert broken(folder)[0] == 0
    result = verify(folder, true_key)
    assert result.ok
    assert "not the key that was given" in result.notes[0]
    (folder / "public_key.pem").write_bytes(b"nothing")
    with pytest.raises(RecordError, match="Ed25519 public key"):
        verify(folder)


@pytest.mark.parametrize(
    "line",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"integrity":{"sequence":5}}', b'{"integrity":NaN}'],
)
def test_hostile_lines_are_broken_records_and_not_tracebacks(folder: Path, line: bytes) -> None:
    write_lines(folder, [*lines(folder), line + b"\n"])
    assert broken(folder)[0] == 5


def test_a_record_without_a_seal_is_broken(folder: Path) -> None:
    for name, value in (
        ("record_hash", ""),
        ("record_hash", None),
        ("signature", ""),
        ("signature", 1),
        ("key_id", None),
    ):
        content = lines(folder)
        document = json.loads(content[4])
        for changed in ({name: value}, {}):
            integrity = {key: each for key, each in document["integrity"].items() if key != name} | changed
            for written in (canonical(document | {"integrity": integrity}), json.dumps(integrity | document).encode()):
                write_lines(folder, [*content[:4], written + b"\n"])
                assert broken(folder)[0] == 4
        write_lines(folder, content)
    assert verify(folder).ok


def test_an_unknown_field_or_version_is_refused_even_when_it_is_signed(folder: Path, signer: Signer) -> None:
    from pellucid.audit.chain import Head, sealed

    first = json.loads(lines(folder)[0])
    for change, reason in (({"extra": 1}, "extra"), ({"schema_version": 2}, "schema version is 2")):
        document = {key: value for key, value in first.items() if key != "integrity"} | change
        document = sealed(document, 0, "0" * 64, signer)
        write_lines(folder, [canonical(document) + b"\n"])
        (folder / "head.json").write_bytes(Head.signed(1, document["integrity"]["record_hash"], signer))
        assert reason in broken(folder)[1]


# Kills, full disks, two writers


def test_half_a_line_beyond_the_head_is_kept_aside_and_the_ledger_goes_on(folder: Path, signer: Signer) -> None:
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b'{"half":')
    seen = verify(folder)
    assert seen.ok
    assert "no whole line" in seen.notes[0]
    with Ledger.open(folder, signer) as ledger:
        assert ledger.count == 5
        ledger.append(record("p5"))
    assert (folder / "records.torn").read_bytes() == b'{"half":\n'
    assert verify(folder).ok
    assert verify(folder).notes == ()
    assert verify(folder).count == 6


def test_a_whole_record_beyond_the_head_is_adopted(folder: Path, signer: Signer) -> None:
    old_head = (folder / "head.json").read_bytes()
    with Ledger.open(folder, signer) as ledger:
        ledger.append(record("p5"))
    (folder / "head.json").write_bytes(old_head)
    (folder / ".head.json.123.tmp").write_bytes(b"left by a kill")
    assert verify(folder).ok
    assert "beyond the signed head" in verify(folder).notes[0]
    with Ledger.open(folder, signer) as ledger:
        assert ledger.count == 6
    assert verify(folder).notes == ()
    assert not list(folder.glob(".head.json*"))


def test_a_broken_ledger_is_not_appended_to(folder: Path, signer: Signer, tmp_path: Path) -> None:
    content = lines(folder)
    write_lines(folder, content[:3])
    with pytest.raises(RecordError, match=r"nothing is appended: record 3: .*tail was cut"):
        Ledger.open(folder, signer)
    write_lines(folder, content)
    Ledger.open(folder, signer).close()
    other = Signer.load_or_create(tmp_path / "other" / "key.pem")
    with pytest.raises(InputError, match="belongs to key"):
        Ledger.open(folder, other)
    (folder / "head.json").unlink()
    with pytest.raises(RecordError, match=r"head\.json"):
        Ledger.open(folder, signer)


def test_an_empty_ledger_verifies(tmp_path: Path, signer: Signer) -> None:
    Ledger.open(tmp_path / "run", signer).close()
    assert verify(tmp_path / "run").ok
    assert verify(tmp_path / "run").count == 0


def test_a_second_writer_is_refused_and_may_come_later(tmp_path: Path, signer: Signer) -> None:
    with Ledger.open(tmp_path / "run", signer) as ledger:
        ledger.append(record())
        with pytest.raises(InputError, match="another process is writing"):
            Ledger.open(tmp_path / "run", signer)
        code = (
            "import sys; from pathlib import Path; from pellucid.audit.ledger import Ledger; "
            "from pellucid.audit.keys import Signer\n"
            "Ledger.open(sys.argv[1], Signer.load(Path(sys.argv[2])))"
        )
        key = tmp_path / "keys" / "signing_key.pem"
        second = subprocess.run([sys.executable, "-c", code, tmp_path / "run", key], capture_output=True, text=True)
        assert second.returncode != 0
        assert "another process is writing" in second.stderr
    with Ledger.open(tmp_path / "run", signer) as ledger:
        ledger.append(record())
    assert verify(tmp_path / "run").count == 2


KILLER = textwrap.dedent("""
    import os, random, signal, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_ledger import record
    from pellucid.audit.keys import Signer
    from pellucid.audit.ledger import Ledger, verify

    folder, signer, torn, adopted = Path(sys.argv[1]), Signer.load(Path(sys.argv[2])), 0, 0
    big, before = record("p" + "x" * 300_000), 0
    for trial in range(25):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            with Ledger.open(folder, signer) as ledger:
                while True:
                    ledger.append(big)
                    os.write(writer, b".")
        os.close(writer)
        os.read(reader, 1)
        time.sleep(random.Random(trial).uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished = 1
        while chunk := os.read(reader, 4096):
            finished += len(chunk)
        os.close(reader)
        seen = verify(folder)
        assert seen.ok, seen.sentence
        assert before + finished <= seen.count <= before + finished + 1, (before, finished, seen.count)
        with Ledger.open(folder, signer) as ledger:
            assert ledger.count == seen.count
        mended = verify(folder)
        assert mended.ok and mended.notes == () and mended.count == seen.count
        before = seen.count
        torn += any("whole line" in note for note in seen.notes)
        adopted += any("beyond the signed head" in note for note in seen.notes)
    print(torn, adopted)
""").format(tests=str(Path(__file__).parent))


def test_kills_in_the_middle_lose_nothing_that_was_finished(tmp_path: Path, signer: Signer) -> None:
    key = tmp_path / "keys" / "signing_key.pem"
    done = subprocess.run([sys.executable, "-c", KILLER, tmp_path / "run", key], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torn, adopted = map(int, done.stdout.split())
    # The kills must have struck where it matters, or this test would show nothing.
    assert torn + adopted > 0


@pytest.mark.parametrize("kept", [0, 1, 700, -1])
def test_a_kill_after_any_number_of_bytes_is_mended(folder: Path, signer: Signer, kept: int) -> None:
    content = lines(folder)
    write_lines(folder, content[:4])
    from pellucid.audit.chain import Head

    (folder / "head.json").write_bytes(Head.signed(4, json.loads(content[3])["integrity"]["record_hash"], signer))
    with (folder / "records.jsonl").open("ab") as file:
        file.write(content[4][:kept])
    assert verify(folder).ok
    with Ledger.open(folder, signer) as ledger:
        assert ledger.count == 4
        ledger.append(record())
    assert verify(folder).count == 5
    assert (folder / "records.torn").exists() == (kept != 0)


FULL = textwrap.dedent("""
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_ledger import record
    from pellucid.audit.keys import Signer
    from pellucid.audit.ledger import Ledger
    from pellucid.errors import RecordError

    ledger = Ledger.open(sys.argv[1], Signer.load(Path(sys.argv[2])))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        while True:
            ledger.append(record())
    except RecordError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.append(record("after"))
""").format(tests=str(Path(__file__).parent))


def test_a_file_that_may_not_grow_keeps_what_was_finished(tmp_path: Path, signer: Signer) -> None:
    key = tmp_path / "keys" / "signing_key.pem"
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "run", key], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert "are kept and verify" in done.stdout
    result = verify(tmp_path / "run")
    assert result.ok
    assert result.notes == ()
    assert result.count >= 2
    assert list(read_records(tmp_path / "run"))[-1].input.case == "after"


@pytest.mark.parametrize("where", ["record", "head"])
def test_a_full_disk_leaves_the_ledger_as_it_was(
    folder: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = (folder / "records.jsonl").read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(descriptor: int, content: memoryview) -> int:
        monkeypatch.setattr(ledger_module.os, "write", full)
        return real_write(descriptor, content[:100])

    real_write = os.write
    with Ledger.open(folder, signer) as ledger:
        with monkeypatch.context():
            if where == "record":
                monkeypatch.setattr(ledger_module.os, "write", half)
            else:
                monkeypatch.setattr(ledger_module, "write_atomically", full)
            with pytest.raises(RecordError, match="No space left on device; the 5 records before it are kept"):
                ledger.append(record())
        monkeypatch.undo()
        assert (folder / "records.jsonl").read_bytes() == before
        assert verify(folder).ok
        ledger.append(record("p5"))
    assert verify(folder).count == 6


def test_an_interruption_while_the_head_is_signed_is_mended_by_the_next_open(
    folder: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with Ledger.open(folder, signer) as ledger:
        monkeypatch.setattr(ledger_module, "write_atomically", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(record("p5"))
        monkeypatch.undo()
        with pytest.raises(RecordError, match="open the ledger again"):
            ledger.append(record("p5"))
    assert verify(folder).ok
    with Ledger.open(folder, signer) as ledger:
        assert ledger.count == 6


def test_a_record_without_a_canonical_form_is_refused_before_anything_is_written(folder: Path, signer: Signer) -> None:
    before = (folder / "records.jsonl").read_bytes()
    big = Attribution.of(explanation()).model_copy(update={"seed": 2**60})
    with Ledger.open(folder, signer) as ledger:
        with pytest.raises(InputError, match="canonical JSON"):
            ledger.append(record(attributions=(big,)))
        with pytest.raises(InputError, match="tolerance"):
            ledger.append(record().model_copy(update={"tolerance": float("nan")}))
        ledger.append(record())
    assert (folder / "records.jsonl").read_bytes().startswith(before)
    assert verify(folder).count == 6


def test_places_without_a_ledger_are_refused_in_one_sentence(tmp_path: Path, folder: Path, signer: Signer) -> None:
    with pytest.raises(InputError, match="there is no ledger"):
        verify(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        verify(folder, tmp_path / "nokey.pem")
    with pytest.raises(InputError, match="cannot be read"):
        next(read_records(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="no ledger can be kept"):
        Ledger.open(tmp_path / "file", signer)


def test_a_thousand_records_verify_in_a_fraction_of_a_second(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    same = record()
    with Ledger.open(tmp_path / "run", signer) as ledger:
        for _ in range(1000):
            ledger.append(same)
    begun = time.process_time()
    assert verify(tmp_path / "run").count == 1000
    assert time.process_time() - begun < 1.0


# Records


def test_uuid7_is_version_7_and_sorted_by_time() -> None:
    made = []
    for _ in range(5):
        made.append(UUID(uuid7()))
        time.sleep(0.002)
    assert made == sorted(made)
    assert len(set(made)) == 5
    assert {(each.version, each.variant) for each in made} == {(7, "specified in RFC 4122")}
    assert abs((made[-1].int >> 80) / 1000 - time.time()) < 5


def test_an_attribution_keeps_what_an_explanation_says() -> None:
    kept = Attribution.of(explanation())
    assert kept.level == "token"
    assert kept.owners == (None, None, None, "age", None, "nodes", None)
    assert kept.roles[:2] == ("template", "input")
    assert kept.spans is not None
    assert kept.spans[:2] == (None, (0, 3))
    assert kept.verdict == "reliable"
    assert np.float32(kept.values[0][0]) == np.float32(0.1)
    with pytest.raises(ValidationError, match="another length"):
        Attribution(**dict(kept) | {"labels": ("a",)})


def test_a_redacted_record_holds_no_text_anywhere() -> None:
    whole = record()
    hidden = whole.redact()
    text = json.dumps(finite(hidden.model_dump(mode="json")), ensure_ascii=False)
    assert hidden.redacted
    for secret in ("52 years", "script", '"52"', '"70"', '" 52"', "Nodes:"):
        assert secret in json.dumps(whole.model_dump(mode="json"), ensure_ascii=False)
        assert secret not in text
    assert hidden.attributions[0].values == whole.attributions[0].values
    assert hidden.decision.chosen == "high"
    with pytest.raises(ValidationError, match=r"holds text in input\.text"):
        record(redacted=True)
    generated = Decision(kind="generated", seconds=0.5, output="She is ill", token_ids=(1, 2), output_digest=DIGEST)
    hidden = record(decision=generated).redact()
    assert hidden.attributions[0].outputs is None
    assert "She is ill" not in json.dumps(finite(hidden.model_dump(mode="json")))


# Keys


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first, again = open_keys(tmp_path / "deep" / "keys"), open_keys(tmp_path / "deep" / "keys")
    assert first.signer.public.key_id == again.signer.public.key_id
    assert first.site.digest("52", "p1", "age") == again.site.digest("52", "p1", "age")
    for path in (tmp_path / "deep" / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "deep" / "keys").stat().st_mode & 0o777 == 0o700
    assert len(list((tmp_path / "deep" / "keys").iterdir())) == 2


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_keys(tmp_path)
    for name in ("signing_key.pem", "site_key.hex"):
        path = tmp_path / name
        for mode in (0o640, 0o604, 0o620):
            path.chmod(mode)
            with pytest.raises(InputError, match=f"chmod 600 {path}"):
                open_keys(tmp_path)
        path.chmod(0o600)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    open_keys(tmp_path)
    (tmp_path / "signing_key.pem").write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(InputError, match="Ed25519 private key"):
        open_keys(tmp_path)
    (tmp_path / "signing_key.pem").write_bytes(b"")
    with pytest.raises(InputError, match="Ed25519 private key"):
        open_keys(tmp_path)
    (tmp_path / "signing_key.pem").unlink()
    (tmp_path / "site_key.hex").write_bytes(b"abcd")
    with pytest.raises(InputError, match="site key"):
        open_keys(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError):
        open_keys(tmp_path / "file")


@pytest.mark.parametrize("package", ["cryptography", "rfc8785"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package} is not installed; run: pip install 'pellucid\[audit\]'"):
        Ledger.open(tmp_path / "run", open_keys(tmp_path / "keys").signer)


def test_digests_depend_on_the_key_the_text_and_the_context() -> None:
    site, other = SiteKey(b"k" * 32), SiteKey(b"q" * 32)
    digests = [
        site.digest("52", "p1", "age"),
        site.digest("52", "p2", "age"),
        site.digest("52", "p1a", "ge"),
        site.digest("", "p1", "age52"),
        other.digest("52", "p1", "age"),
        site.digest("52"),
        site.key_id,
    ]
    assert len(set(digests)) == len(digests)
    assert hashlib.sha256(b"52").hexdigest() not in digests


def test_the_default_folder_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "pellucid"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert default_folder() == Path.home() / ".config" / "pellucid"


def test_a_public_key_checks_what_another_implementation_signed() -> None:
    private = Ed25519PrivateKey.generate()
    public = PublicKey(private.public_key().public_bytes_raw())
    assert public.accepts(private.sign(b"m").hex(), b"m")
    assert not public.accepts(private.sign(b"m").hex(), b"n")
    assert not public.accepts("zz", b"m")
