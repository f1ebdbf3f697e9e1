"""Dry runs: a certificate from a staging CA that is made as in earnest, looked at, and thrown away.

Nothing of it is stored: the account at the staging CA lives in memory and is given up at the end, as is the journal.
The account and the budget of the issuer in earnest are not touched.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from certbroker.domain import chain as chains
from certbroker.domain.checkup import Checked, fail, ok
from certbroker.domain.csr import build_csr
from certbroker.domain.errors import BrokerError, Invalid
from certbroker.domain.objects import Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.ports.clock import Clock
from certbroker.ports.issuer import (
    CertificateIssued,
    IssuanceRequest,
    Issuer,
    IssuerUnavailable,
    RequestRefused,
    StillWaiting,
)
from certbroker.ports.issuer_abilities import Abandons, HasAccount
from certbroker.ports.keystore import KeyStore
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.objects.naming import new_version

# CAs that validate at once are done in seconds; a publisher may wait two minutes for its record to be seen.
_PATIENCE: Final = 240.0
_LONGEST_PAUSE: Final = 10.0

# A CA that stumbles is asked again, as it is in earnest.
_RETRIES: Final = 3
_RETRY_PAUSE: Final = 5.0


class _Memory:
    """What the issuer remembers, until the end of the run."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> bytes | None:
        return self._kept.get(name)

    def save(self, name: str, value: bytes) -> bytes:
        with self._lock:
            return self._kept.setdefault(name, value)

    def swap(self, name: str, old: bytes, new: bytes) -> bool:
        with self._lock:
            if self._kept.get(name) != old:
                return False
            self._kept[name] = new
            return True


class _Journal:
    """A journal that nobody will need."""

    def __init__(self) -> None:
        self._intended: dict[str, Mapping[str, str]] = {}
        self._recorded: dict[str, Mapping[str, str]] = {}

    def intend(self, step: str, **about: str) -> None:
        self._intended[step] = about

    def record(self, step: str, **reply: str) -> None:
        self._recorded[step] = reply

    def intended(self, step: str) -> Mapping[str, str] | None:
        return self._intended.get(step)

    def recorded(self, step: str) -> Mapping[str, str] | None:
        return self._recorded.get(step)


class Rehearsals:
    """Makes dry runs. Each takes minutes at most."""

    def __init__(
        self, issuers: Issuers, keystore: KeyStore, clock: Clock, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._issuers = issuers
        self._keystore = keystore
        self._clock = clock
        self._sleep = sleep

    def check(self, vault: Vault, issuer: str, directory: str | None) -> None:
        """Raise Invalid or NotFound where there can be no dry run of the issuer."""
        self._issuers.rehearsal(vault, issuer, directory)

    def run(self, vault: Vault, issuer: str, directory: str | None, policy: CertificatePolicy) -> Checked:
        """Have a certificate made by this policy at a staging CA, and throw it away. Raises nothing of the issuer's."""
        what = f"dry run for {', '.join(policy.sans.dns_names[:3])}"
        began = time.monotonic()
        try:
            opened = self._issuers.open_for_rehearsal(vault, issuer, directory, _Memory())
            chain = self._obtain(opened, replace(policy, issuer=issuer))
        except BrokerError as error:
            return fail(what, error.message)
        except IssuerUnavailable as error:
            return fail(what, error.problem.message)
        leaf = chains.parse(chain)[0]
        took = time.monotonic() - began
        return ok(what, f"{leaf.issuer.rfc4514_string()} issued it in {took:.0f} s; it was thrown away.")

    def _obtain(self, issuer: Issuer, policy: CertificatePolicy) -> tuple[bytes, ...]:
        key = self._keystore.generate(policy.key)
        request = IssuanceRequest(f"dry-run-{new_version()}", build_csr(policy, key), policy, key)
        journal = _Journal()
        try:
            return self._advance(issuer, request, journal)
        finally:
            if isinstance(issuer, Abandons):
                with contextlib.suppress(IssuerUnavailable, BrokerError):
                    issuer.abandon(request, journal)
            if isinstance(issuer, HasAccount):
                with contextlib.suppress(IssuerUnavailable, BrokerError):
                    issuer.deactivate()

    def _advance(self, issuer: Issuer, request: IssuanceRequest, journal: _Journal) -> tuple[bytes, ...]:
        end = time.monotonic() + _PATIENCE
        failures = 0
        while True:
            try:
                reply = issuer.advance(request, journal)
            except IssuerUnavailable:
                failures += 1
                if failures > _RETRIES or time.monotonic() > end:
                    raise
                self._sleep(_RETRY_PAUSE)
                continue
            match reply:
                case CertificateIssued(chain):
                    leaf = chains.path_of(chains.parse(chain), request.key.public_key())[0]
                    chains.check_issued(leaf, self._clock.now())
                    return chain
                case RequestRefused(problem):
                    raise Invalid(problem.message)
                case StillWaiting(pause, detail):
                    if time.monotonic() + pause.total_seconds() > end:
                        raise Invalid(f"It was not issued within {_PATIENCE:.0f} seconds. {detail}")
                    self._sleep(min(pause.total_seconds(), _LONGEST_PAUSE))
