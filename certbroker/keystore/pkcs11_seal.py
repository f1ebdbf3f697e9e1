"""A seal key in a PKCS#11 token, which it never leaves.

It wraps with AES-GCM and the context as associated data. A token that cannot do that wraps by RFC 3394 what is the key
and a digest of the context, which is compared after unwrapping: then a wrapped key does not open in another context
either.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, Mechanism, MechanismFlag
from pkcs11 import exceptions as errors

from certbroker.domain.errors import Invalid, Sealed
from certbroker.keystore.pkcs11_token import Token, token, unavailable
from certbroker.ports.seal import Unreadable

_NONCE: Final = 12
_KEY: Final = 32

# The first byte of what is stored says how it was wrapped.
_GCM: Final = b"\x01"
_KEY_WRAP: Final = b"\x02"

# A key may either encrypt or wrap: one that does both gives away, to whoever can use it, every key that it can wrap.
_USES: Final = (
    (_GCM, MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT),
    (_KEY_WRAP, MechanismFlag.WRAP | MechanismFlag.UNWRAP),
)
_PLAIN: Final = {Attribute.TOKEN: False, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}


class TokenSealKey:
    """A seal key in a token. `key_id` is the id that the token keeps with the key."""

    def __init__(self, token: Token, label: str, key_id: bytes, method: bytes) -> None:
        self._token = token
        self._label = label
        self._method = method
        self._id = f"pkcs11-{key_id.hex()[:16]}"

    @property
    def id(self) -> str:
        return self._id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        try:
            return self._token.run(lambda session: _wrap(session, self._key(session), self._method, key, context))
        except errors.PKCS11Error as error:
            raise unavailable(self._token.label, error) from None

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return self._token.run(lambda session: _unwrap(session, self._key(session), wrapped, context))
        except errors.PKCS11Error as error:
            # Libraries do not agree on how they refuse bytes that are not theirs, and some say the same when they are
            # in trouble. A key that still opens what it has just closed is not in trouble.
            self.prove()
            raise _unreadable() from error

    def prove(self) -> None:
        """Wrap and unwrap something. Raises Sealed."""
        sample, context = os.urandom(_KEY), b"certbroker proof"
        try:
            same = self._token.run(
                lambda session: _round_trip(session, self._key(session), self._method, sample, context)
            )
        except errors.PKCS11Error as error:
            raise unavailable(self._token.label, error) from None
        if not same:
            raise Sealed(f"The token {self._token.label} does not give back what it has wrapped.")

    def _key(self, session: Any) -> Any:
        key = self._token.secret_key(session, self._label)
        if key is None:
            raise _missing(self._token, self._label)
        return key


def open_token_key(module: Path, token_label: str, pin: str, key_label: str) -> TokenSealKey:
    """The key of that label in that token. Raises Sealed, and Invalid when the key could be taken out of the token."""
    place = token(module, token_label, pin)
    try:
        found = place.run(lambda session: _describe(place.secret_key(session, key_label)))
    except errors.PKCS11Error as error:
        raise unavailable(token_label, error) from None
    if found is None:
        raise _missing(place, key_label)
    extractable, length, key_id, method = found
    if extractable:
        raise Invalid(f"The key {key_label} can be taken out of the token {token_label}; use one that cannot.")
    if length != _KEY or method is None:
        raise Invalid(f"The key {key_label} in the token {token_label} must have 256 bits and either encrypt or wrap.")
    opened = TokenSealKey(place, key_label, key_id or hashlib.sha256(key_label.encode()).digest(), method)
    opened.prove()
    return opened


def create_token_key(module: Path, token_label: str, pin: str, key_label: str) -> bool:
    """Make the key if there is none of that label, and return whether it was made.

    Raises Sealed, and Invalid when the token cannot make a key that is of use.
    """
    place = token(module, token_label, pin)
    try:
        return place.run(lambda session: _create(session, place, key_label))
    except errors.PKCS11Error as error:
        raise unavailable(token_label, error) from None


def _create(session: Any, place: Token, label: str) -> bool:
    if place.secret_key(session, label) is not None:
        return False
    for method, capabilities in _USES:
        try:
            key = session.generate_key(
                pkcs11.KeyType.AES,
                8 * _KEY,
                id=os.urandom(16),
                label=label,
                store=True,
                capabilities=capabilities,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )
        except (errors.MechanismInvalid, errors.FunctionNotSupported, errors.AttributeValueInvalid):
            continue
        try:
            if _round_trip(session, key, method, os.urandom(_KEY), b"certbroker proof"):
                return True
        except errors.PKCS11Error:
            pass
        key.destroy()
    raise Invalid(f"The token {place.label} can neither encrypt by AES-GCM with associated data nor wrap by RFC 3394.")


def _describe(key: Any) -> tuple[bool, int, bytes, bytes | None] | None:
    """Whether it can be taken out, its length, its id, and how it can wrap."""
    if key is None:
        return None
    extractable = bool(key[Attribute.EXTRACTABLE]) or not bool(key[Attribute.SENSITIVE])
    method = None
    if key[Attribute.ENCRYPT] and key[Attribute.DECRYPT]:
        method = _GCM
    elif key[Attribute.WRAP] and key[Attribute.UNWRAP]:
        method = _KEY_WRAP
    return extractable, int(key[Attribute.VALUE_LEN]), bytes(key[Attribute.ID]), method


def _round_trip(session: Any, key: Any, method: bytes, sample: bytes, context: bytes) -> bool:
    wrapped = _wrap(session, key, method, sample, context)
    return hmac.compare_digest(_unwrap(session, key, wrapped, context), sample)


def _wrap(session: Any, key: Any, method: bytes, plain: bytes, context: bytes) -> bytes:
    if method == _GCM:
        nonce = os.urandom(_NONCE)
        parameters = pkcs11.GCMParams(nonce, context)
        return _GCM + nonce + bytes(key.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
    bound = session.create_object(
        {
            Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
            Attribute.VALUE: plain + hashlib.sha256(context).digest(),
            **_PLAIN,
        }
    )
    try:
        return _KEY_WRAP + bytes(key.wrap_key(bound, mechanism=Mechanism.AES_KEY_WRAP))
    finally:
        bound.destroy()


def _unwrap(session: Any, key: Any, wrapped: bytes, context: bytes) -> bytes:
    method, rest = wrapped[:1], wrapped[1:]
    if method == _GCM and len(rest) > _NONCE:
        parameters = pkcs11.GCMParams(rest[:_NONCE], context)
        return bytes(key.decrypt(rest[_NONCE:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
    if method != _KEY_WRAP:
        raise _unreadable()
    bound = key.unwrap_key(
        pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.KeyType.GENERIC_SECRET,
        rest,
        mechanism=Mechanism.AES_KEY_WRAP,
        capabilities=0,
        template=_PLAIN,
    )
    try:
        value = bytes(bound[Attribute.VALUE])
    finally:
        bound.destroy()
    plain, digest = value[:_KEY], value[_KEY:]
    if not hmac.compare_digest(digest, hashlib.sha256(context).digest()):
        raise _unreadable()
    return plain


def _missing(place: Token, label: str) -> Sealed:
    return Sealed(f"The token {place.label} has no AES key with the label {label}; `certbroker seal init` makes one.")


def _unreadable() -> Unreadable:
    return Unreadable("The seal key does not open the vault's key: it is another key, or the row was altered or moved.")
