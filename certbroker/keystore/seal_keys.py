"""Where the seal key comes from: a file, a passphrase, or a credential that the service manager hands over."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from certbroker.domain.errors import Invalid, Sealed

_NONCE: Final = 12

# RFC 7914's parameters for a key that is derived once at start: 128 MiB, about half a second.
_SCRYPT_COST: Final = 2**17


class AESSealKey:
    """A seal key of 32 bytes, held in memory."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise Invalid(f"A seal key has 32 bytes; this one has {len(key)}.")
        self.id = hashlib.sha256(b"certbroker seal key id\0" + key).hexdigest()[:16]
        self._cipher = AESGCM(key)

    def wrap(self, key: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], context)
        except InvalidTag:
            raise Sealed(
                "The seal key does not open the vault's key: it is another key, or the row was altered."
            ) from None


def from_file(path: Path) -> AESSealKey:
    """The key in a file of 64 hexadecimal digits that only its owner can read. Raises Sealed, Invalid."""
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        raise Sealed(
            f"The seal key file {path} does not exist; restore it, or name the right one in seal.file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Sealed(f"The seal key file {path} cannot be read: {type(error).__name__}.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Invalid(f"The seal key file {path} is open to others; run: chmod 600 {path}")
    return _from_hex(text, str(path))


def create_file(path: Path) -> AESSealKey:
    """Make a key in a new file with mode 0600. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    key = os.urandom(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
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
    if len(passphrase) < 12:
        raise Invalid("The seal passphrase is shorter than 12 characters.")
    return AESSealKey(Scrypt(salt=salt, length=32, n=_SCRYPT_COST, r=8, p=1).derive(passphrase.encode()))


def _from_hex(text: str, where: str) -> AESSealKey:
    try:
        return AESSealKey(bytes.fromhex(text))
    except ValueError:
        raise Invalid(f"The seal key in {where} is not written as 64 hexadecimal digits.") from None
