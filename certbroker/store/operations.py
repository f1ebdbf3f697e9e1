"""Certificate operations: the engine's work, its leases and its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import and_, bindparam, case, delete, func, literal_column, not_, or_, select, update
from sqlmodel import col

from certbroker.domain import operation as states
from certbroker.domain.errors import LeaseLost
from certbroker.domain.records import Operation
from certbroker.domain.urgency import Urgency
from certbroker.store.moments import micros, moment
from certbroker.store.objects import encode_policy
from certbroker.store.operation_rows import COLUMNS, act_at, decode_operation, encode_options, encode_state
from certbroker.store.statement import Cursor, Statement, choose, insertion
from certbroker.store.tables import JournalRow, OperationRow

_p = OperationRow
_THIS = col(_p.id) == bindparam("id")
# Written into the statement, because SQLite uses a partial index only for a condition that it can read.
_SHOWN = col(_p.pending) == literal_column("1")
_HIDDEN = col(_p.pending) == literal_column("0")
_NAMED = and_(col(_p.vault_id) == bindparam("vault"), col(_p.name) == bindparam("name"))
_GET = Statement(choose(*COLUMNS).where(_THIS))
_PENDING = Statement(choose(*COLUMNS).where(_NAMED, _SHOWN))
_UNSETTLED = Statement(choose(*COLUMNS).where(_NAMED, _SHOWN, col(_p.state).not_like(f"{states.Completed.__name__} %")))
_INSERT = insertion(_p)
_RETIRE = Statement(update(_p).where(_NAMED, _SHOWN).values(pending=0, act_at=None))


def _unless_same_payload(column: Any, parameter: str) -> Any:
    same = col(_p.payload).is_not_distinct_from(bindparam("new_payload"))
    return case((same, col(column)), else_=bindparam(parameter))


# Whoever works on it may not know yet that it has been cancelled, and would put off what has to be done at once.
_PUT_OFF = and_(
    col(_p.cancellation_requested) == 1,
    bindparam("new_finished") == 0,
    col(_p.act_at) <= func.coalesce(bindparam("new_act_at"), col(_p.act_at)),
)
_STATE = Statement(
    update(_p)
    .where(_THIS, col(_p.fence) == bindparam("owner_fence"))
    .values(
        state=bindparam("new_state"),
        act_at=case((_PUT_OFF, col(_p.act_at)), else_=bindparam("new_act_at")),
        lease_until=bindparam("new_lease"),
        # A rotation may have rewrapped the key since the operation was read: the same payload keeps its newer wrapping.
        kek=_unless_same_payload(_p.kek, "new_kek"),
        dek=_unless_same_payload(_p.dek, "new_dek"),
        payload=bindparam("new_payload"),
    )
)
_TURN = Statement(
    update(_p)
    .where(_THIS, col(_p.fence) == bindparam("owner_fence"))
    .values(issuer=bindparam("new_issuer"), options=bindparam("new_options"))
)
# The lease stays, so that nobody cleans up while somebody still acts; it is given back with what comes of that.
_CANCEL = Statement(update(_p).where(_THIS).values(cancellation_requested=1, act_at=bindparam("new_act_at")))
_DUE = and_(col(_p.act_at) <= bindparam("now"), col(_p.lease_until) <= bindparam("now"))
_PASSED_OVER = func.json_each(bindparam("passed_over")).table_valued("value")
_ISSUER = func.json_array(col(_p.vault_id), col(_p.issuer))
_CANDIDATES = Statement(
    choose(_p.id, _p.issuer, _p.vault_id)
    .where(_DUE, _ISSUER.not_in(select(_PASSED_OVER.c.value)))
    .order_by(col(_p.act_at))
    .limit(bindparam("count"))
)
_URGENT = Statement(
    choose(_p.id, _p.issuer, _p.vault_id)
    .where(col(_p.urgency) == bindparam("urgency"), _DUE, _ISSUER.not_in(select(_PASSED_OVER.c.value)))
    .order_by(col(_p.act_at))
    .limit(bindparam("count"))
)
_CLAIM = Statement(
    update(_p)
    .where(_THIS, _DUE)
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"), fence=col(_p.fence) + 1)
    .returning(*(col(column) for column in COLUMNS))
)
_ASTRAY = Statement(
    choose(_p.id)
    .where(
        col(_p.act_at).is_not(None),
        or_(col(_p.act_at) > bindparam("latest"), col(_p.lease_until) > bindparam("longest")),
    )
    .limit(bindparam("count"))
)
_BRING_FORWARD = Statement(
    update(_p).where(_THIS, col(_p.act_at).is_not(None)).values(act_at=bindparam("now"), lease_until=0)
)
# One that somebody works on is not disturbed: its next wait is reckoned by what holds then.
_HURRY = Statement(
    update(_p)
    .where(
        col(_p.act_at) > bindparam("now"),
        col(_p.vault_id) == bindparam("vault"),
        col(_p.issuer) == bindparam("issuer"),
    )
    .values(act_at=bindparam("now"))
)
_RELEASE_ALL = Statement(
    update(_p).where(col(_p.act_at).is_not(None), col(_p.lease_until) > 0).values(lease_until=0, lease_owner=None)
)
_NEXT = Statement(
    choose(_p.act_at)
    .where(col(_p.act_at).is_not(None), col(_p.lease_until) <= bindparam("now"))
    .order_by(col(_p.act_at))
    .limit(1)
)
_COUNT = Statement(
    choose(func.count()).where(
        col(_p.vault_id) == bindparam("vault"), col(_p.issuer) == bindparam("issuer"), col(_p.act_at).is_not(None)
    )
)
# Its key is known outside, so the issuer may have something to clean up.
_WITH_ISSUER = and_(col(_p.act_at).is_not(None), col(_p.payload).is_not(None))
# The fence stops whoever works on it now; its lease ends by itself, so that nobody cleans up while that one still acts.
_DISMISS = Statement(
    update(_p)
    .where(_NAMED, _SHOWN, _WITH_ISSUER)
    .values(pending=0, cancellation_requested=1, act_at=bindparam("new_act_at"), fence=col(_p.fence) + 1)
)
# Written out for the two indexes that there are.
_REMOVABLE = and_(or_(and_(_NAMED, _SHOWN), and_(_NAMED, _HIDDEN)), not_(_WITH_ISSUER))
_REMOVE = Statement(delete(_p).where(_REMOVABLE))
_FORGET_JOURNAL = Statement(
    delete(JournalRow).where(col(JournalRow.operation_id).in_(choose(col(_p.id)).where(_REMOVABLE)))
)
_RETIRED = choose(_p.id).where(_HIDDEN, col(_p.created) < bindparam("before"))
_OLD = Statement(_RETIRED.order_by(col(_p.created)).limit(bindparam("count")))
_FORGET = Statement(delete(_p).where(_THIS))
_FORGET_ENTRIES = Statement(delete(JournalRow).where(col(JournalRow.operation_id) == bindparam("id")))
_LIST = Statement(
    choose(*COLUMNS)
    .where(
        col(_p.vault_id) == bindparam("vault"),
        or_(bindparam("unfinished") == 0, col(_p.act_at).is_not(None)),
        _SHOWN,
    )
    .order_by(col(_p.created).desc())
    .limit(bindparam("count"))
)

_ENTRY = and_(col(JournalRow.operation_id) == bindparam("id"), col(JournalRow.step) == bindparam("step"))
_READ_ENTRY = Statement(choose(JournalRow.intended, JournalRow.recorded).where(_ENTRY))
_INTEND = insertion(JournalRow, replace=("intended",))
_RECORD = insertion(JournalRow, replace=("recorded",))
_OWNED = Statement(
    update(_p).where(_THIS, col(_p.fence) == bindparam("owner_fence")).values(lease_until=bindparam("until"))
)
_EXTEND = Statement(
    update(_p)
    .where(_THIS, col(_p.fence) == bindparam("owner_fence"), col(_p.lease_until) > 0)
    .values(lease_until=bindparam("until"))
)


class Due(Struct, frozen=True):
    """An operation that could be claimed now."""

    id: str
    vault_id: int
    issuer: str


class Operations:
    """Certificate operations and their journal. Times are aware datetimes in UTC."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def get(self, operation_id: str) -> Operation | None:
        row = _GET.one(self._cursor, id=operation_id)
        return None if row is None else decode_operation(row)

    def pending(self, vault: int, name: str) -> Operation | None:
        """The operation that `/pending` of this name shows."""
        row = _PENDING.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else decode_operation(row)

    def unsettled(self, vault: int, name: str) -> Operation | None:
        """The same, unless it has completed: then all that it brought is stored elsewhere."""
        row = _UNSETTLED.one(self._cursor, vault=vault, name=name.lower())
        return None if row is None else decode_operation(row)

    def listing(self, vault: int, *, unfinished: bool, count: int) -> list[Operation]:
        """The newest operations of a vault, first."""
        return [
            decode_operation(row)
            for row in _LIST.all(self._cursor, vault=vault, unfinished=int(unfinished), count=count)
        ]

    def add(
        self,
        operation: Operation,
        owner: str | None = None,
        lease_until: datetime | None = None,
        urgency: Urgency | None = None,
    ) -> None:
        """Store a new operation as the one that `/pending` shows. With an owner it is claimed already, at fence 1."""
        sealed = operation.sealed_key
        _INSERT.run(
            self._cursor,
            id=operation.id,
            vault_id=operation.vault_id,
            name=operation.name.lower(),
            display=operation.name,
            version=operation.version,
            issuer=operation.issuer.lower(),
            policy=encode_policy(operation.policy),
            state=encode_state(operation.state),
            options=encode_options(operation),
            pending=1,
            cancellation_requested=0,
            created=micros(operation.created),
            deadline=micros(operation.deadline),
            act_at=act_at(operation.state),
            lease_owner=owner,
            lease_until=0 if lease_until is None else micros(lease_until),
            fence=operation.fence,
            urgency=None if urgency is None else int(urgency),
            kek=sealed and sealed.kek,
            dek=sealed and sealed.dek,
            payload=sealed and sealed.payload,
        )

    def retire(self, vault: int, name: str) -> None:
        """Make room for a new operation of the name: `/pending` no longer shows the last one."""
        _RETIRE.run(self._cursor, vault=vault, name=name.lower())

    def save(self, operation: Operation, hold_until: datetime | None = None) -> None:
        """Write the state and the key; give the lease back, or hold it until then.

        LeaseLost when a later owner has claimed the operation, or it is gone.
        """
        sealed = operation.sealed_key
        _owned(
            _STATE.run(
                self._cursor,
                id=operation.id,
                owner_fence=operation.fence,
                new_state=encode_state(operation.state),
                new_act_at=act_at(operation.state),
                new_finished=int(states.is_finished(operation.state)),
                new_lease=0 if hold_until is None else micros(hold_until),
                new_kek=sealed and sealed.kek,
                new_dek=sealed and sealed.dek,
                new_payload=sealed and sealed.payload,
            )
        )

    def take_turn(self, operation: Operation) -> None:
        """Write whose turn it is. LeaseLost as for `save`."""
        _owned(
            _TURN.run(
                self._cursor,
                id=operation.id,
                owner_fence=operation.fence,
                new_issuer=operation.issuer.lower(),
                new_options=encode_options(operation),
            )
        )

    def request_cancellation(self, operation_id: str, now: datetime) -> None:
        """Note that the owner wants it ended, and make it due at once, or when the step in hand has been taken."""
        _CANCEL.run(self._cursor, id=operation_id, new_act_at=micros(now))

    def count_unfinished(self, vault: int, issuer: str) -> int:
        """How many operations wait for the issuer."""
        row = _COUNT.one(self._cursor, vault=vault, issuer=issuer.lower())
        return row[0] if row else 0

    def remove(self, vault: int, name: str, now: datetime) -> None:
        """Forget all operations of a name, with their journals and unfinished keys.

        One that an issuer has is hidden and cancelled, and due at once, so that the engine has the issuer clean up; it
        is forgotten later, as one that is not shown any more.
        """
        _DISMISS.run(self._cursor, vault=vault, name=name.lower(), new_act_at=micros(now))
        _FORGET_JOURNAL.run(self._cursor, vault=vault, name=name.lower())
        _REMOVE.run(self._cursor, vault=vault, name=name.lower())

    def has_retired(self, before: datetime) -> bool:
        """Whether there is one that was made before then and is not shown any more."""
        return _OLD.one(self._cursor, before=micros(before), count=1) is not None

    def forget_retired(self, before: datetime, count: int) -> int:
        """Forget so many operations that were made before then and are not shown any more; return how many went."""
        ids = [row[0] for row in _OLD.all(self._cursor, before=micros(before), count=count)]
        for operation_id in ids:
            _FORGET_ENTRIES.run(self._cursor, id=operation_id)
            _FORGET.run(self._cursor, id=operation_id)
        return len(ids)

    def due(self, now: datetime, count: int, passed_over: Iterable[tuple[int, str]] = ()) -> list[Due]:
        """What could be claimed now, the longest due first, but for the issuers that are passed over.

        Those are pairs of a vault's id and an issuer's name in lower case, as `Due` has them.
        """
        issuers = _encode([_encode(issuer) for issuer in passed_over])
        rows = _CANDIDATES.all(self._cursor, now=micros(now), count=count, passed_over=issuers)
        return [Due(row[0], row[2], row[1]) for row in rows]

    def urgent(self, now: datetime, count: int, passed_over: Iterable[tuple[int, str]] = ()) -> list[Due]:
        """The same of those that are urgent, the most urgent first, and among these the longest due."""
        issuers = _encode([_encode(issuer) for issuer in passed_over])
        found: list[Due] = []
        for urgency in Urgency:
            rows = _URGENT.all(
                self._cursor,
                urgency=int(urgency),
                now=micros(now),
                count=count - len(found),
                passed_over=issuers,
            )
            found += [Due(row[0], row[2], row[1]) for row in rows]
        return found

    def claim(self, operation_id: str, owner: str, now: datetime, lease: timedelta) -> Operation | None:
        """Take the operation if it is still due; None when somebody else has it."""
        row = _CLAIM.one(self._cursor, id=operation_id, owner=owner, now=micros(now), until=micros(now + lease))
        return None if row is None else decode_operation(row)

    def next_due(self, now: datetime) -> datetime | None:
        """When the next unclaimed operation is due."""
        row = _NEXT.one(self._cursor, now=micros(now))
        return None if row is None else moment(row[0])

    def astray(self, latest: datetime, longest: datetime, count: int) -> list[str]:
        """Unfinished operations that are planned for later than `latest`, or leased for longer than until `longest`."""
        rows = _ASTRAY.all(self._cursor, latest=micros(latest), longest=micros(longest), count=count)
        return [row[0] for row in rows]

    def bring_forward(self, operation_id: str, now: datetime) -> None:
        """Make an unfinished operation due, whoever has it."""
        _BRING_FORWARD.run(self._cursor, id=operation_id, now=micros(now))

    def hurry(self, vault: int, issuer: str, now: datetime) -> None:
        """Make due what waits for an issuer."""
        _HURRY.run(self._cursor, vault=vault, issuer=issuer.lower(), now=micros(now))

    def release_all(self) -> None:
        """End all leases: for a start at which no other process can hold one."""
        _RELEASE_ALL.run(self._cursor)

    def intend(self, operation: Operation, step: str, about: Mapping[str, str], lease_until: datetime) -> None:
        """Journal what is about to be asked, and keep the lease until then. LeaseLost as for `save`."""
        self._keep(operation, lease_until)
        _INTEND.run(self._cursor, operation_id=operation.id, step=step, intended=_encode(about), recorded=None)

    def record(self, operation: Operation, step: str, reply: Mapping[str, str], lease_until: datetime) -> None:
        """Journal what a step brought, and keep the lease until then. LeaseLost as for `save`."""
        self._keep(operation, lease_until)
        _RECORD.run(self._cursor, operation_id=operation.id, step=step, intended=None, recorded=_encode(reply))

    def extend(self, operation: Operation, until: datetime) -> None:
        """Keep the lease until then, unless it has been given back meanwhile or somebody else has it."""
        _EXTEND.run(self._cursor, id=operation.id, owner_fence=operation.fence, until=micros(until))

    def _keep(self, operation: Operation, until: datetime) -> None:
        _owned(_OWNED.run(self._cursor, id=operation.id, owner_fence=operation.fence, until=micros(until)))

    def entry(self, operation_id: str, step: str) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        """What was intended and what was recorded at a step."""
        row = _READ_ENTRY.one(self._cursor, id=operation_id, step=step) or (None, None)
        return _decode_entry(row[0]), _decode_entry(row[1])


def _owned(cursor: Cursor) -> None:
    if cursor.rowcount != 1:
        raise LeaseLost("The operation has another owner now.")


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decode_entry(text: str | None) -> dict[str, str] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, str])
