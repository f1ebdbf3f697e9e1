"""Certification authorities of this broker, and the ledger of what they have issued.

A CA is known by a name in its vault, where the vault certificate of that name holds its certificate and its key. Each
certificate that the CA itself has had is a *generation*, with an id that stands in public URLs and never changes.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final, assert_never

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from msgspec import Struct
from msgspec.structs import astuple, replace

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import CURVE_NAMES, KeySpec, VerifyingKey
from certbroker.domain.publication import StatusReply
from certbroker.domain.records import SealedBytes

MAX_SHARDS: Final = 256
MAX_CONSTRAINTS: Final = 100

# The kinds of key a CA may have, by the names that people write. Key Vault knows the first two families only.
KEY_KINDS: Final[dict[str, KeySpec]] = {
    "RSA-2048": KeySpec("RSA", 2048),
    "RSA-3072": KeySpec("RSA", 3072),
    "RSA-4096": KeySpec("RSA", 4096),
    "P-256": KeySpec("EC", 256, "P-256"),
    "P-384": KeySpec("EC", 384, "P-384"),
    "P-521": KeySpec("EC", 521, "P-521"),
    "Ed25519": KeySpec("OKP", None, "Ed25519"),
    "ML-DSA-44": KeySpec("AKP", None, "ML-DSA-44"),
    "ML-DSA-65": KeySpec("AKP", None, "ML-DSA-65"),
    "ML-DSA-87": KeySpec("AKP", None, "ML-DSA-87"),
}

# A serial number has at most 20 octets (RFC 5280 section 4.1.2.2).
_SERIAL_DIGITS: Final = 40


class AuthorityState(StrEnum):
    """What a generation does."""

    ACTIVE = "active"
    """It signs certificates."""
    RETIRED = "retired"
    """A newer generation signs; this one still says which of its certificates are revoked."""
    REVOKED = "revoked"
    """Its issuer has revoked it."""
    CROSS = "cross"
    """A certificate that another CA has made for the key of an active generation: a link for chains, which has issued
    nothing itself and publishes no list of its own.
    """


class AuthoritySettings(Struct, frozen=True):
    """How a CA issues and what it publishes.

    Name constraints are written `dns:corp.example`, `ip:10.0.0.0/8`, `email:example.com`, `uri:example.com` or
    `dir:O=Example`. `lent_to` names the other vaults whose issuers may use the CA; `*` is every one.
    """

    path_length: int | None = None
    """How many CAs may stand between this one and an end entity; None is any number."""
    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    shards: int = 1
    """Into how many lists its revocations are divided. Certificates that are out keep the shard that they name."""
    crl_hours: int | None = None
    """For how long a CRL is valid; None is what the configuration says."""
    lent_to: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise Invalid, naming the setting, where one is out of its range."""
        if self.path_length is not None and not 0 <= self.path_length <= 16:
            raise Invalid("path_length is between 0 and 16, or left out.")
        if not 1 <= self.shards <= MAX_SHARDS:
            raise Invalid(f"shards is between 1 and {MAX_SHARDS}.")
        if self.crl_hours is not None and not 2 <= self.crl_hours <= 365 * 24:
            raise Invalid(f"crl_hours is between 2 and {365 * 24}.")
        if len(self.permitted) + len(self.excluded) > MAX_CONSTRAINTS:
            raise Invalid(f"permitted and excluded have at most {MAX_CONSTRAINTS} names together.")


class Authority(Struct, frozen=True, eq=False):
    """One generation of a CA. `not_after` and `created` are in Unix seconds; `parent` is the id of its issuer, where
    that is one of ours and not itself.

    `sealed_key` is the key where it is of a kind that Key Vault does not know; other keys are the vault's.
    """

    id: str
    vault_id: int
    name: str
    version: str
    certificate: bytes
    sha256: str
    subject: str
    key_sha256: str
    not_after: int
    parent: str | None
    state: AuthorityState
    settings: AuthoritySettings
    created: int
    sealed_key: SealedBytes | None = None
    crl_number: int = 0
    crl_act_at: datetime | None = None

    # The last two say how far the publishing is, and make it no other CA.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Authority) and astuple(self)[:-2] == astuple(other)[:-2]

    def __hash__(self) -> int:
        return hash(self.id)


class Issued(Struct, frozen=True):
    """An entry of a CA's ledger: one certificate, by its serial number as `serial_text` writes it.

    `name` and `version` are where it is in the vault, and empty where it was made for a CSR from outside; then
    `certificate` holds a copy. `revoked` is in Unix seconds, `reason` its CRLReason. `replies` about it were signed
    together with it, where there are any; what is read from the ledger has none.
    """

    authority: str
    serial: str
    sha256: str
    vault_id: int
    name: str
    version: str
    profile: str
    not_after: int
    shard: int
    certificate: bytes | None = None
    revoked: int | None = None
    reason: int | None = None
    replies: StatusReply | None = None

    def at(self, vault_id: int, name: str, version: str) -> Issued:
        """The entry with the place where the certificate is kept."""
        return replace(self, vault_id=vault_id, name=name, version=version)


def kind_of(key: VerifyingKey) -> str:
    """The name of a key's kind."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA-{key.key_size}"
        case ec.EllipticCurvePublicKey():
            return CURVE_NAMES.get(key.curve.name, key.curve.name)
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case mldsa.MLDSA44PublicKey():
            return "ML-DSA-44"
        case mldsa.MLDSA65PublicKey():
            return "ML-DSA-65"
        case mldsa.MLDSA87PublicKey():
            return "ML-DSA-87"
        case _:
            assert_never(key)


def signs_quickly(authority: Authority) -> bool:
    """Whether the key of a CA signs in less than a tenth of a millisecond, and is opened in as little."""
    return _kind_in(authority.certificate) in ("P-256", "Ed25519")


@lru_cache(maxsize=64)
def _kind_in(certificate: bytes) -> str:
    key = x509.load_der_x509_certificate(certificate).public_key()
    return kind_of(key) if isinstance(key, VerifyingKey) else ""


def serial_text(serial: int) -> str:
    """A serial number as the ledger has it: lower-case hexadecimal digits of fixed width."""
    return f"{serial:0{_SERIAL_DIGITS}x}"


def shard_of(serial: int, shards: int) -> int:
    """The shard that a new certificate gets: serial numbers are random, so any part of them spreads evenly."""
    return serial % shards


def key_kind(name: str) -> KeySpec:
    """The kind of key of that name, without regard to case. Raises Invalid."""
    for known, spec in KEY_KINDS.items():
        if known.lower() == name.lower():
            return spec
    raise Invalid(f"key {name[:40]!r} is no kind of key for a CA: use one of {', '.join(KEY_KINDS)}.")
