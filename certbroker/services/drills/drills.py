"""Drills: how the replacement of everything from one issuer would go, and having it done.

All of it is in the database, so that it goes on after a crash: a plan from its beginning, replacements where they were.
The broker renews as it always does, by wishes: budgets, breaker and the order of what is urgent hold for them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.audit import Caller, engine_caller, record
from certbroker.domain.drill import (
    AT_ONCE,
    LONG_DEADLINE,
    MOST_AT_ONCE,
    SHORT_DEADLINE,
    Drill,
    Fate,
    Progress,
    Replacement,
    Stage,
)
from certbroker.domain.errors import Conflict, Invalid, NotFound
from certbroker.domain.objects import Kind, Page, Vault
from certbroker.domain.one_line import one_line
from certbroker.domain.renewal import Trigger, Wish
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.services.drills.plan import Planner
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.issuers.issuers import Issuers
from certbroker.services.objects.listings import decode, page
from certbroker.services.objects.naming import new_version
from certbroker.services.renewal.renewals import Renewals
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

LEASE: Final = timedelta(minutes=5)
_PAUSE: Final = timedelta(seconds=1)
_LONG_PAUSE: Final = timedelta(seconds=30)
_PAGE: Final = 100

# So many wishes in one commit: who wants to write meanwhile waits for them.
_TOGETHER: Final = 25

# One that has been in the making for so long does not keep the next from its turn.
_PATIENCE: Final = timedelta(hours=1)
_MOST_OPEN: Final = 20
_LISTED: Final = 100
_KEPT_FOR: Final = timedelta(days=90)
_MOST_REASON: Final = 500

_log = structlog.get_logger("certbroker.drills")


@dataclass(frozen=True, slots=True)
class DrillWish:
    """What a caller wants."""

    issuer: str
    perform: bool = False
    reason: str = ""
    new_key: bool = False
    batch: int = AT_ONCE


@dataclass(frozen=True, slots=True)
class DrillReport:
    """A drill, how far it is, and the first of those that need a person."""

    drill: Drill
    progress: Progress
    persons: tuple[Replacement, ...] = ()


class Drills:
    """Plans drills and performs them."""

    def __init__(self, store: SQLiteStore, issuers: Issuers, renewals: Renewals, clock: Clock, inbox: Inbox) -> None:
        self._store = store
        self._issuers = issuers
        self._renewals = renewals
        self._clock = clock
        self._inbox = inbox
        self._planners: dict[str, Planner] = {}

    def start(self, caller: Caller, vault: Vault | None, wish: DrillWish) -> DrillReport:
        """Begin a drill of one vault, or of all. The engine does the rest. Raises Invalid, NotFound, Conflict."""
        if not 1 <= wish.batch <= MOST_AT_ONCE:
            raise Invalid(f"batch is between 1 and {MOST_AT_ONCE}: so many may be in the making at the same time.")
        if not wish.issuer:
            raise Invalid("issuer is missing: name the one whose certificates are to be replaced.")
        now = self._clock.now()
        drill = Drill(
            new_version(),
            None if vault is None else vault.id,
            wish.issuer.lower(),
            wish.perform,
            one_line(wish.reason, _MOST_REASON),
            wish.new_key,
            wish.batch,
            Stage.PLANNING,
            now,
            act_at=now,
        )

        def work(transaction: SQLTransaction) -> None:
            if not transaction.lifecycles.of_issuer(drill.issuer, drill.vault_id, (-1, ""), 1):
                where = "here" if vault is None else "in this vault"
                raise NotFound("issuer", f"No certificate {where} was made by an issuer named {wish.issuer[:64]}.")
            unfinished = transaction.drills.unfinished(_MOST_OPEN)
            if len(unfinished) >= _MOST_OPEN:
                raise Conflict(f"{_MOST_OPEN} drills are under way already: wait for one, or stop it.")
            other = next((each for each in unfinished if _overlaps(each, drill)), None)
            if other is not None and drill.perform:
                raise Conflict(
                    f"The drill {other.id} replaces certificates of this issuer already: see how it goes on."
                )
            transaction.drills.add(drill)
            transaction.audit(record(caller, now, f"/drills/{drill.id}", status=202))

        self._store.write(work)
        return DrillReport(drill, Progress({}))

    def report(self, vault: Vault | None, drill_id: str) -> DrillReport:
        """How a drill stands. Raises NotFound."""
        with self._store.read() as transaction:
            drill = _found(transaction, vault, drill_id)
            persons = transaction.drills.of_fate(drill.id, Fate.PERSON, _LISTED)
            return DrillReport(drill, transaction.drills.progress(drill), tuple(persons))

    def listing(self, vault: Vault | None) -> list[Drill]:
        """The newest drills, first."""
        return self._store.glance().drills.listing(None if vault is None else vault.id, _LISTED)

    def members(self, vault: Vault | None, drill_id: str, which: str, after: str, size: int) -> Page[Replacement]:
        """Certificates of a drill: all, those of one fate, or those that come `late`: after 24 hours.

        Raises NotFound, Invalid.
        """
        words = {"", "late", *Fate}
        if which not in words:
            raise Invalid(f"state is one of {', '.join(sorted(words - {''}))}.")
        position = _position(decode(after))
        with self._store.read() as transaction:
            drill = _found(transaction, vault, drill_id)
            if which in ("", "late"):
                later = drill.started + SHORT_DEADLINE if which else None
                rows = transaction.drills.members(drill.id, size + 1, position, later)
            else:
                rows = transaction.drills.of_fate(drill.id, Fate(which), size + 1, position)
        return page(rows, size, lambda each: f"{each.vault_id}/{each.name.lower()}")

    def stop(self, caller: Caller, vault: Vault | None, drill_id: str) -> DrillReport:
        """Ask for nothing more; what has been asked for goes on. Safe to repeat. Raises NotFound."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            drill = _found(transaction, vault, drill_id)
            transaction.drills.stop(drill.id, now)
            transaction.audit(record(caller, now, f"/drills/{drill.id}/stop"))

        self._store.write(work)
        self._planners.pop(drill_id, None)
        return self.report(vault, drill_id)

    def claim(self, count: int) -> list[Drill]:
        """Take what is due; nobody else works on it before the lease is over."""
        now = self._clock.now()
        if not self._store.glance().drills.has_due(now):
            return []
        return self._store.write(lambda transaction: transaction.drills.claim(now, now + LEASE, count))

    def work(self, drill: Drill, go_on: Callable[[], bool]) -> None:
        """Go on with a drill that was claimed, for as long as `go_on` says."""
        if drill.stage is Stage.PLANNING:
            self._plan(drill, go_on)
        else:
            self._replace(drill)

    def forget_old(self) -> None:
        """Forget drills that have been over for long, a part at a time."""
        before = self._clock.now() - _KEPT_FOR
        for drill_id in self._store.glance().drills.old(before, _MOST_OPEN):
            self._store.write(partial(_forget, drill_id=drill_id))

    def _plan(self, drill: Drill, go_on: Callable[[], bool]) -> None:
        planner = self._planners.get(drill.id)
        if planner is None:
            planner = self._planners[drill.id] = Planner(drill, self._issuers, self._clock.now())
        while go_on():
            with self._store.read() as transaction:
                cares = transaction.lifecycles.of_issuer(drill.issuer, drill.vault_id, planner.after, _PAGE)
                seen = [planner.see(transaction, look) for look in self._renewals.look(cares)]
            found = [each for each in seen if each is not None]
            failpoint("drill.plan.before")
            self._store.write(partial(_put, drill_id=drill.id, found=found))
            if len(cares) < _PAGE:
                return self._planned(drill, planner)
            planner.after = (cares[-1].vault_id, cares[-1].name)
        self._keep(drill, drill.stage, self._clock.now())
        return None

    def _planned(self, drill: Drill, planner: Planner) -> None:
        self._planners.pop(drill.id, None)
        with self._store.read() as transaction:
            plan = planner.plan(transaction)
        now = self._clock.now()
        stage = Stage.REPLACING if drill.perform else Stage.PLANNED
        self._keep(replace(drill, plan=plan, planned=now), stage, now)

    def _replace(self, drill: Drill) -> None:
        """See what has become of those in the making, and ask for as many more as there is room for."""
        now = self._clock.now()
        drills = self._store.glance().drills
        self._store.write(lambda transaction: transaction.drills.settle(drill.id, now))
        room = drill.batch - drills.count(drill.id, Fate.ASKED, since=now - _PATIENCE)
        for _ in range(0, room, _TOGETHER):
            ready = drills.of_fate(drill.id, Fate.READY, min(room, _TOGETHER))
            room -= _TOGETHER
            failpoint("drill.ask.before")
            self._store.write_all([self._asking(drill, each, now) for each in ready])
            failpoint("drill.ask.after")
        moving, failing = drills.count(drill.id, Fate.READY, Fate.ASKED), drills.count(drill.id, Fate.FAILING)
        over = not moving + failing or now >= (drill.planned or drill.started) + LONG_DEADLINE
        self._keep(drill, Stage.DONE if over else drill.stage, now, _PAUSE if moving else _LONG_PAUSE)

    def _asking(self, drill: Drill, wanted: Replacement, now: datetime) -> Callable[[SQLTransaction], None]:
        """Put a wish on a certificate, unless another version has taken its place."""

        def work(transaction: SQLTransaction) -> None:
            care = transaction.lifecycles.get(wanted.vault_id, wanted.name)
            current = transaction.objects.get(wanted.vault_id, Kind.CERTIFICATE, wanted.name)
            if care is None or current is None:
                return transaction.drills.turn(drill.id, wanted, Fate.PERSON, "It was deleted meanwhile.", now)
            if current.version != wanted.version:
                return transaction.drills.turn(drill.id, wanted, Fate.REPLACED, "", now)
            reason = f"All certificates of the issuer {drill.issuer} are replaced. {drill.reason}".rstrip()
            wish = Wish(Trigger.INCIDENT, reason, current.version, drill.new_key)
            before = care.lifecycle.wish
            if before is None or before.version != current.version:
                lifecycle = replace(care.lifecycle, wish=wish, setback=None)
                transaction.lifecycles.rewrite(replace(care, lifecycle=lifecycle), now)
            transaction.drills.turn(drill.id, wanted, Fate.ASKED, "", now)
            caller = engine_caller("DrillReplace", str(wanted.vault_id), drill.id)
            transaction.audit(record(caller, now, f"/certificates/{wanted.name}"))
            return None

        return work

    def _keep(self, drill: Drill, stage: Stage, now: datetime, pause: timedelta = timedelta(0)) -> None:
        """Write how far it is, and give the lease back for the next time, after the pause."""
        over = stage.is_over
        act_at = None if over else now + pause
        after = replace(drill, stage=stage, ended=now if over else None, act_at=act_at)
        if not self._store.write(lambda transaction: transaction.drills.save(after)):
            self._planners.pop(drill.id, None)
        elif over:
            _log.info("drill is over", drill=drill.id, issuer=drill.issuer, stage=str(stage))
            self._inbox.wake()


def _put(transaction: SQLTransaction, drill_id: str, found: list[Replacement]) -> None:
    for each in found:
        transaction.drills.put(drill_id, each)


def _forget(transaction: SQLTransaction, drill_id: str) -> None:
    transaction.drills.forget(drill_id, 10 * _PAGE)


def _overlaps(one: Drill, other: Drill) -> bool:
    same = one.vault_id is None or other.vault_id is None or one.vault_id == other.vault_id
    return one.perform and same and one.issuer == other.issuer


def _found(transaction: SQLTransaction, vault: Vault | None, drill_id: str) -> Drill:
    drill = transaction.drills.get(drill_id)
    if drill is None or (vault is not None and drill.vault_id != vault.id):
        raise NotFound("drill", f"There is no drill {drill_id[:64]} here.")
    return drill


def _position(token: str) -> tuple[int, str]:
    vault, _, name = token.partition("/")
    return (int(vault), name) if vault.isascii() and vault.isdigit() else (-1, "")
