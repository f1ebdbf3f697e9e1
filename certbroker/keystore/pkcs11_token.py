"""PKCS#11 libraries and tokens: loading, logging in, and finding the way back after an error.

Sessions and handles die with the process that made them, so nothing here survives a fork: the broker starts other
programs by exec only.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11 import exceptions as errors

from certbroker.domain.errors import Sealed

T = TypeVar("T")

_OS_LOCKING_OK: Final = 2
_ALREADY_INITIALIZED: Final = 0x191

# What says that the PIN, not the connection, is at fault: trying the same PIN again only brings the token nearer to its
# lock.
_PIN: Final = (
    errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange, errors.PinLocked, errors.PinExpired
)  # fmt: skip


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class _Module:
    """A library, of which a process has one instance. `lock` is held for every call into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.tokens: dict[str, Token] = {}
        self.process = os.getpid()
        self._library: Any = None

    def find(self, label: str) -> Any:
        """The token of that label. Raises Sealed, PKCS11Error."""
        if self._library is None:
            self._load()
        try:
            return self._library.get_token(token_label=label)
        except errors.NoSuchToken:
            # Most libraries look for tokens only when they are initialised.
            self._restart()
        try:
            return self._library.get_token(token_label=label)
        except errors.NoSuchToken:
            raise Sealed(f"The PKCS#11 library {self.path} has no token with the label {label}.") from None

    def _load(self) -> None:
        try:
            self._library = pkcs11.lib(str(self.path))
        except (errors.PKCS11Error, RuntimeError) as error:
            raise Sealed(f"The PKCS#11 library {self.path} cannot be used: {_name(error)}.") from None
        self._restart()

    def _restart(self) -> None:
        """Initialise the library anew, for use by several threads.

        python-pkcs11 tells the library that there is one thread, and releases the interpreter's lock while it calls it:
        two threads then corrupt the library's state. So it is initialised again with the operating system's locks.
        """
        for token in self.tokens.values():
            token.close()
        functions = ctypes.CDLL(str(self.path))
        functions.C_Finalize(None)
        arguments = _InitializeArgs(flags=_OS_LOCKING_OK)
        result = functions.C_Initialize(ctypes.byref(arguments))
        if result not in (0, _ALREADY_INITIALIZED):
            raise Sealed(f"The PKCS#11 library {self.path} cannot be initialised for several threads: CKR {result:#x}.")


class Token:
    """A token that this process is logged in to. It has one session, which its users take in turn."""

    def __init__(self, module: _Module, label: str) -> None:
        self.label = label
        self.pin = ""
        self._module = module
        self._session: Any = None
        self._found: dict[str, Any] = {}
        self._refused: bytes | None = None

    def run(self, work: Callable[[Any], T]) -> T:
        """The result of `work` on a session; after an error once more on a new one. Raises Sealed, PKCS11Error.

        So `work` must look up its objects each time, by `secret_key`.
        """
        if self._module.process != os.getpid():
            raise RuntimeError("a PKCS#11 library does not survive a fork")
        with self._module.lock:
            try:
                return work(self._opened())
            except errors.PKCS11Error:
                # A session that was lost shows itself by many codes, and some libraries know only CKR_GENERAL_ERROR.
                self.close()
            try:
                return work(self._opened())
            except errors.PKCS11Error:
                self.close()
                raise

    def secret_key(self, session: Any, label: str) -> Any:
        """The AES key of that label, or None. Found once in each session: a search takes milliseconds."""
        key = self._found.get(label)
        if key is None:
            try:
                key = session.get_key(
                    object_class=pkcs11.ObjectClass.SECRET_KEY, key_type=pkcs11.KeyType.AES, label=label
                )
            except errors.NoSuchKey:
                return None
            except errors.MultipleObjectsReturned:
                raise Sealed(f"The token {self.label} has more than one key with the label {label}.") from None
            self._found[label] = key
        return key

    def close(self) -> None:
        """Give up the session; the next use opens another."""
        session, self._session = self._session, None
        self._found.clear()
        if session is not None:
            try:
                session.close()
            except errors.PKCS11Error:
                pass  # It is what was broken.

    def _opened(self) -> Any:
        if self._session is None:
            token = self._module.find(self.label)
            digest = hashlib.sha256(self.pin.encode()).digest()
            if digest == self._refused:
                raise Sealed(f"The token {self.label} has refused this PIN; trying it again could lock the token.")
            try:
                self._session = token.open(rw=True, user_pin=self.pin)
            except _PIN as error:
                self._refused = digest
                raise Sealed(f"The token {self.label} refuses the PIN: {_name(error)}.") from None
        return self._session


_modules: dict[Path, _Module] = {}
_lock: Final = threading.Lock()


def token(module: Path, label: str, pin: str) -> Token:
    """The token of that label; the same object for the same token. Nothing is asked of it yet."""
    with _lock:
        found = _modules.setdefault(module, _Module(module))
        known = found.tokens.setdefault(label, Token(found, label))
        known.pin = pin
        return known


def unavailable(label: str, error: errors.PKCS11Error) -> Sealed:
    """What to raise when a token does not do what it should."""
    return Sealed(f"The token {label} does not answer as it should: {_name(error)}.")


def _name(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()
