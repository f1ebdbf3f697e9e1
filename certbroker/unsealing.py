"""From the configuration's `[seal]` to a seal that opens the database."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from certbroker.config import PKCS11Section, SealKeySection, SealSection
from certbroker.domain.errors import Invalid, Sealed
from certbroker.keystore import seal_keys
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.ports.seal import SealKey, WrappedKey
from certbroker.store.database import SQLiteStore

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


class StoredKeys:
    """The wrapped keys, as the seal wants to find them."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store

    def get(self, kek_id: int) -> WrappedKey | None:
        return self._store.glance().vaults.kek(kek_id)

    def current(self, vault_id: int) -> WrappedKey | None:
        return self._store.glance().vaults.current_kek(vault_id)


def retry_pauses() -> Iterator[float]:
    """Seconds to wait before each new attempt to open the seal.

    Short at first, because at boot a credential or an HSM is often a moment late; then at a pace that neither fills the
    log nor troubles a token.
    """
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def setting(store: SQLiteStore, name: str, make: Callable[[], str]) -> str:
    """A setting that is made once and kept, in the clear."""
    value = store.glance().vaults.setting(name)
    if value is None:
        value = fresh = make()
        store.write(lambda transaction: transaction.vaults.put_setting(name, fresh))
    return value


def open_seal(section: SealSection, directory: Path, store: SQLiteStore) -> EnvelopeSeal:
    """The seal of this database; at the very first start its key is made where that is possible. Raises Sealed.

    Whatever is wrong with the key is told as Sealed: it is mended while the broker runs, not by another start.
    """
    keks = store.glance().vaults.keks()
    try:
        if not keks:
            make_key(section, directory)
        current = open_key(section, directory, store)
        others = {kek.seal_id for kek in keks} - {current.id}
        previous: tuple[SealKey, ...] = ()
        if others and section.previous is not None:
            previous = (open_key(section.previous, directory, store),)
    except Invalid as error:
        raise Sealed(error.message) from None
    missing = others - {key.id for key in previous}
    if missing:
        configured = ", ".join(key.id for key in (current, *previous))
        raise Sealed(
            f"The database is sealed with the seal key {', '.join(sorted(missing))}, and the key that is configured is "
            f"{configured}: bring back the right key, or name it in seal.previous if the seal key is to be changed."
        )
    return EnvelopeSeal(current, StoredKeys(store), previous)


def open_key(section: SealKeySection, directory: Path, store: SQLiteStore) -> SealKey:
    """The seal key that the section names. Raises Sealed, Invalid."""
    if section.pkcs11 is not None:
        from certbroker.keystore.pkcs11_seal import open_token_key

        hsm = section.pkcs11
        return open_token_key(hsm.module, hsm.token, _pin(hsm), hsm.key_label)
    if section.credential is not None:
        return seal_keys.from_credential(section.credential)
    if section.passphrase is not None:
        salt = bytes.fromhex(setting(store, "seal salt", lambda: os.urandom(16).hex()))
        return seal_keys.from_passphrase(section.passphrase.get_secret_value(), salt)
    return seal_keys.from_file(_file(section, directory))


def make_key(section: SealKeySection, directory: Path) -> bool:
    """Make the key that the section names, if it is of a kind that we make and there is none. Raises Sealed, Invalid.

    Returns whether one was made.
    """
    if section.pkcs11 is not None:
        from certbroker.keystore.pkcs11_seal import create_token_key

        hsm = section.pkcs11
        return create_token_key(hsm.module, hsm.token, _pin(hsm), hsm.key_label)
    if section.credential is not None or section.passphrase is not None:
        return False
    path = _file(section, directory)
    try:
        seal_keys.create_file(path)
    except FileExistsError:
        return False
    except OSError as error:
        raise Sealed(f"The seal key file {path} cannot be made: {error.strerror}.") from None
    return True


def _file(section: SealKeySection, directory: Path) -> Path:
    return section.file or directory / "seal.key"


def _pin(section: PKCS11Section) -> str:
    if section.pin is not None:
        return section.pin.get_secret_value()
    path = section.pin_file or Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / str(section.credential)
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            pin = file.read(256).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        where = f"seal.pkcs11.pin_file {path}" if section.pin_file else f"credential {section.credential}"
        raise Sealed(f"The PIN of the token cannot be read from {where}: {type(error).__name__}.") from None
    if section.pin_file is not None and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Invalid(f"The PIN file {path} is open to others; run: chmod 600 {path}")
    return pin
