"""What discovery does by itself: a scan of servers, questions to CT monitors, and a comparison with the vaults.

Each is a task in the database with a cursor, goes on after a crash, and has a thread of its own in the engine.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import structlog
from msgspec.structs import replace

from certbroker.domain.discovery import Sighting, Standing, Target, seen_at
from certbroker.domain.endpoints import starttls_at
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Kind
from certbroker.domain.one_line import one_line
from certbroker.domain.policy import is_address, is_dns_name
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress
from certbroker.ports.probe import IPAddress, NotPresented, Probe
from certbroker.services.discovery.discoveries import INVENTORY, SCAN, DiscoveryPlan, name_for, trim
from certbroker.services.discovery.monitors import TROUBLE, ask
from certbroker.services.issuers.registered_domains import registered_domain
from certbroker.services.notification.outbox import publish
from certbroker.store.database import SQLiteStore
from certbroker.store.discovery import Task, Unjudged
from certbroker.store.transaction import SQLTransaction

# Longer than the longest piece of work: two hundred looks that all hang, sixteen at a time; or a walk over a million
# certificates.
LEASE: Final = timedelta(minutes=30)

_THREADS: Final = 16
_LOOK_SECONDS: Final = 10.0
_ADDRESSES: Final = 4
_CHUNK_SECONDS: Final = 10.0
_LARGEST_CHUNK: Final = 200

_CT_PAUSE: Final = timedelta(seconds=5)

# Times in a row that a monitor may be overloaded by one domain before the next one has its turn.
_CT_TRIES: Final = 3

# What is new is compared with the vaults so often. A CT log has a certificate before its subscriber has it, and
# certificates begin up to an hour before they are made.
_COMPARE: Final = timedelta(minutes=15)
_SETTLED: Final = timedelta(hours=2)
_PAGE: Final = 500
_TOGETHER: Final = 50
_VAULTS_TOLD: Final = 20
_MOST_DOMAINS: Final = 10_000

T = TypeVar("T")

_log = structlog.get_logger("certbroker.discovery")


class DiscoveryTasks:
    """Claims tasks and goes on with them."""

    def __init__(self, store: SQLiteStore, clock: Clock, probe: Probe, egress: Egress, plan: DiscoveryPlan) -> None:
        self._store = store
        self._clock = clock
        self._probe = probe
        self._egress = egress
        self._plan = plan
        self._stopping = threading.Event()
        targets = "\n".join(target.place for target in plan.targets)
        self._digest = hashlib.sha256(targets.encode()).hexdigest()[:16]

    @property
    def wanted(self) -> tuple[str, ...]:
        return self._plan.tasks

    def prepare(self) -> None:
        """Have the tasks that the configuration asks for, and no others."""
        now = self._clock.now()
        there = [task.id for task in self._store.glance().discovery.tasks()]
        if sorted(there) == sorted(self._plan.tasks):
            return

        def work(transaction: SQLTransaction) -> None:
            for task in self._plan.tasks:
                transaction.discovery.ensure(task, now)
            for task in set(there) - set(self._plan.tasks):
                transaction.discovery.retire(task)

        self._store.write(work)

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def due(self) -> list[str]:
        """The tasks that could be claimed now."""
        return self._store.glance().discovery.due(self._clock.now()) if self._plan.tasks else []

    def work(self, task_id: str) -> None:
        """Go on with a task, if nobody else does, by one piece of work. Raises nothing."""
        now = self._clock.now()
        task = self._store.write(lambda transaction: transaction.discovery.claim(task_id, now, LEASE))
        if task is None:
            return
        if task.began is None or not task.position:
            task = replace(task, began=now, found=0)
        try:
            if task.id == SCAN:
                self._scan(task)
            elif task.id == INVENTORY:
                self._compare(task, now)
            else:
                self._ask(task, task.id.partition(" ")[2])
        except Exception as error:
            _log.exception("discovery could not go on", task=task.id)
            after = replace(task, act_at=self._clock.now() + TROUBLE, problem=one_line(f"{error!r}", 300))
            self._store.write(lambda transaction: transaction.discovery.save(after))

    # The scan.

    def _scan(self, task: Task) -> None:
        """Look at the next places."""
        digest, _, position = task.position.partition(" ")
        first = int(position) if digest == self._digest and position.isdigit() else 0
        count = max(1, min(_LARGEST_CHUNK, round(self._plan.rate * _CHUNK_SECONDS)))
        chunk = self._plan.targets[first : first + count]
        failpoint("discovery.scan.before")
        # Several addresses of one host mostly show the same.
        seen = list({(each.id, each.places): each for each in self._looks(chunk)}.values())
        self._note(seen)
        failpoint("discovery.scan.after")
        if self._stopping.is_set():
            return  # What was not looked at is, after the next start.
        now, after = self._clock.now(), first + len(chunk)
        task = replace(task, found=task.found + len(seen), problem="")
        if after < len(self._plan.targets):
            self._save(replace(task, position=f"{self._digest} {after}", act_at=now))
        else:
            self._over(task, now)

    def _looks(self, chunk: tuple[Target, ...]) -> Iterator[Sighting]:
        """Look at so many, no more in a second than allowed. One that hangs takes a thread for ten seconds."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="scan") as threads:
            looks: list[Future[list[Sighting]]] = []
            begun = time.monotonic()
            for number, target in enumerate(chunk):
                if self._stopping.wait(max(0.0, begun + number / self._plan.rate - time.monotonic())):
                    break
                looks.append(threads.submit(self._look, target))
            for look in looks:
                yield from look.result()

    def _look(self, target: Target) -> list[Sighting]:
        """What the addresses of a place show: the first few, and all of them together in the time that one has."""
        end, found = time.monotonic() + _LOOK_SECONDS, []
        try:
            for address in self._probe.addresses(target.host, target.port)[:_ADDRESSES]:
                left = end - time.monotonic()
                if left <= 0:
                    break
                seen = self._look_at(address, target, left)
                if seen is not None:
                    found.append(seen)
        except NotPresented as error:
            _log.debug("nothing was seen", place=target.place, reason=error.message)
        except Exception:
            _log.exception("a place could not be looked at", place=target.place)
        return found

    def _look_at(self, address: IPAddress, target: Target, seconds: float) -> Sighting | None:
        name, starttls = None if is_address(target.host) else target.host, starttls_at(target.port)
        try:
            shown = self._probe.look(address, target.port, name, starttls=starttls, timeout=seconds)
            return seen_at(shown.chain[0], target.place, self._clock.now())
        except NotPresented as error:
            _log.debug("nothing was seen", place=target.place, address=str(address), reason=error.message)
        except ValueError as error:
            _log.info("a certificate cannot be read", place=target.place, reason=str(error))
        return None

    # CT monitors.

    def _ask(self, task: Task, monitor: str) -> None:
        """Ask for the next domain that certificates of ours have names in.

        The position is the domain before it, and how often the monitor was overloaded since.
        """
        after, _, times = task.position.partition(" ")
        domains = self._store.glance().discovery.domains(after, 1)
        if not domains:
            return self._over(task, self._clock.now())
        domain, problem, seen = domains[0], "", 0
        overloads = 1 + int(times or 0)
        for query in (domain, f"%.{domain}"):
            failpoint("discovery.ask.before")
            answer = ask(self._egress, monitor, query, self._clock)
            if answer.retry_at is not None:
                return self._save(replace(task, act_at=answer.retry_at, problem=answer.problem))
            if answer.overloaded and overloads < _CT_TRIES:
                again = self._clock.now() + TROUBLE
                position = f"{after} {overloads}"
                return self._save(replace(task, position=position, act_at=again, problem=answer.problem))
            problem = problem or answer.problem
            named = [each for each in answer.found if any(is_below(name, domain) for name in each.names)]
            self._note(named)
            seen += len(named)
            failpoint("discovery.ask.after")
        now = self._clock.now()
        return self._save(
            replace(task, position=domain, act_at=now + _CT_PAUSE, problem=problem, found=task.found + seen)
        )

    # The comparison.

    def _compare(self, task: Task, now: datetime) -> None:
        """See which of the new ones a vault has, and which domains to watch for."""
        discovery = self._store.glance().discovery
        if task.succeeded is None or now - task.succeeded >= self._plan.every:
            self._find_domains(now)
            task = replace(task, succeeded=now)
        new = discovery.unjudged(Standing.NEW)
        if new:
            wanted = [*new, *discovery.unjudged(Standing.UNKNOWN)]
            known = self._known(wanted)
            unknown = [each for each in new if each.id not in known and _is_settled(each, now)]
            failpoint("discovery.compare.before")
            self._judge(known, [each.id for each in unknown], now)
            failpoint("discovery.compare.after")
        self._save(replace(task, position="", act_at=now + _COMPARE, problem="", found=len(new)))

    def _find_domains(self, now: datetime) -> None:
        """The registered domains of all names in policies."""
        count = 0
        for vault in self._store.glance().vaults.listing():
            after = ""
            while page := self._store.glance().discovery.policies(vault.id, after, _PAGE):
                after = page[-1][0]
                names = {name for _, policy in page for name in policy.sans.dns_names}
                # Names such as `localhost` are in nobody's log.
                domains = {registered_domain(name.lower()) for name in names if "." in name and is_dns_name(name)}
                count += len(domains)
                if count > _MOST_DOMAINS:
                    _log.warning("too many domains to watch for", most=_MOST_DOMAINS)
                    break
                self._store.write(_managing(vault.id, domains, now))
        self._store.write(lambda transaction: transaction.discovery.forget_domains(now))

    def _known(self, wanted: list[Unjudged]) -> dict[str, tuple[int, str, str]]:
        """Which of them is a version of a certificate in a vault, and which."""
        by_sha256 = {each.sha256: each.id for each in wanted if each.sha256}
        by_serial = {each.serial: each.id for each in wanted if not each.sha256}
        found: dict[str, tuple[int, str, str]] = {}
        for vault in self._store.glance().vaults.listing():
            after = ("", "")
            while page := self._store.glance().discovery.versions(vault.id, after, _PAGE):
                after = page[-1][:2]
                for name, version, facts in page:
                    sighting = by_sha256.get(facts.sha256) or by_serial.get(facts.serial)
                    if sighting is not None:
                        found[sighting] = (vault.id, name, version)
        return found

    def _judge(self, known: dict[str, tuple[int, str, str]], unknown: list[str], now: datetime) -> None:
        for some in _chunks(list(known.items())):
            self._store.write(_knowing(some))
        for each in _chunks(unknown):
            self._store.write(_telling(each, now))

    # All of them.

    def _note(self, seen: list[Sighting]) -> None:
        for some in _chunks(seen):
            self._store.write(_seeing(some))

    def _over(self, task: Task, now: datetime) -> None:
        """A round is over; the next one begins when it is time, counted from the beginning of this one."""
        begin = (task.began or now) + self._plan.every
        self._save(replace(task, position="", act_at=max(begin, now + _CT_PAUSE), succeeded=now))
        self._store.write(partial(_compare_soon, now=now))

    def _save(self, task: Task) -> None:
        self._store.write(lambda transaction: transaction.discovery.save(task))


