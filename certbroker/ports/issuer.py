"""Where certificates come from.

A *kind* is code that knows one sort of issuer; it is found by its provider name. An *issuer* is one that somebody has
configured in a vault. The engine opens an issuer from its kind and its settings, and asks it to go on with a request
until it says Issued or Refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from msgspec import Struct

from certbroker.domain.authority import Issued
from certbroker.domain.keys import PrivateKey
from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy
from certbroker.ports.authority import Authorities
from certbroker.ports.clock import Clock
from certbroker.ports.dns import DNS
from certbroker.ports.egress import Egress
from certbroker.ports.governor import Governor

# So many threads may ask one issuer to go on with requests at the same time.
THREADS_PER_ISSUER: Final = 12


@dataclass(frozen=True, slots=True)
class Administrator:
    """A person the issuer may turn to."""

    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """What a vault's owner configured, in the fields of the Key Vault issuer API.

    `password` never appears in a repr.
    """

    name: str
    provider: str
    account_id: str | None = None
    password: str | None = field(default=None, repr=False)
    organization_id: str | None = None
    administrators: tuple[Administrator, ...] = ()
    enabled: bool = True


class IssuanceRequest(Struct, frozen=True):
    """One certificate wanted: the same arguments at every call for one operation."""

    operation_id: str
    csr: bytes
    """PKCS#10 in DER, signed by the key that the certificate is for."""
    policy: CertificatePolicy
    key: PrivateKey
    """The key that signed the CSR, which the self-signed issuer signs with too."""
    replaces: bytes | None = None
    """The end-entity certificate in DER that this one renews, if it does, whoever issued it. An issuer that has a use
    for it tells its CA; it never stands in the way of the new certificate.
    """


class Journal(Protocol):
    """The durable record of what one operation is about to ask the outside world, and what came back.

    Both writing methods return once the entry is on disk and raise LeaseLost when another worker has taken the
    operation over, in which case the caller stops at once. A step is named once per operation; recording it again
    replaces the entry. Entries hold no secrets.
    """

    def intend(self, step: str, **about: str) -> None:
        """Note that `step` is about to be asked for."""
        ...

    def record(self, step: str, **reply: str) -> None:
        """Note what `step` brought."""
        ...

    def intended(self, step: str) -> Mapping[str, str] | None:
        """What was noted before `step`, or None."""
        ...

    def recorded(self, step: str) -> Mapping[str, str] | None:
        """What `step` brought, or None when it has not been answered."""
        ...


class IssuerMemory(Protocol):
    """What a configured issuer keeps between requests, such as an account key. Sealed at rest; blocking and durable."""

    def load(self, name: str) -> bytes | None: ...

    def save(self, name: str, value: bytes) -> bytes:
        """Keep `value` unless something is kept under `name` already; return what is kept. So two workers that make an
        account key at once both go on with the same one.
        """
        ...

    def swap(self, name: str, old: bytes, new: bytes) -> bool:
        """Keep `new` in the place of `old`; False, and nothing is changed, when `old` is not what is kept."""
        ...


BoardKind = Literal["http-01", "tls-alpn-01"]


class ChallengeBoard(Protocol):
    """Where answers to http-01 and tls-alpn-01 challenges are put up; every replica's listeners serve them.

    `place` is what the CA names when it comes for the answer: the token for http-01, for tls-alpn-01 the DNS name or
    the address. So a place has one answer at a time. Blocking and durable; both methods are safe to repeat.
    """

    def put(self, kind: BoardKind, place: str, key_authorization: str, expires: datetime) -> bool:
        """Put the answer up, or let it stay up until then. False, and nothing changes, while another one is there."""
        ...

    def take_down(self, kind: BoardKind, place: str, key_authorization: str) -> None:
        """Take this answer away; another one at the same place stays."""
        ...


class DNSPublisher(Protocol):
    """Publishes TXT records for dns-01. Blocking; both methods are safe to repeat. Raises IssuerUnavailable."""

    def publish(self, name: str, value: str) -> None:
        """Add `value` to the TXT records at `name` (absolute, without the final dot), and return once the authoritative
        servers answer with it, or the wait for that is over.
        """
        ...

    def withdraw(self, name: str, value: str) -> None:
        """Remove just that value."""
        ...


@dataclass(frozen=True, slots=True)
class Resources:
    """What the composition root lends to issuer kinds."""

    egress: Egress
    memory: IssuerMemory
    board: ChallengeBoard
    dns: Mapping[str, DNSPublisher]
    """The configured DNS publishers, by the name the operator gave them."""
    names: DNS
    clock: Clock
    governor: Governor
    authorities: Authorities
    """The broker's own CAs, as the issuer's vault may use them."""


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """The issuer has the request. Ask again after `pause`; `detail` tells a person who acts next."""

    pause: timedelta
    detail: str


class CertificateIssued(Struct, frozen=True):
    """The certificates in DER, the end entity's first, then its chain as the issuer sent it.

    `entry` is for the ledger of the CA, where that is one of the broker's own: it is stored in the transaction that
    stores the certificate, so that neither is there without the other.
    """

    chain: tuple[bytes, ...]
    entry: Issued | None = None


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The issuer will not issue on this request.

    No usable certificate has come of it, and none can come any more: another issuer may be asked instead. While that
    is in doubt an issuer waits, or is unavailable.
    """

    problem: Problem


Reply = StillWaiting | CertificateIssued | RequestRefused


class IssuerUnavailable(Exception):
    """Trying later may help: the issuer is down, limits us, or answered nonsense. `retry_at` is what it asked for.

    `committed`, which only `Issuer.advance` sets, says that the issuer may have made the certificate already, or makes
    it without being asked again: no other issuer may be asked instead.
    """

    def __init__(self, problem: Problem, retry_at: datetime | None = None, *, committed: bool = False) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.retry_at = retry_at
        self.committed = committed


class Issuer(Protocol):
    """Obtains certificates for CSRs.

    `advance` does what can be done now and says what is next. It may block on the network. It is safe to repeat at
    any time with the same request, also after a crash at any point: what has happened is in the journal, written
    before and after each outside call, and no second certificate comes from a repetition. It never sleeps and never
    retries on its own, except where the protocol asks for an immediate repetition. A refusal is a reply;
    IssuerUnavailable is raised when trying later may help.
    """

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply: ...


class IssuerKind(Protocol):
    """One sort of issuer. Stateless; shared by all threads."""

    provider: str
    """The provider name in the Key Vault issuer API, compared without regard to case."""
    local: bool
    """Whether requests are answered at once without any outside call, so that nothing has to be journalled."""
    manual: bool
    """Whether a person carries the CSR out and merges the answer: the engine then never asks the issuer."""

    def check(self, settings: IssuerSettings) -> None:
        """Raise Invalid, naming the field, when an issuer could not work with these settings. No outside calls."""
        ...

    def open(self, settings: IssuerSettings, resources: Resources) -> Issuer: ...
