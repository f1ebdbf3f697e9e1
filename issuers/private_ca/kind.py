"""The issuer kind PrivateCA: what is registered, and what it opens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.domain.authority import Issued
from certbroker.domain.checkup import Checked, fail, ok, warn
from certbroker.domain.csr import general_names, names_for
from certbroker.domain.durations import add_months
from certbroker.domain.errors import Invalid
from certbroker.domain.keys import PrivateKey
from certbroker.domain.operation import Problem
from certbroker.domain.policy import parse_subject
from certbroker.ports.authority import Signer
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    IssuerSettings,
    Journal,
    Reply,
    RequestRefused,
    Resources,
)
from issuers.private_ca.constraints import violation
from issuers.private_ca.entry import entry_of
from issuers.private_ca.lint import lint
from issuers.private_ca.prepare import prepare_leaf
from issuers.private_ca.settings import PrivateCASettings, read_settings
from issuers.private_ca.signing import sign


class PrivateCAIssuer:
    """Signs on the spot with a CA of this broker, so there is nothing to journal."""

    def __init__(self, settings: PrivateCASettings, resources: Resources) -> None:
        self._settings = settings
        self._authorities = resources.authorities
        self._clock = resources.clock

    def advance(self, request: IssuanceRequest, journal: Journal) -> Reply:
        # That the CA is not there is a fault of the issuer's settings, which is told of the issuer too.
        signer = self._authorities.signer(self._settings.ca)
        path = signer.path
        if self._settings.over is not None:
            path = self._authorities.over(signer, self._settings.over)
        try:
            certificate, entry = self._issue(request, signer)
        except Invalid as refusal:
            return RequestRefused(Problem("RefusedByCA", refusal.message))
        chain = path if self._settings.with_root else without_root(path)
        return CertificateIssued((certificate, *encoded(chain)), entry)

    def is_quick(self) -> bool:
        return self._settings.over is None and self._authorities.is_quick(self._settings.ca)

    def revoke(self, certificate: bytes, reason: int, key: PrivateKey | None = None) -> None:
        """Enter it into the CA's ledger; the next CRL has it, and is made at once."""
        leaf = x509.load_der_x509_certificate(certificate)
        self._authorities.revoke(self._settings.ca, leaf, reason, self._clock.now())

    def checkup(self, what: str) -> Iterator[Checked]:
        """Whether the CA signs, for how long, and whether anybody can ask about its certificates."""
        signer = self._authorities.signer(self._settings.ca)
        end = signer.certificate.not_valid_after_utc
        renew = f"Renew it with `certbroker ca renew {signer.authority.name}`."
        if end <= self._clock.now():
            yield fail(what, f"The CA {self._settings.ca} expired on {end:%Y-%m-%d}.", renew)
            return
        if end - self._clock.now() < timedelta(days=self._settings.profile.max_days):
            yield warn(what, f"The CA {self._settings.ca} expires on {end:%Y-%m-%d}, and what it signs with it.", renew)
        else:
            yield ok(what, f"The CA {self._settings.ca} signs, until {end:%Y-%m-%d}.")
        if signer.url is None:
            yield warn(
                what,
                "Its certificates do not say where to ask whether they are revoked: nothing is published.",
                "Set pki.listen and pki.url in the configuration.",
            )

    def _issue(self, request: IssuanceRequest, signer: Signer) -> tuple[bytes, Issued]:
        """Sign, and tell what the ledger is to have. Raises Invalid."""
        policy, profile, now = request.policy, self._settings.profile, self._clock.now()
        key = request.key.public_key()
        sans = names_for(policy)
        if self._settings.names is not None:
            wrong = violation(general_names(sans), self._settings.names, closed=True)
            if wrong:
                raise Invalid(f"{wrong} by the option names of the issuer.")
        life = add_months(now, policy.validity_months) - now
        prepared = prepare_leaf(signer, profile, parse_subject(policy.subject), sans, key, now, life)
        certificate = sign(lint(prepared))
        return certificate, entry_of(signer, certificate, prepared, profile.name, now)


@lru_cache(maxsize=64)
def encoded(chain: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    """The certificates in DER."""
    return tuple(each.public_bytes(Encoding.DER) for each in chain)


def without_root(path: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    """What a server sends: a client that trusts the root has it, and any other gains nothing by it (RFC 8446)."""
    return path[:-1] if path and path[-1].issuer == path[-1].subject else path


class PrivateCAKind:
    """A CA of this broker, in the issuer's vault or lent to it."""

    provider = "PrivateCA"
    local = True
    manual = False

    def check(self, settings: IssuerSettings) -> None:
        if settings.account_id or settings.password:
            raise Invalid("credentials: an issuer of a private CA has none; the CA's key is in a vault of this broker.")
        read_settings(settings)

    def open(self, settings: IssuerSettings, resources: Resources) -> PrivateCAIssuer:
        return PrivateCAIssuer(read_settings(settings), resources)


KIND = PrivateCAKind()