def is_below(name: str, domain: str) -> bool:
    """Whether a name is in a domain, or the domain itself."""
    return name == domain or name.endswith(f".{domain}")


def unknown_found(vault_id: int, found: Sighting, now: datetime) -> Event:
    """A certificate that no vault has; it is told once to each vault that it may concern."""
    name = name_for(found)
    kind = EventType.UNKNOWN_CERTIFICATE
    names = ", ".join(found.names[:5]) or found.subject
    return Event(
        event_id(kind, vault_id, Kind.CERTIFICATE, found.id, ""),
        kind,
        vault_id,
        Kind.CERTIFICATE,
        name,
        "",
        now,
        int(found.not_before.timestamp()),
        int(found.not_after.timestamp()),
        message=one_line(f"It is for {names}, was issued by {found.issuer} and was seen at {found.places[0]}.", 1000),
        details={"sighting": found.id, "issuer": found.issuer, "serial": found.serial, "place": found.places[0]},
    )


def _is_settled(each: Unjudged, now: datetime) -> bool:
    """Whether it has been there for so long that it would be in its vault by now."""
    return each.is_shown or each.not_before <= now - _SETTLED


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for first in range(0, len(items), _TOGETHER):
        yield items[first : first + _TOGETHER]


def _compare_soon(transaction: SQLTransaction, now: datetime) -> None:
    trim(transaction)
    transaction.discovery.hurry(now, INVENTORY)


