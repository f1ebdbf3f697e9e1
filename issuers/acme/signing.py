"""Account keys and what is signed with them (RFC 8555 section 6.2), by josepy and acme."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Final

from acme import messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy import jwa, jwk
from josepy.json_util import encode_b64jose

from issuers.acme.settings import ExternalAccount

_EC: Final[dict[str, type[ec.EllipticCurve]]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
_ALGORITHMS: Final[dict[str, jwa.JWASignature]] = {
    "secp256r1": jwa.ES256,
    "secp384r1": jwa.ES384,
    "secp521r1": jwa.ES512,
}


class AccountKey:
    """The key of an ACME account."""

    def __init__(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _ALGORITHMS:
            raise ValueError(f"ACME has no signatures on the curve {key.curve.name}.")
        if isinstance(key, rsa.RSAPrivateKey):
            self._jwk: jwk.JWK = jwk.JWKRSA(key=key)
            self._algorithm: jwa.JWASignature = jwa.RS256
        else:
            self._jwk = jwk.JWKEC(key=key)
            self._algorithm = _ALGORITHMS[key.curve.name]

    @functools.cached_property
    def thumbprint(self) -> str:
        """RFC 7638, in base64url."""
        return encode_b64jose(self._jwk.thumbprint())

    def key_authorization(self, token: str) -> str:
        """Section 8.1. The token stays as the CA wrote it, whatever its base64url decodes to."""
        return f"{token}.{self.thumbprint}"

    def sign(self, payload: bytes, *, url: str, nonce: str, account: str | None) -> bytes:
        """A request body for `url`: under the account's URL, or with the public key itself where there is none yet."""
        # Assembled here, because acme's JWS decodes the nonce and encodes it again, which changes one that is not
        # canonical.
        who = {"jwk": self._public()} if account is None else {"kid": account}
        return json.dumps(self._signed(payload, {"nonce": nonce, "url": url, **who})).encode()

    def succeed(self, old: AccountKey, account: str, url: str) -> Mapping[str, Any]:
        """What says that this key takes the place of `old` (section 7.3.5), to be sent under the old one to `url`."""
        payload = json.dumps({"account": account, "oldKey": old._public()}).encode()
        return self._signed(payload, {"url": url, "jwk": self._public()})

    def bind(self, external: ExternalAccount, new_account_url: str) -> Mapping[str, Any]:
        """An external account binding of this key (section 7.3.4)."""
        directory = messages.Directory({"newAccount": new_account_url})
        binding: Mapping[str, Any] = messages.ExternalAccountBinding.from_data(
            self._jwk.public_key(), external.key_id, external.mac_key, directory
        )
        return binding

    def _public(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._jwk.public_key().to_json()
        return found

    def _signed(self, payload: bytes, header: Mapping[str, Any]) -> dict[str, str]:
        """A JWS in its flattened JSON form."""
        protected = _encoded({"alg": self._algorithm.name, **header})
        encoded = encode_b64jose(payload)
        signature = self._algorithm.sign(self._jwk.key, f"{protected}.{encoded}".encode())
        return {"protected": protected, "payload": encoded, "signature": encode_b64jose(signature)}


def _encoded(header: Mapping[str, Any]) -> str:
    return encode_b64jose(json.dumps(header).encode())


def make_account_key(kind: str) -> bytes:
    """A new key of `kind`, such as P-256 or RSA-2048, as PKCS#8 in DER."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind in _EC:
        key = ec.generate_private_key(_EC[kind]())
    else:
        key = rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_account_key(der: bytes) -> AccountKey:
    """The key in PKCS#8 DER, as `make_account_key` made it."""
    key = serialization.load_der_private_key(der, None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("An ACME account key is RSA or EC.")
    return AccountKey(key)


def encode_payload(payload: Mapping[str, Any] | None) -> bytes:
    """The payload of a JWS: JSON, or nothing at all for a POST-as-GET (section 6.3)."""
    return b"" if payload is None else json.dumps(payload).encode()
