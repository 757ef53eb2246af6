"""An append-only ledger of records: a hash chain, each link signed, and a signed head that shows a cut tail.

A folder holds ``records.jsonl`` (one canonical record a line), ``head.json`` (how many there are, and the hash of the
last, signed anew after every append), ``public_key.pem``, and ``records.torn`` where a killed run left half a line.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import final

from pydantic import ValidationError

from pellucid.audit.canonical import canonical, finite
from pellucid.audit.chain import GENESIS, Broken, Chain, Head, sealed
from pellucid.audit.keys import PublicKey, Signer
from pellucid.audit.record import DecisionRecord
from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.records import Record

RECORDS = "records.jsonl"
HEAD = "head.json"
PUBLIC_KEY = "public_key.pem"
TORN = "records.torn"

BESIDE = (
    "The public key was read from the ledger's own folder, so this shows that the folder agrees with itself, not who "
    "wrote it: whoever can write there could have replaced records, head and key together. Check against a copy of the "
    "key that is kept elsewhere (--public-key FILE)."
)
ROLLBACK = (
    "An older state of the whole folder, restored complete, would verify too: compare the count and the last hash with "
    "a note kept elsewhere."
)


class Verification(Record):
    """What checking a ledger showed."""

    ok: bool
    """Whether every record and the head hold."""
    count: int
    """Records that were found intact, up to the first broken one."""
    last_hash: str
    """``record_hash`` of the last intact record; 64 zeros where there is none."""
    first_broken: Broken | None
    """The first thing that does not hold; None where all does."""
    notes: tuple[str, ...]
    """What is not wrong and yet worth knowing, a sentence each."""
    key_id: str
    """The key it was checked with."""
    key_source: str
    """``given``: a file kept elsewhere; ``beside``: the one in the ledger's own folder."""
    proves_not: tuple[str, ...]
    """What this verification does not prove, a sentence each."""

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.first_broken is None:
            return f"The ledger holds: {self.count} records, in order, whole and signed by key {self.key_id[:16]}."
        return f"The ledger does NOT hold: {self.first_broken.sentence}"


def verify(folder: Path | str, public_key: Path | None = None) -> Verification:
    """Check every line of a ledger and its head. Needs no network and no secret, and changes nothing.

    Raises InputError where there is no ledger or no key to check it with, RecordError where the key is none.
    """
    folder = Path(folder)
    if not (folder / RECORDS).is_file():
        raise InputError(f"there is no ledger at {str(folder)!r}: {RECORDS} is missing.")
    key = PublicKey.load(public_key or folder / PUBLIC_KEY)
    scan = _Scan(folder, key)
    notes = [*scan.notes]
    if public_key is not None and _key_beside(folder) != key.key_id:
        notes.append(f"The {PUBLIC_KEY} in the ledger's folder is not the key that was given, and was not used.")
    return Verification(
        ok=scan.broken is None,
        count=scan.chain.count,
        last_hash=scan.chain.last_hash,
        first_broken=scan.broken,
        notes=tuple(notes),
        key_id=key.key_id,
        key_source="given" if public_key else "beside",
        proves_not=(ROLLBACK,) if public_key else (BESIDE, ROLLBACK),
    )


def read_records(folder: Path | str) -> Iterator[DecisionRecord]:
    """The whole records of a ledger, in order. It checks their form only; ``verify`` checks that they are genuine.

    Raises InputError where there is no ledger, RecordError at a line that holds no record.
    """
    path = Path(folder) / RECORDS
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"the ledger {str(path)!r} cannot be read: {error.strerror}.") from None
    with file:
        for index, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            try:
                yield DecisionRecord.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]["msg"]
                raise RecordError(f"line {index + 1} of {str(path)!r} holds no record: {first}.") from None


class _Scan:
    """One pass over a ledger: the intact chain, the first thing that does not hold, and a half line at the end."""

    def __init__(self, folder: Path, key: PublicKey) -> None:
        self.chain = Chain(key)
        self.broken: Broken | None = None
        self.notes: list[str] = []
        self.whole_bytes = 0
        self.torn = b""
        # Read before the records, so that an append in the meantime looks like a kill and not like a cut.
        head = _read_head(folder, key)
        at_head = GENESIS
        with (folder / RECORDS).open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self.torn = line
                    break
                if (broken := self.chain.extend(line[:-1])) is not None:
                    self.broken = broken
                    return
                self.whole_bytes += len(line)
                if isinstance(head, Head) and self.chain.count == head.count:
                    at_head = self.chain.last_hash
        self._compare(head, at_head)

    def _compare(self, head: Head | Broken, at_head: str) -> None:
        found = self.chain.count
        if isinstance(head, Broken):
            self.broken = head
        elif found < head.count:
            cut = " and the next is cut in the middle" if self.torn else ""
            reason = f"the signed head says {head.count} records and {found} are there{cut}: the tail was cut off"
            self.broken = Broken(index=found, record_id=None, reason=reason)
        elif at_head != head.last_hash:
            reason = f"the signed head names another hash for record {head.count - 1} than the ledger holds"
            self.broken = Broken(index=None, record_id=None, reason=reason)
        else:
            self._note(found - head.count)

    def _note(self, beyond: int) -> None:
        if beyond:
            self.notes.append(
                f"{beyond} whole, signed record(s) stand beyond the signed head: a run was killed before it signed the "
                "head again, or an older head was put back; the next run adopts them."
            )
        if self.torn:
            self.notes.append(
                f"{len(self.torn)} bytes beyond the last record are no whole line: a run was killed while it wrote; "
                f"the next run moves them to {TORN}."
            )


