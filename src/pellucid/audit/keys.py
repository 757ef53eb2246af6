"""The two secrets of an audit: the Ed25519 key that signs records, and the site key of the patients' digests."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import NamedTuple, final

from pellucid.errors import InputError, MissingPackageError, RecordError

SIGNING_KEY = "signing_key.pem"
SITE_KEY = "site_key.hex"


@final
class PublicKey:
    """The half of a signing key that anybody may hold: it can check a signature and make none."""

    def __init__(self, raw: bytes) -> None:
        _need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.raw = raw

    @classmethod
    def load(cls, path: Path) -> "PublicKey":
        """Read an Ed25519 key in PEM form. Raises InputError where there is none, RecordError where it is broken."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"the public key {str(path)!r} cannot be read: {error.strerror}.") from None
        _need_cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise RecordError(f"{str(path)!r} does not hold an Ed25519 public key in PEM form.")
        return cls(key.public_bytes_raw())

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw key, in hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key as a PEM file."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def accepts(self, signature: str, message: bytes) -> bool:
        """Whether ``signature`` (hex) over ``message`` was made with the private half."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@final
class Signer:
    """The private half: signs what a ledger holds."""

    def __init__(self, raw: bytes) -> None:
        _need_cryptography()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """Read a private key. Raises InputError where others than its owner could read it, or where it is broken."""
        content = _read_secret(path, "signing key")
        _need_cryptography()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{str(path)!r} does not hold an unencrypted Ed25519 private key in PEM form.")
        return cls(key.private_bytes_raw())

    @classmethod
    def load_or_create(cls, path: Path) -> "Signer":
        """Read the key at ``path``, or make it there, readable by its owner only."""
        if not path.exists():
            _need_cryptography()
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

            fresh = Ed25519PrivateKey.generate()
            _create_secret(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls.load(path)

    def sign(self, message: bytes) -> str:
        """The Ed25519 signature [RFC 8032] over ``message``, in hex."""
        return self._key.sign(message).hex()


@final
class SiteKey:
    """The secret behind the digests of patients' text: without it, nobody can try out values until a digest fits."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load_or_create(cls, path: Path) -> "SiteKey":
        """Read the secret at ``path``, or make it there, readable by its owner only."""
        if not path.exists():
            _create_secret(path, secrets.token_hex(32).encode() + b"\n")
        content = _read_secret(path, "site key")
        try:
            secret = bytes.fromhex(content.decode("ascii"))
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise InputError(f"{str(path)!r} does not hold a site key: 64 hexadecimal digits.")
        return cls(secret)

    @property
    def key_id(self) -> str:
        """Tells which site key made a digest, without telling the key: HMAC of a fixed text, in hex."""
        return self.digest("", "pellucid-site-key-id")

    def digest(self, text: str, *context: str) -> str:
        """HMAC-SHA-256 [RFC 2104] of ``text`` in hex. The same text in another context gets another digest.

        ``context`` says what the text is, such as the case and the field, so that equal values of two patients
        cannot be seen to be equal. Every part is preceded by its length, so that no two lists of parts collide.
        """
        parts = [part.encode() for part in (*context, text)]
        message = b"pellucid-digest-v1\n" + b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


class Keys(NamedTuple):
    """Both secrets of one installation."""

    signer: Signer
    """Signs records."""
    site: SiteKey
    """Makes the digests of patients' text."""


def default_folder() -> Path:
    """``$XDG_CONFIG_HOME/pellucid``, or ``~/.config/pellucid``."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    return root / "pellucid"


def open_keys(folder: Path | None = None) -> Keys:
    """Read both secrets from ``folder`` (default: ``default_folder()``); what is not there yet is made."""
    folder = folder or default_folder()
    return Keys(Signer.load_or_create(folder / SIGNING_KEY), SiteKey.load_or_create(folder / SITE_KEY))


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingPackageError("cryptography", "pip install 'pellucid[audit]'") from None


def _read_secret(path: Path, what: str) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {str(path)!r} cannot be read: {error.strerror}.") from None
    if mode & 0o077 and os.name == "posix":
        raise InputError(
            f"the {what} {str(path)!r} is open to others than its owner (mode {mode:04o}); run: chmod 600 {path}"
        )
    return content


def _create_secret(path: Path, content: bytes) -> None:
    """Write a secret with mode 0600 so that it is whole or not there. Of two writers at once the first one wins."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        return
    except OSError as error:
        raise InputError(
            f"no key can be made at {str(path)!r}: {error.strerror}; name another folder for keys."
        ) from None
