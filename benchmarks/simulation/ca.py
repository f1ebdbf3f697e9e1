"""A certification authority in memory: limits that it enforces by itself, renewal windows, outages, an incident.

Its clock is right, whatever the broker's clock says.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from benchmarks.simulation.limits import (
    CERTIFICATES_FOR_DOMAIN,
    CERTIFICATES_FOR_NAMES,
    FAILURES_OF_NAME,
    ORDERS_BY_ACCOUNT,
    Counters,
)
from benchmarks.simulation.world import DAY, Span

# As Let's Encrypt does, against clocks that are slow.
_BACKDATED = timedelta(hours=1)

# The window has this part of the life; its middle is at one half of lives under ten days, else at two thirds.
_WINDOW = 0.02
_SHORT = 10 * DAY

# What is affected by the incident was issued in this time before it.
_AFFECTED = 60 * DAY

# An order that nobody finalizes is over after this.
_ORDER_LIFE = 7 * DAY

# Of the orders one in so many takes a while, and of those for renewals one in so many cannot be validated. Nobody is
# there to ask again where a first order failed.
_UNVALIDATED = 500
_SLOW = 50


# Names are in the extension alone, as in Let's Encrypt's certificates for six days.
_NOBODY = x509.Name([])


class Down(Exception):
    """The CA cannot be reached."""


class Limited(Exception):
    """One of its limits is used up; the next fits after `wait`."""

    def __init__(self, what: str, wait: timedelta) -> None:
        super().__init__(f"too many {what}")
        self.wait = wait


class AlreadyReplaced(Exception):
    """Another order replaces the certificate (RFC 9773 section 5)."""


class Unvalidated(Exception):
    """It has looked for the answer to its challenge in vain."""


class Standing(Enum):
    """How an order counts."""

    NEW = 0
    RENEWAL = 1
    """For exactly the names of a certificate before: counts only as one for these names."""
    REPLACEMENT = 2
    """It names the certificate that it replaces: counts nowhere."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that it has made."""

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order in progress."""

    account: str
    names: tuple[str, ...]
    standing: Standing
    replaces: str | None
    ready_at: datetime
    fails: bool


class SimulatedCA:
    """`now` tells the true time. `suggests` renewal windows, and exempts orders that name what they replace.

    `refused` counts refusals by limit, `doubled` orders for something that had been replaced already, and `needless`
    certificates for names that had a fresh one. `on_issue` is told of each certificate, with the one before it.
    """

    def __init__(
        self,
        name: str,
        now: Callable[[], datetime],
        *,
        suggests: bool,
        lives: dict[tuple[str, ...], timedelta],
        domain_of: Callable[[str], str],
        outages: tuple[Span, ...] = (),
        incident: datetime | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.name = name
        self.suggests = suggests
        self.orders = 0
        self.issued = 0
        self.unvalidated = 0
        self.replaced_for_incident: list[timedelta] = []
        self.refused: Counter[str] = Counter()
        self.doubled = 0
        self.needless = 0
        self.on_issue: Callable[[Issued, Issued | None], None] = lambda issued, before: None
        self._now = now
        self._lives = lives
        self._domain_of = domain_of
        self._outages = outages
        self._incident = incident
        self._chance = chance
        self._numbers = itertools.count(1)
        self._orders: dict[str, Order] = {}
        self._certificates: dict[str, Issued] = {}
        self._being_replaced: dict[str | None, datetime] = {}
        self._succeeded: set[str | None] = set()
        self._latest: dict[tuple[str, ...], Issued] = {}
        self._by_account = Counters(ORDERS_BY_ACCOUNT, "new orders by the account")
        self._for_domain = Counters(CERTIFICATES_FOR_DOMAIN, "certificates for the registered domain")
        self._for_names = Counters(CERTIFICATES_FOR_NAMES, "certificates for the exact set of names")
        self._failures = Counters(FAILURES_OF_NAME, "failed validations of a name")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Simulated CA {name}")])
        self._key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        self._certificate = self._own_certificate()

    @property
    def counters(self) -> tuple[Counters, ...]:
        """What it limits."""
        return self._by_account, self._for_domain, self._for_names, self._failures

    def is_up(self, moment: datetime) -> bool:
        return not any(span.holds(moment) for span in self._outages)

    def was_up(self, start: datetime, end: datetime) -> bool:
        """Whether it was up all the time between these moments."""
        return not any(span.start < end and start < span.end for span in self._outages)

    def directory(self) -> None:
        """What every client asks for first. Raises Down."""
        self._reached()

    def new_order(self, account: str, names: tuple[str, ...], replaces: bytes | None = None) -> str:
        """The URL of a new order. Raises Down, Limited, AlreadyReplaced."""
        now = self._reached()
        replaced = None if replaces is None else _sha256(replaces)
        if replaced in self._succeeded:
            self.doubled += 1
        if replaced in self._succeeded or now < self._being_replaced.get(replaced, now):
            raise AlreadyReplaced
        standing = self._standing(names, replaced)
        self._check_limits(account, names, standing, now)
        if standing is Standing.NEW:
            self._by_account.take(account, now)
        if replaced is not None:
            self._being_replaced[replaced] = now + _ORDER_LIFE
        self.orders += 1
        chance = self._chance
        slow = chance is not None and chance.randrange(_SLOW) == 0
        url = f"https://{self.name}.example/order/{next(self._numbers)}"
        self._orders[url] = Order(
            account,
            names,
            standing,
            replaced,
            now + (timedelta(seconds=30) if slow else timedelta(0)),
            standing is not Standing.NEW and chance is not None and chance.randrange(_UNVALIDATED) == 0,
        )
        return url

    def finalize(self, url: str, csr: bytes) -> tuple[bytes, ...] | timedelta:
        """The chain in DER, or how long to wait. Raises Down, Unvalidated."""
        now = self._reached()
        order = self._orders[url]
        if now < order.ready_at:
            return order.ready_at - now
        del self._orders[url]
        if order.fails:
            self.unvalidated += 1
            self._failures.take(f"{order.account} {order.names[0]}", now)
            self._being_replaced.pop(order.replaces, None)  # An order that came to nothing has replaced nothing.
            raise Unvalidated
        return self._issue(order, csr, now)

    def window(self, certificate: bytes) -> tuple[datetime, datetime, str | None] | None:
        """When it wants a certificate renewed, and the page that says why if it has one. Raises Down."""
        now = self._reached()
        found = self._certificates.get(_sha256(certificate)) if self.suggests else None
        if found is None:
            return None
        if self._is_affected(found, now):
            return now - 2 * DAY, now - DAY, f"https://{self.name}.example/incidents/1"
        life = found.not_after - found.not_before
        middle = found.not_before + life * (1 / 2 if life < _SHORT else 2 / 3)
        return middle - life * _WINDOW / 2, middle + life * _WINDOW / 2, None

    def crl(self, certificates: Iterable[bytes]) -> bytes:
        """A list that revokes these, whose keys are compromised, in DER."""
        now = self._now()
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        entries = [
            x509.RevokedCertificateBuilder(x509.load_der_x509_certificate(each).serial_number, now)
            .add_extension(reason, critical=False)
            .build()
            for each in certificates
        ]
        builder = x509.CertificateRevocationListBuilder(self._subject, now, now + 7 * DAY, revoked_certificates=entries)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _is_affected(self, issued: Issued, now: datetime) -> bool:
        incident = self._incident
        return (
            incident is not None
            and incident - _AFFECTED <= issued.at < incident <= now
            and int(issued.sha256[:2], 16) % 2 == 0
        )

    def _reached(self) -> datetime:
        now = self._now()
        if not self.is_up(now):
            raise Down
        return now

    def _standing(self, names: tuple[str, ...], replaced: str | None) -> Standing:
        predecessor = self._certificates.get(replaced or "")
        if predecessor is not None and {*names} & {*predecessor.names}:
            return Standing.REPLACEMENT
        return Standing.RENEWAL if names in self._latest else Standing.NEW

    def _check_limits(self, account: str, names: tuple[str, ...], standing: Standing, now: datetime) -> None:
        if standing is Standing.REPLACEMENT:
            return
        counters = [(self._for_names, " ".join(names)), *((self._failures, f"{account} {name}") for name in names)]
        if standing is Standing.NEW:
            counters += [(self._by_account, account), *((self._for_domain, each) for each in self._domains(names))]
        for counter, subject in counters:
            wait = counter.wait(subject, now)
            if wait > timedelta(0):
                self.refused[counter.what] += 1
                raise Limited(counter.what, wait)

    def _issue(self, order: Order, csr: bytes, now: datetime) -> tuple[bytes, ...]:
        names = order.names
        if order.standing is not Standing.REPLACEMENT:
            self._for_names.take(" ".join(names), now)
        if order.standing is Standing.NEW:
            for domain in self._domains(names):
                self._for_domain.take(domain, now)
        begin = (now - _BACKDATED).replace(microsecond=0)
        end = begin + self._lives[names]
        leaf = self._sign(names, begin, end, csr)
        issued, before = Issued(names, begin, end, now, _sha256(leaf)), self._latest.get(names)
        self._certificates[issued.sha256] = self._latest[names] = issued
        self.issued += 1
        if before is not None:
            if self._is_affected(before, now):
                assert self._incident is not None
                self.replaced_for_incident.append(now - self._incident)
            elif now - before.at < self._lives[names] / 4:
                self.needless += 1
            del self._certificates[before.sha256]
            self._being_replaced.pop(before.sha256, None)
            self._succeeded.add(before.sha256)
        self.on_issue(issued, before)
        return leaf, self._certificate

    def _domains(self, names: tuple[str, ...]) -> set[str]:
        return {self._domain_of(name) for name in names}

    def _sign(self, names: tuple[str, ...], begin: datetime, end: datetime, csr: bytes) -> bytes:
        request = x509.load_der_x509_csr(csr)
        public = request.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        builder = x509.CertificateBuilder(
            issuer_name=self._subject,
            subject_name=_NOBODY,
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=begin.replace(tzinfo=None),
            not_valid_after=end.replace(tzinfo=None),
            extensions=_extensions(names, self._key_id),
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _own_certificate(self) -> bytes:
        now = self._now()
        return (
            x509.CertificateBuilder()
            .subject_name(self._subject)
            .issuer_name(self._subject)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * 366 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )


@cache
def _extensions(
    names: tuple[str, ...], key_id: x509.AuthorityKeyIdentifier
) -> list[x509.Extension[x509.ExtensionType]]:
    """What a certificate for a web server has, by the names of the order, as Let's Encrypt makes them."""
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_id, False),
        (x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), True),
    ]
    return [x509.Extension(value.oid, critical, value) for value, critical in extensions]


def _sha256(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()
