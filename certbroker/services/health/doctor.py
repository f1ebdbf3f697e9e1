"""A look at everything that the broker depends on, from where the broker is: its network, its egress policy, its clock.

A checkup runs in the background, with a limit for each check, so that one that hangs delays no other; who asked for it
comes back for what has been found.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

from certbroker.domain.checkup import Checked, fail, ok, warn
from certbroker.domain.errors import BrokerError, Conflict, Invalid, NotFound, Unavailable
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Vault
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames, is_address, is_dns_name
from certbroker.domain.revocation_sources import SourceStatus
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress, EgressFailed, EgressRefused
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.ports.notifier import NotDelivered
from certbroker.services.health.readiness import Readiness
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.issuers.rehearsals import Rehearsals
from certbroker.services.objects.naming import new_version
from certbroker.services.seal_rotation import SealRotation
from certbroker.store.database import SQLiteStore

# Limits in seconds: for one check, for one that waits for DNS to change or for a CA, and for SQLite's own.
_CHECK: Final = 30.0
_LONG_CHECK: Final = 270.0
_DATABASE: Final = 20.0

_THREADS: Final = 8
_AT_ONCE: Final = 2
_REMEMBERED: Final = 16
_MOST_NAMES: Final = 20
_MOST_ISSUERS: Final = 20
_MOST_SOURCES: Final = 5

_SKEW_WARN: Final = 5.0
_SKEW_FAIL: Final = 60.0
_MEGABYTE: Final = 1 << 20
_LARGE_LOG: Final = 256 * _MEGABYTE
_LITTLE_DISK: Final = 512 * _MEGABYTE

Check = Callable[[], Iterable[Checked]]
_log = structlog.get_logger("certbroker.doctor")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at besides the broker itself: all issuers or one, names, and whether to try a staging CA."""

    issuer: str | None = None
    vault: str | None = None
    names: tuple[str, ...] = ()
    dry_run: bool = False
    directory: str | None = None


@dataclass(slots=True)
class Checkup:
    """What has been found so far."""

    id: str
    found: list[Checked] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """An issuer and its vault."""

    vault: Vault
    name: str


