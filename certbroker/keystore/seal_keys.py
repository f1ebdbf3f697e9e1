"""Where the seal key comes from: a file, a passphrase, or a credential that the service manager hands over."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certbroker.domain.errors import Invalid, Sealed
from certbroker.ports.seal import Unreadable

_NONCE: Final = 12

# A key file is 65 bytes; this much is read of one that is not a key file.
_MAX_FILE: Final = 4096

# RFC 7914's parameters for a key that is derived once at start: 128 MiB, about half a second.
_SCRYPT_COST: Final = 2**17
_MIN_PASSPHRASE: Final = 12


class AESSealKey:
    """A seal key of 32 bytes, held in memory."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise Invalid(f"A seal key has 32 bytes; this one has {len(key)}.")
        self._id = hashlib.sha256(b"certbroker seal key id\0" + key).hexdigest()[:16]
        self._cipher = AESGCM(key)

    @property
    def id(self) -> str:
        return self._id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context)
        except (InvalidTag, ValueError):  # ValueError: shorter than a nonce.
            raise Unreadable("The seal key does not open the vault's key: its row was altered or moved.") from None


def from_file(path: Path) -> AESSealKey:
    """The key in a file of 64 hexadecimal digits that only its owner can read. Raises Sealed, Invalid."""
    try:
        with path.open(encoding="ascii") as file:
            # The mode of the file that is read, not of one that bore its name a moment earlier.
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_FILE).strip()
    except FileNotFoundError:
        raise Sealed(
            f"The seal key file {path} does not exist; restore it, or name the right one in seal.file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Sealed(f"The seal key file {path} cannot be read: {type(error).__name__}.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Invalid(f"The seal key file {path} is open to others; run: chmod 600 {path}")
    return _from_hex(text, f"file {path}")


def create_file(path: Path) -> AESSealKey:
    """Make a key in a new file with mode 0600. Raises FileExistsError, OSError."""
    key = os.urandom(32)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, because unlike a rename it never replaces a key that is there; and the name must outlast a power cut
        # as surely as the database that depends on it.
        path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return AESSealKey(key)


def from_credential(name: str) -> AESSealKey:
    """The key in a systemd credential of this name, in the form of a key file. Raises Sealed, Invalid."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise Sealed("seal.credential is set, but the service manager has passed no credentials (LoadCredential=).")
    path = Path(directory) / name
    try:
        return _from_hex(path.read_text("ascii").strip(), f"credential {name}")
    except (OSError, UnicodeDecodeError):
        raise Sealed(f"The service manager has passed no credential named {name}.") from None


def from_passphrase(passphrase: str, salt: bytes) -> AESSealKey:
    """The key that scrypt (RFC 7914) derives. The salt is the broker's, kept in the database in the clear."""
    if len(passphrase) < _MIN_PASSPHRASE:
        raise Invalid(f"The seal passphrase is shorter than {_MIN_PASSPHRASE} characters.")
    # One passphrase has one form, whichever keyboard or editor it came from (RFC 8265 section 4.2.1).
    normal = unicodedata.normalize("NFC", passphrase)
    return AESSealKey(Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1).derive(normal.encode()))


def _from_hex(text: str, where: str) -> AESSealKey:
    try:
        return AESSealKey(bytes.fromhex(text))
    except ValueError:
        raise Invalid(f"The seal key in {where} is not written as 64 hexadecimal digits.") from None