@final
class Ledger:
    """A ledger open for appending. One process at a time holds it. Use ``Ledger.open`` and ``with``."""

    def __init__(self, folder: Path, signer: Signer, descriptor: int) -> None:
        self.folder, self._signer, self._descriptor = folder, signer, descriptor
        self._usable = True
        self._chain = self._repaired()

    @classmethod
    def open(cls, folder: Path | str, signer: Signer) -> "Ledger":
        """Open or start the ledger in ``folder``, and mend what a kill left behind.

        Half a line beyond the signed head is moved to ``records.torn``; whole signed records beyond it are adopted.

        Raises:
            InputError: another process holds it, another key signed it, or the folder cannot be written.
            RecordError: it does not verify, so that nothing may be built upon it.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / RECORDS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"no ledger can be kept in {str(folder)!r}: {error.strerror}.") from None
        try:
            _lock(descriptor, folder)
            return cls(folder, signer, descriptor)
        except OSError as error:
            os.close(descriptor)
            raise InputError(f"no ledger can be kept in {str(folder)!r}: {error.strerror}.") from None
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def count(self) -> int:
        """Records in the ledger."""
        return self._chain.count

    @property
    def last_hash(self) -> str:
        """``record_hash`` of the last record; 64 zeros where there is none."""
        return self._chain.last_hash

    def records(self) -> Iterator[DecisionRecord]:
        """The records, in order."""
        return read_records(self.folder)

    def append(self, record: DecisionRecord) -> DecisionRecord:
        """Chain, sign and write one record, on disk when this returns; sign the head anew. Returns the sealed record.

        Raises RecordError where it cannot be written (a full disk): then the ledger is left as it was before. Raises
        InputError where the record has no canonical form.
        """
        if not self._usable:
            raise RecordError(
                f"an append to {str(self.folder)!r} was interrupted; open the ledger again, which mends it."
            )
        document = finite(record.model_dump(mode="json", exclude={"integrity"}))
        document = sealed(document, self._chain.count, self._chain.last_hash, self._signer)
        try:
            complete = DecisionRecord.model_validate(document)
        except ValidationError as error:
            raise InputError.from_validation(
                "this record does not fit the schema once NaN is left out", error
            ) from None
        digest = document["integrity"]["record_hash"]
        size = os.fstat(self._descriptor).st_size
        # Until the head is signed again the state is in doubt: an interruption here is mended by the next open.
        self._usable = False
        try:
            _write(self._descriptor, canonical(document) + b"\n")
            self._sign_head(self._chain.count + 1, digest)
        except OSError as error:
            self._take_back(size)
            raise RecordError(
                f"record {self._chain.count} cannot be written to {str(self.folder)!r}: {error.strerror}; the "
                f"{self._chain.count} records before it are kept and verify. Make room and run again to go on."
            ) from None
        self._chain.advance(digest)
        self._usable = True
        return complete

    def close(self) -> None:
        """Let go of the ledger. Closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor, self._usable = -1, False

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _repaired(self) -> Chain:
        for stale in self.folder.glob(f".{HEAD}.*.tmp"):
            stale.unlink()
        key = self._signer.public
        if (beside := _key_beside(self.folder)) not in (None, key.key_id):
            raise InputError(
                f"the ledger in {str(self.folder)!r} belongs to key {str(beside)[:16]} and yours is {key.key_id[:16]}: "
                "use that key, or another folder."
            )
        if os.fstat(self._descriptor).st_size == 0 and not (self.folder / HEAD).exists():
            self._sign_head(0, GENESIS)
        scan = _Scan(self.folder, key)
        if scan.broken is not None:
            raise RecordError(
                f"the ledger in {str(self.folder)!r} does not hold, so nothing is appended: {scan.broken.sentence} "
                "Keep it as evidence and use another folder."
            )
        if not (self.folder / PUBLIC_KEY).exists():
            write_atomically(self.folder / PUBLIC_KEY, key.pem)
        if scan.torn:
            self._set_aside(scan.torn, scan.whole_bytes)
        if scan.notes:
            self._sign_head(scan.chain.count, scan.chain.last_hash)
        return scan.chain

    def _take_back(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        except OSError:
            # The next open mends it: what is left is half a line, or a whole signed record that it adopts.
            return
        self._usable = True

    def _set_aside(self, torn: bytes, whole_bytes: int) -> None:
        descriptor = os.open(self.folder / TORN, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _write(descriptor, torn + b"\n")
        finally:
            os.close(descriptor)
        os.ftruncate(self._descriptor, whole_bytes)
        os.fsync(self._descriptor)

    def _sign_head(self, count: int, last_hash: str) -> None:
        write_atomically(self.folder / HEAD, Head.signed(count, last_hash, self._signer))


def _read_head(folder: Path, key: PublicKey) -> Head | Broken:
    try:
        return Head.read((folder / HEAD).read_bytes(), key)
    except OSError as error:
        reason = f"{HEAD}, the signed head, cannot be read: {error.strerror}"
    except RecordError as error:
        reason = str(error)
    return Broken(index=None, record_id=None, reason=reason)


def _write(descriptor: int, content: bytes) -> None:
    """Write all of it and wait until it is on disk."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Hold the file alone, as long as it is open. The lock ends with the process, however that ends."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another process is writing to the ledger in {str(folder)!r}; wait until it ends, or use another folder."
        ) from None


def _key_beside(folder: Path) -> str | None:
    """Identifier of the public key in the folder; None where there is none."""
    path = folder / PUBLIC_KEY
    return PublicKey.load(path).key_id if path.exists() else None