class Doctor:
    """Makes checkups; nothing is changed by one. `mail` signs in at the mail server; `reach` may speak plain HTTP."""

    def __init__(
        self,
        store: SQLiteStore,
        clock: Clock,
        issuers: Issuers,
        rotation: SealRotation,
        readiness: Readiness,
        rehearsals: Rehearsals,
        egress: Egress,
        reach: Egress,
        mail: Callable[[], None] | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._issuers = issuers
        self._rotation = rotation
        self._readiness = readiness
        self._rehearsals = rehearsals
        self._egress = egress
        self._reach = reach
        self._mail = mail
        self._lock = threading.Lock()
        self._checkups: OrderedDict[str, Checkup] = OrderedDict()

    def start(self, wanted: Wanted) -> Checkup:
        """Begin a checkup. Raises Invalid, NotFound, and Conflict while others run."""
        checks = self._checks(wanted)
        checkup = Checkup(new_version())
        with self._lock:
            if sum(not each.done for each in self._checkups.values()) >= _AT_ONCE:
                raise Conflict("Other checkups are under way: wait until they are done.")
            self._checkups[checkup.id] = checkup
            while len(self._checkups) > _REMEMBERED:
                self._checkups.popitem(last=False)
        threading.Thread(target=_run, args=(checkup, checks), name="doctor", daemon=True).start()
        return checkup

    def seen(self, checkup_id: str) -> Checkup:
        """What a checkup has found so far. Raises NotFound."""
        with self._lock:
            checkup = self._checkups.get(checkup_id)
        if checkup is None:
            raise NotFound("checkup", "Checkup not found: it was long ago, or before the last start.")
        return checkup

    def _checks(self, wanted: Wanted) -> list[tuple[str, Check, float]]:
        """The checks with their labels and limits. Raises Invalid, NotFound."""
        for name in wanted.names:
            if not is_dns_name(name) and not is_address(name):
                raise Invalid(f"{name[:100]!r} is no host name and no address.")
        if len(wanted.names) > _MOST_NAMES:
            raise Invalid(f"More than {_MOST_NAMES} names are too many for one checkup.")
        places = self._places(wanted)
        checks: list[tuple[str, Check, float]] = [
            ("engine", self._engine, _CHECK),
            ("database", self._database, _CHECK),
            ("seal", self._seal, _CHECK),
            ("mail", self._mail_server, _CHECK),
            ("revocation", self._revocation, _CHECK),
        ]
        checks += [(f"issuer {place.name}", self._issuer_check(place), _CHECK) for place in places]
        checks += [(f"DNS of {name}", self._resolving(name), _CHECK) for name in wanted.names]
        if wanted.issuer is not None:
            (place,) = places
            checks += [(f"proof for {name}", self._proof(place, name), _LONG_CHECK) for name in wanted.names]
            if wanted.dry_run:
                checks.append(("dry run", self._dry_run(place, wanted), _LONG_CHECK))
        elif wanted.dry_run:
            raise Invalid("A dry run needs an issuer: name it by --issuer.")
        return checks

    def _places(self, wanted: Wanted) -> list[_Place]:
        with self._store.read() as transaction:
            vaults = {vault.id: vault for vault in transaction.vaults.listing()}
            judged = transaction.issuers.judged(1000)
        found = [_Place(vaults[each.vault_id], each.name) for each in judged if each.vault_id in vaults]
        if wanted.vault is not None:
            found = [each for each in found if each.vault.name.lower() == wanted.vault.lower()]
        if wanted.issuer is None:
            return found[:_MOST_ISSUERS]
        found = [each for each in found if each.name.lower() == wanted.issuer.lower()]
        if not found:
            raise NotFound("issuer", f"Issuer not found: there is no issuer named {wanted.issuer[:64]}.")
        if len(found) > 1:
            names = ", ".join(each.vault.name for each in found[:5])
            raise Invalid(f"Several vaults have an issuer of that name: {names}. Say which, by --vault.")
        return found

    def _engine(self) -> Iterable[Checked]:
        reasons = self._readiness.reasons()
        if not reasons:
            yield ok("engine", "Every part has come round of late.")
        for reason in reasons:
            yield fail("engine", reason, "See the log; a restart does no harm.")

    def _revocation(self) -> Iterable[Checked]:
        """Whether those who say if certificates are revoked can be asked."""
        stale = self._store.glance().sources.unwell(SourceStatus.STALE, _MOST_SOURCES)
        if not stale:
            yield ok("revocation", "All that is asked whether certificates are revoked has said what holds.")
        for source in stale:
            advice = "See certbroker revocation sources: until it answers, what it would revoke is not noticed."
            yield warn("revocation", f"{source.url} cannot be used. {source.holding.problem}", advice)

    def _database(self) -> Iterable[Checked]:
        try:
            problem = self._store.quick_check(_DATABASE)
            size, log = self._store.sizes()
            free = self._readiness.disk_free()
        except (OSError, sqlite3.Error) as error:
            yield fail("database", f"It cannot be looked at: {error}.", "Check the disk.")
            return
        if problem is None:
            yield warn("database", f"{size // _MEGABYTE} MB are too much to be checked in {_DATABASE:.0f} seconds.")
        elif problem:
            yield fail("database", f"SQLite finds it damaged: {problem[:300]}", "Restore a backup, and keep this one.")
        else:
            yield ok("database", f"SQLite finds its {size // _MEGABYTE} MB in order.")
        if log > _LARGE_LOG:
            yield warn("write-ahead log", f"It has {log // _MEGABYTE} MB.", "A restart empties it.")
        shown = f"{free // _MEGABYTE} MB are free."
        yield warn("disk", shown, "Make room.") if free < _LITTLE_DISK else ok("disk", shown)

    def _seal(self) -> Iterable[Checked]:
        status = self._rotation.status()
        yield ok("seal", f"Open, by the key {status.seal_key}; {status.keys} key-encryption keys.")

    def _mail_server(self) -> Iterable[Checked]:
        if self._mail is None:
            yield ok("mail", "There is no [mail], so contacts are told by no mail.")
            return
        try:
            self._mail()
        except NotDelivered as failure:
            yield fail("mail", failure.reason, "Correct the section [mail].")
            return
        yield ok("mail", "The mail server was reached, and took our credentials. No mail was sent.")

    def _issuer_check(self, place: _Place) -> Check:
        def check() -> Iterable[Checked]:
            what = f"issuer {place.name} of {place.vault.name}"
            kind = self._issuers.kind(place.vault.id, place.name)
            if kind.local or kind.manual:
                yield from self._issuers.checkup(place.vault, place.name, what)
                return
            self._issuers.open(place.vault.id, place.name)
            try:
                account = self._issuers.account(place.vault, place.name)
            except Invalid:
                yield ok(what, "Its settings hold; it has no account that could be looked at.")
                return
            except Unavailable as error:
                yield fail(what, error.message, "Check the network and the [egress] section.")
                return
            if account.account is None:
                yield ok(what, f"{account.directory} answers; the first order makes the account.")
            elif account.status == "valid":
                yield ok(what, f"{account.directory} answers, and knows the account.")
            else:
                yield fail(what, f"The CA says that the account is {account.status}.", "The next order makes another.")
            yield from self._clock_by(account.directory)

        return check

    def _clock_by(self, directory: str) -> Iterable[Checked]:
        """Our clock against the CA's (RFC 9110 section 6.6.1)."""
        before = self._clock.now()
        try:
            said = self._egress.request("GET", directory, timeout=10).headers.get("date", "")
            theirs = parsedate_to_datetime(said)
        except (EgressFailed, EgressRefused, ValueError):
            return
        if theirs.tzinfo is None:
            return
        yield _skew(before, theirs, self._clock.now(), directory)

    def _resolving(self, name: str) -> Check:
        def check() -> Iterable[Checked]:
            what, host = f"DNS of {name}", name.removeprefix("*.")
            if is_address(name):
                return
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError as error:
                yield warn(what, f"{host} has no address here: {error.strerror}.", "http-01 and tls-alpn-01 need one.")
                return
            yield ok(what, f"{host} is {', '.join(sorted({str(each[4][0]) for each in found})[:8])} from here.")

        return check

    def _proof(self, place: _Place, name: str) -> Check:
        return lambda: self._issuers.examine(place.vault, place.name, name, self._reach)

    def _dry_run(self, place: _Place, wanted: Wanted) -> Check:
        if not wanted.names:
            raise Invalid("A dry run needs names to ask for: give --name.")
        self._rehearsals.check(place.vault, place.name, wanted.directory)
        sans = SubjectAlternativeNames(dns_names=wanted.names)
        policy = CertificatePolicy(KeySpec("EC"), subject="", sans=sans, issuer=place.name)
        return lambda: [self._rehearsals.run(place.vault, place.name, wanted.directory, policy)]


def _skew(before: datetime, theirs: datetime, after: datetime, directory: str) -> Checked:
    # The Date header is cut to whole seconds, and says a moment between the question and the answer.
    ahead = max((before - theirs).total_seconds() - 1, (theirs - after).total_seconds(), 0.0)
    detail = f"It differs by {ahead:.0f} seconds from that of {directory}."
    if ahead >= _SKEW_FAIL:
        return fail("clock", detail, "Let the machine keep its time by NTP: certificates and orders are judged by it.")
    return warn("clock", detail, "Check that NTP works.") if ahead >= _SKEW_WARN else ok("clock", detail)


def _run(checkup: Checkup, checks: list[tuple[str, Check, float]]) -> None:
    """Run all checks, each within its limit; what hangs is left alone, and told."""
    pool = ThreadPoolExecutor(_THREADS, "doctor")
    try:
        running: dict[Future[None], tuple[str, float]] = {}
        for label, check, limit in checks:
            running[pool.submit(_check, checkup, label, check)] = (label, limit)
        for limit in sorted({limit for _, limit in running.values()}):
            wait([future for future, (_, own) in running.items() if own == limit], timeout=limit)
        for future, (label, limit) in running.items():
            if not future.done():
                checkup.found.append(fail(label, f"It was not done within {limit:.0f} seconds."))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        checkup.done = True


def _check(checkup: Checkup, label: str, check: Check) -> None:
    try:
        for each in check():
            checkup.found.append(each)
    except BrokerError as error:
        checkup.found.append(fail(label, error.message))
    except IssuerUnavailable as error:
        checkup.found.append(fail(label, error.problem.message))
    except Exception as error:
        _log.exception("a check failed unexpectedly", check=label)
        checkup.found.append(fail(label, f"{type(error).__name__}; the log has the details."))