def _seeing(seen: list[Sighting]) -> Callable[[SQLTransaction], None]:
    def work(transaction: SQLTransaction) -> None:
        for each in seen:
            transaction.discovery.see(each)

    return work


def _managing(vault_id: int, domains: set[str], now: datetime) -> Callable[[SQLTransaction], None]:
    def work(transaction: SQLTransaction) -> None:
        for domain in domains:
            transaction.discovery.manage(domain, vault_id, now)

    return work


def _knowing(known: list[tuple[str, tuple[int, str, str]]]) -> Callable[[SQLTransaction], None]:
    def work(transaction: SQLTransaction) -> None:
        for sighting, (vault_id, name, version) in known:
            transaction.discovery.judge(sighting, Standing.KNOWN, vault_id, name, version)

    return work


def _telling(unknown: list[str], now: datetime) -> Callable[[SQLTransaction], None]:
    def work(transaction: SQLTransaction) -> None:
        for sighting in unknown:
            found = transaction.discovery.get(sighting)
            if found is None or found.standing is not Standing.NEW:
                continue
            transaction.discovery.judge(sighting, Standing.UNKNOWN)
            domains = {registered_domain(name) for name in found.names if not is_address(name)}
            vaults = {vault for domain in domains for vault in transaction.discovery.vaults_of(domain, _VAULTS_TOLD)}
            publish(transaction, *(unknown_found(vault, found, now) for vault in sorted(vaults)[:_VAULTS_TOLD]))

    return work
