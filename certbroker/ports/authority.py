"""Certification authorities of the broker, for issuers that sign with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from certbroker.domain.authority import Authority
from certbroker.domain.keys import SigningKey


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """A CA that can sign. `path` has its certificate first, then those of its issuers; the root is the last, if known.

    `url` is where this broker publishes what belongs to its CAs, without a final slash; None where it publishes
    nothing. An OCSP reply of it holds for `ocsp_life`. The key signs by its abstract type only: it may be in an HSM.
    """

    authority: Authority
    path: tuple[x509.Certificate, ...]
    key: SigningKey = field(repr=False)
    url: str | None
    ocsp_life: timedelta

    @property
    def certificate(self) -> x509.Certificate:
        return self.path[0]


class Authorities(Protocol):
    """The CAs that one vault may use. Thread-safe; reads the database, and opens a key once and keeps it."""

    def signer(self, name: str) -> Signer:
        """The CA of that name in the vault, or `vault/name` for one of another vault that lends it.

        Raises Invalid, saying what to do, when there is none, it does not sign any more, or it is not lent.
        """
        ...

    def is_quick(self, name: str) -> bool:
        """Whether that CA can be opened and signs without keeping an event loop. Raises Invalid as `signer` does."""
        ...

    def over(self, signer: Signer, other: str) -> tuple[x509.Certificate, ...]:
        """The path of a CA that leads over another one, named as for `signer`, which has cross-signed it.

        Raises Invalid when there is no such certificate.
        """
        ...

    def revoke(self, name: str, certificate: x509.Certificate, reason: int, now: datetime) -> None:
        """Enter into the ledger of the CA, any of its generations, that a certificate of it is revoked.

        Durable on return, and safe to repeat. Raises Invalid when the CA has not issued that certificate.
        """
        ...
