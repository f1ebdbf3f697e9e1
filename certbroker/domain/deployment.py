"""Putting a certificate where it is used: what is put there, and what is known of how that goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.backoff import doubled
from certbroker.domain.chain import path_of
from certbroker.domain.csr import names_of
from certbroker.domain.errors import Invalid

# Waits after deployments that have failed: they double from the first to the last, for as long as it takes.
_FIRST_RETRY: Final = timedelta(minutes=1)
_LAST_RETRY: Final = timedelta(hours=1)

# Failures in a row at which people are told: by then a server that was only restarting is there again.
TOLD_FAILURES: Final = 3


@dataclass(frozen=True, slots=True)
class Material:
    """A certificate with its private key, ready to be put somewhere. `cert` is the certificate alone, `chain` what
    follows it, all in PEM; `pfx` is a PKCS#12 without a password. `names` are the DNS names and addresses in it.
    """

    vault: str
    certificate: str
    version: str
    sha256: str
    not_after: datetime
    names: tuple[str, ...]
    cert: str
    chain: str
    key: str = field(repr=False)
    pfx: bytes = field(repr=False)

    @property
    def fullchain(self) -> str:
        return self.cert + self.chain

    @property
    def combined(self) -> str:
        """Certificate, chain and key in one file, in the order that HAProxy and others read."""
        return self.fullchain + self.key


def read_material(vault: str, certificate: str, version: str, pem: str) -> Material:
    """What the secret of a certificate has in PEM. Raises Invalid where it has no key, or no certificate for it."""
    if "PRIVATE KEY-----" not in pem:
        raise Invalid(
            f"The key of the certificate {certificate} may not leave the vault, so it cannot be deployed: set "
            "exportable in its policy, and make a new version."
        )
    try:
        key = load_pem_private_key(pem.encode(), None)
        found = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, TypeError):
        raise Invalid(f"The secret {certificate} is not that of a certificate.") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Invalid(f"The key of the certificate {certificate} is of a kind that is not supported.")
    leaf, *issuers = path_of(found, key.public_key())
    names = names_of(leaf)
    return Material(
        vault,
        certificate,
        version,
        leaf.fingerprint(hashes.SHA256()).hex(),
        leaf.not_valid_after_utc,
        (*names.dns_names, *names.ip_addresses),
        leaf.public_bytes(Encoding.PEM).decode(),
        "".join(issuer.public_bytes(Encoding.PEM).decode() for issuer in issuers),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        pkcs12.serialize_key_and_certificates(None, key, leaf, issuers, NoEncryption()),
    )


class Progress(Struct, frozen=True):
    """How far a deployment is. `sha256` and `version` are of what was deployed the last time.

    `failures` in a row have happened since `failing_since`, the last one for `problem`. `told` means that people know.
    """

    sha256: str = ""
    version: str = ""
    deployed: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    problem: str = ""
    told: bool = False


def failed(before: Progress, problem: str, now: datetime) -> Progress:
    """After one more failure."""
    failures = before.failures + 1
    told = before.told or failures >= TOLD_FAILURES
    return replace(before, failures=failures, failing_since=before.failing_since or now, problem=problem, told=told)


def ended(before: Progress) -> Progress:
    """Where there is nothing to deploy any more: then nothing fails either."""
    return Progress(before.sha256, before.version, before.deployed)


def begun_again(before: Progress) -> Progress:
    """For a section that was changed: all of it is to be done anew, and people still know what they were told."""
    return (
        Progress(failing_since=before.failing_since, problem=before.problem, told=True) if before.told else Progress()
    )


def retry_at(progress: Progress, now: datetime) -> datetime:
    """When to try again what has failed."""
    return now + doubled(_FIRST_RETRY, _LAST_RETRY, progress.failures)
