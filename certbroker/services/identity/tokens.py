"""Access tokens: given for client secrets, and verified at every request."""

from __future__ import annotations

import hashlib
import hmac
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from certbroker.domain.access import secret_digest
from certbroker.domain.errors import Unauthenticated
from certbroker.domain.records import Identity, SealedBytes
from certbroker.ports.clock import Clock
from certbroker.ports.seal import Seal
from certbroker.services.objects.vaults import SYSTEM
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

LIFETIME: Final = 3600
_ALGORITHM: Final = "RS256"
_SETTING: Final = "token signing key"
_IDENTITY: Final = Identity(SYSTEM, "setting", _SETTING, "")
_MAX_TOKEN: Final = 8192
_CACHED: Final = 10_000

# How long a verified token is trusted without another look at its application, in seconds.
_RECHECK: Final = 60


class BadCredentials(Unauthenticated):
    """The client is not known, or its secret is wrong or expired. The text does not say which."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for. `expires` is in Unix seconds."""

    object_id: str
    client_id: str
    audience: str
    expires: int


class Tokens:
    """Issues and verifies RS256 tokens. The signing key is made at the first start and sealed."""

    def __init__(self, store: SQLiteStore, seal: Seal, clock: Clock, tenant: str) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock
        self.tenant = tenant
        self._key = self._load_key()
        self._verified: OrderedDict[bytes, tuple[Principal, int]] = OrderedDict()
        self._lock = threading.Lock()

    def issue(self, client_id: str, client_secret: str, audience: str, issuer: str) -> str:
        """A token for a client that proves itself by its secret. Raises BadCredentials."""
        now = int(self._clock.now().timestamp())
        object_id = self._authenticate(client_id, client_secret, now)
        claims = {
            "aud": audience,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "appid": client_id,
            "azp": client_id,
            "oid": object_id,
            "sub": object_id,
            "tid": self.tenant,
            "idtyp": "app",
            "ver": "2.0",
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid, "typ": "JWT"}, claims, self._key)

    def verify(self, token: str) -> Principal:
        """Who the token speaks for. Raises Unauthenticated."""
        now = int(self._clock.now().timestamp())
        digest = hashlib.sha256(token.encode("ascii", "replace")).digest()
        verified = self._verified
        cached = verified.get(digest)
        if cached is not None and now < cached[1]:
            return cached[0]
        principal = self._verify(token, now)
        with self._lock:
            # `forget` may have put another dictionary in the place of this one meanwhile.
            verified[digest] = (principal, min(principal.expires, now + _RECHECK))
            if len(verified) > _CACHED:
                verified.popitem(last=False)
        return principal

    def forget(self) -> None:
        """Look at every token again: an application has changed."""
        self._verified = OrderedDict()

    def public_keys(self) -> list[dict[str, Any]]:
        """The keys that tokens are verified with, as RFC 7517 has them."""
        return [self._key.as_dict(private=False)]

    def _authenticate(self, client_id: str, client_secret: str, now: int) -> str:
        identities = self._store.glance().identities
        application = identities.application(client_id)
        digest = secret_digest(client_secret)
        matches = [
            credential
            for credential in identities.credentials(client_id)
            if hmac.compare_digest(credential.digest, digest)
            and (credential.expires is None or now < credential.expires)
        ]
        if application is None or not application.enabled or not matches:
            raise BadCredentials(
                "Invalid client: the client id is not known here, or its secret is wrong or has expired."
            )
        return application.object_id

    def _verify(self, token: str, now: int) -> Principal:
        if len(token) > _MAX_TOKEN:
            raise Unauthenticated("AKV10000: The token is too long.")
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, KeyError):
            raise Unauthenticated("AKV10022: The token is not one that this authority has signed.") from None
        expires, starts = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int) or not isinstance(starts, int) or now >= expires or now + 300 < starts:
            raise Unauthenticated("AKV10000: The token has expired or is not valid yet; get a new one.")
        if claims.get("tid") != self.tenant:
            raise Unauthenticated("AKV10032: The token was issued by another tenant.")
        client_id, object_id, audience = (str(claims.get(name, "")) for name in ("appid", "oid", "aud"))
        application = self._store.glance().identities.application(client_id)
        if application is None or not application.enabled or application.object_id != object_id:
            raise Unauthenticated("AKV10000: The application of the token has been deleted or disabled.")
        return Principal(object_id, client_id, audience, expires)

    def _load_key(self) -> RSAKey:
        sealed = self._store.glance().vaults.sealed_setting(_SETTING)
        if sealed is None:
            sealed = self._make_key()
        key = RSAKey.import_key(self._seal.open(_IDENTITY, sealed))
        key.ensure_kid()
        return key

    def _make_key(self) -> SealedBytes:
        pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        sealed = self._seal.close(_IDENTITY, pem)

        def work(transaction: SQLTransaction) -> SealedBytes:
            kept = transaction.vaults.sealed_setting(_SETTING)
            if kept is None:
                transaction.vaults.put_setting(_SETTING, sealed=sealed)
            return kept or sealed

        return self._store.write(work)
