"""How records are chained, sealed and checked, one line at a time."""

import hashlib
import json
from typing import Any, Literal, final

from pydantic import ValidationError

from pellucid.audit.canonical import canonical
from pellucid.audit.keys import PublicKey, Signer
from pellucid.audit.record import SCHEMA_VERSION, DecisionRecord, Digest
from pellucid.errors import InputError, RecordError
from pellucid.records import Record

GENESIS = "0" * 64
_RECORD_DOMAIN = b"pellucid-record-v1\n"
_HEAD_DOMAIN = b"pellucid-head-v1\n"


class Broken(Record):
    """The first thing in a ledger that does not hold."""

    index: int | None
    """Position of the record, from 0; None where it is the head that does not hold."""
    record_id: str | None
    """The record's identifier, as far as it can be read."""
    reason: str
    """What does not hold."""

    @property
    def sentence(self) -> str:
        """It, for a person."""
        place = "the head" if self.index is None else f"record {self.index}"
        return f"{place}{f' ({self.record_id})' if self.record_id else ''}: {self.reason}."


@final
class Head(Record):
    """``head.json``: the signed head of a ledger."""

    type: Literal["head"] = "head"
    """The kind of document."""
    schema_version: Literal[1] = 1
    """Version of its layout."""
    count: int
    """Records in the ledger."""
    last_hash: Digest
    """``record_hash`` of the last one."""
    key_id: Digest
    """The key that signed."""
    signature: str
    """Ed25519 over ``pellucid-head-v1``, a line feed, and the canonical JSON of the rest; in hex."""

    @classmethod
    def signed(cls, count: int, last_hash: str, signer: Signer) -> bytes:
        """The bytes of ``head.json``."""
        document: dict[str, Any] = {
            "type": "head",
            "schema_version": 1,
            "count": count,
            "last_hash": last_hash,
            "key_id": signer.public.key_id,
        }
        return canonical(document | {"signature": signer.sign(_HEAD_DOMAIN + canonical(document))}) + b"\n"

    @classmethod
    def read(cls, content: bytes, key: PublicKey) -> "Head":
        """Read and check it. Raises RecordError with the reason where it does not hold."""
        try:
            head = cls.model_validate_json(content)
        except ValidationError:
            raise RecordError("head.json is not a signed head") from None
        document = head.model_dump(mode="json")
        if canonical(document) + b"\n" != content:
            raise RecordError("head.json is not in canonical form")
        document.pop("signature")
        if not key.accepts(head.signature, _HEAD_DOMAIN + canonical(document)):
            raise RecordError(_wrong_signature(head.key_id, key))
        return head


@final
class Chain:
    """The intact part of a ledger: its length and its last hash. ``extend`` checks one more line."""

    def __init__(self, key: PublicKey) -> None:
        self._key = key
        self._key_id = key.key_id
        self.count = 0
        self.last_hash = GENESIS

    def extend(self, line: bytes) -> Broken | None:
        """Check the next line; None where it holds, and then the chain is one longer."""
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return self._broken(None, "this line is not JSON")
        integrity = document.get("integrity") if isinstance(document, dict) else None
        if not isinstance(integrity, dict):
            return self._broken(None, "this line is not a record")
        reason = self._reason(line, document, integrity)
        if reason:
            return self._broken(document, reason)
        self.advance(integrity["record_hash"])
        return None

    def advance(self, record_hash: str) -> None:
        """Count one more record that is known to hold."""
        self.count += 1
        self.last_hash = record_hash

    def _reason(self, line: bytes, document: dict[str, Any], integrity: dict[str, Any]) -> str:
        """Why this record does not hold; empty where it does."""
        sequence, digest = integrity.get("sequence"), integrity.get("record_hash")
        if sequence != self.count or isinstance(sequence, bool):
            moved = "records were removed, inserted or reordered"
            return f"its sequence number is {sequence!r} where {self.count} must stand: {moved}"
        if integrity.get("previous_hash") != self.last_hash:
            return "its previous_hash is not the hash of the record before it"
        computed = _hash_of_line(line, integrity)
        if not computed or computed != digest:
            return "its bytes do not give its record_hash: it was changed after it was written"
        ours = integrity.get("key_id") == self._key_id
        message = _RECORD_DOMAIN + bytes.fromhex(computed)
        if not ours or not self._key.accepts(str(integrity.get("signature")), message):
            return _wrong_signature(integrity.get("key_id"), self._key)
        return self._misfit(line, document)

    def _misfit(self, line: bytes, document: dict[str, Any]) -> str:
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            return f"its schema version is {version!r} and this pellucid reads {SCHEMA_VERSION}"
        try:
            DecisionRecord.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            return f"it does not fit the schema at {'.'.join(map(str, first['loc'])) or 'the top'}: {first['msg']}"
        return ""

    def _broken(self, document: dict[str, Any] | None, reason: str) -> Broken:
        name = document.get("record_id") if document else None
        return Broken(index=self.count, record_id=name if isinstance(name, str) else None, reason=reason)


def sealed(document: dict[str, Any], sequence: int, previous_hash: str, signer: Signer) -> dict[str, Any]:
    """The record's document with its place in the chain, its hash and its signature."""
    place = {"sequence": sequence, "previous_hash": previous_hash, "key_id": signer.public.key_id}
    digest = hashlib.sha256(canonical(document | {"integrity": place})).digest()
    seal = {"record_hash": digest.hex(), "signature": signer.sign(_RECORD_DOMAIN + digest)}
    return document | {"integrity": place | seal}


def _hash_of_line(line: bytes, integrity: dict[str, Any]) -> str:
    """SHA-256 of the line with ``record_hash`` and ``signature`` cut out of its bytes; empty where they are not there.

    The line is not written anew: what was signed is canonical, so a line that is not, differs from what was signed.
    """
    try:
        whole = canonical({"integrity": integrity})[1:-1]
    except (InputError, RecursionError):
        return ""
    parts = line.split(whole)
    if len(parts) != 2:
        return ""
    place = {key: value for key, value in integrity.items() if key not in ("record_hash", "signature")}
    return hashlib.sha256(canonical({"integrity": place})[1:-1].join(parts)).hexdigest()


def _wrong_signature(key_id: object, key: PublicKey) -> str:
    if key_id == key.key_id:
        return "its signature does not fit"
    return f"it names the signing key {str(key_id)[:16]} and was checked with {key.key_id[:16]}: another key signed it"
