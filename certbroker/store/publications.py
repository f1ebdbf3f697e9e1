"""What private CAs publish: which CRLs and OCSP replies there are, and which are due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlmodel import col

from certbroker.domain.publication import DueReply, PublishingProblem, PublishingState, RevocationList, StatusReply
from certbroker.store.moments import micros, moment
from certbroker.store.statement import Cursor, Row, Statement, choose, insertion
from certbroker.store.tables import AuthorityRow, IssuedRow, PublishingProblemRow, RevocationListRow, StatusReplyRow

_a, _i, _l, _s, _p = AuthorityRow, IssuedRow, RevocationListRow, StatusReplyRow, PublishingProblemRow

# How many entries of a list are read at once.
_BATCH: Final = 1000

_THIS = col(_a.id) == bindparam("id")
# A time further away than any wait comes from a clock that was wrong.
_AUTHORITY_DUE = or_(col(_a.crl_act_at) <= bindparam("now"), col(_a.crl_act_at) > bindparam("latest"))
_DUE = Statement(choose(_a.id).where(_AUTHORITY_DUE).limit(bindparam("count")))
_CLAIM = Statement(
    update(_a)
    .where(_THIS, _AUTHORITY_DUE)
    .values(crl_act_at=bindparam("until"), crl_fence=col(_a.crl_fence) + 1)
    .returning(col(_a.crl_fence))
)
_FINISH = Statement(
    update(_a)
    .where(_THIS, col(_a.crl_fence) == bindparam("fence"), col(_a.crl_act_at) == bindparam("until"))
    .values(crl_act_at=bindparam("next"))
)
_RELEASE = Statement(update(_a).where(col(_a.crl_act_at) > bindparam("now")).values(crl_act_at=bindparam("now")))
_SOON = Statement(update(_a).where(_THIS, col(_a.crl_act_at) > bindparam("soon")).values(crl_act_at=bindparam("soon")))
_NUMBER = Statement(update(_a).where(_THIS).values(crl_number=col(_a.crl_number) + 1).returning(col(_a.crl_number)))

_LIST_COLUMNS = (
    _l.authority, _l.shard, _l.number, _l.sha256, _l.size, _l.this_update, _l.next_update, _l.act_at, _l.fence,
    _l.partial,
)  # fmt: skip
_LIST = and_(col(_l.authority) == bindparam("authority"), col(_l.shard) == bindparam("shard"))
_ADD_LIST = insertion(_l, once=True)
_GET_LIST = Statement(choose(*_LIST_COLUMNS).where(_LIST))
_LISTS = Statement(choose(*_LIST_COLUMNS).where(col(_l.authority) == bindparam("authority")).order_by(col(_l.shard)))
_PUBLISHED = Statement(choose(_l.sha256).where(col(_l.sha256).is_not(None)))
_TOUCH_LIST = Statement(update(_l).where(_LIST).values(act_at=bindparam("soon"), fence=col(_l.fence) + 1))
_PUT_LIST = Statement(
    update(_l)
    .where(_LIST, col(_l.number) < bindparam("new_number"))
    .values(
        number=bindparam("new_number"),
        sha256=bindparam("new_sha256"),
        size=bindparam("new_size"),
        this_update=bindparam("new_this_update"),
        next_update=bindparam("new_next_update"),
        partial=bindparam("new_partial"),
    )
)
_PLAN_LIST = Statement(
    update(_l).where(_LIST, col(_l.fence) == bindparam("seen")).values(act_at=bindparam("new_act_at"))
)
_ENTRIES = Statement(
    choose(_i.serial, _i.revoked, _i.reason).where(
        col(_i.authority) == bindparam("authority"),
        col(_i.shard) == bindparam("shard"),
        col(_i.not_after) >= bindparam("since"),
        col(_i.revoked).is_not(None),
    )
)

_REPLY = and_(col(_s.authority) == bindparam("authority"), col(_s.serial) == bindparam("serial"))
_ADD_REPLY = insertion(_s, once=True)
_GET_REPLY = Statement(choose(_s.this_update, _s.next_update, _s.act_at, _s.sha1, _s.sha256).where(_REPLY))
_TOUCH_REPLY = Statement(update(_s).where(_REPLY).values(act_at=bindparam("soon"), fence=col(_s.fence) + 1))
_REPLY_DUE = or_(col(_s.act_at) <= bindparam("now"), col(_s.act_at) > bindparam("latest"))
_DUE_REPLIES = Statement(
    choose(_s.serial, _s.fence, _i.not_after, _i.revoked, _i.reason)
    .join(_i, and_(col(_i.authority) == col(_s.authority), col(_i.serial) == col(_s.serial)), isouter=True)
    .where(col(_s.authority) == bindparam("authority"), _REPLY_DUE)
    .limit(bindparam("count"))
)
_NEXT_REPLY = Statement(
    choose(_s.act_at).where(col(_s.authority) == bindparam("authority")).order_by(col(_s.act_at)).limit(1)
)
_PUT_REPLY = Statement(
    update(_s)
    .where(_REPLY, col(_s.fence) == bindparam("seen"))
    .values(
        this_update=bindparam("new_this_update"),
        next_update=bindparam("new_next_update"),
        act_at=bindparam("new_act_at"),
        sha1=bindparam("new_sha1"),
        sha256=bindparam("new_sha256"),
    )
)
_PLAN_REPLY = Statement(
    update(_s).where(_REPLY, col(_s.fence) == bindparam("seen")).values(act_at=bindparam("new_act_at"))
)
_FORGET_FUTURE = Statement(
    update(_s)
    .where(col(_s.authority) == bindparam("authority"), col(_s.this_update) > bindparam("now"))
    .values(act_at=bindparam("now"))
)
_DROP_REPLY = Statement(delete(_s).where(_REPLY))

_GET_PROBLEM = Statement(
    choose(_p.authority, _p.since, _p.failures, _p.problem).where(col(_p.authority) == bindparam("authority"))
)
_PROBLEMS = Statement(choose(_p.authority, _p.since, _p.failures, _p.problem).limit(bindparam("count")))
_PUT_PROBLEM = insertion(_p, replace=("failures", "problem"))
_DROP_PROBLEM = Statement(delete(_p).where(col(_p.authority) == bindparam("authority")))


# Of CAs that are trusted still; a cross certificate publishes nothing.
_STANDINGS = Statement(
    choose(
        _a.vault_id,
        _a.display,
        func.count(col(_l.shard)),
        func.min(func.coalesce(col(_l.next_update), 0)),
        func.min(col(_p.since)),
        func.min(col(_p.problem)),
    )
    .join(_l, col(_l.authority) == col(_a.id), isouter=True)
    .join(_p, col(_p.authority) == col(_a.id), isouter=True)
    .where(col(_a.crl_act_at).is_not(None), col(_a.not_after) > bindparam("seconds"))
    .group_by(col(_a.vault_id), col(_a.display))
    .limit(bindparam("count"))
)
_ORPHANS = Statement(
    choose(_l.authority)
    .distinct()
    .where(col(_l.authority).not_in(select(col(_a.id))), func.coalesce(col(_l.next_update), 0) < bindparam("now"))
)
_FORGET = tuple(
    Statement(delete(table).where(col(table.authority) == bindparam("authority"))) for table in (_l, _s, _p)
)


class Publications:
    """CRLs by CA and shard, OCSP replies by CA and serial number, and which CAs have something to publish."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def issued(self, authority: str, serial: str, replies: StatusReply | None) -> None:
        """A certificate has been issued: these are the replies about it, or else they are due at once."""
        act_at = 0 if replies is None else micros(replies.act_at)
        _ADD_REPLY.run(
            self._cursor,
            authority=authority,
            serial=serial,
            this_update=replies and micros(replies.this_update),
            next_update=replies and micros(replies.next_update),
            act_at=act_at,
            fence=0,
            sha1=replies and replies.by_hash["sha1"],
            sha256=replies and replies.by_hash["sha256"],
        )
        _SOON.run(self._cursor, id=authority, soon=act_at)

    def revoked(self, authority: str, shard: int, serial: str, now: datetime) -> None:
        """A certificate has been revoked: its list and the replies about it are due."""
        _TOUCH_LIST.run(self._cursor, authority=authority, shard=shard, soon=micros(now))
        _TOUCH_REPLY.run(self._cursor, authority=authority, serial=serial, soon=micros(now))
        self.soon(authority, now)

    def soon(self, authority: str, now: datetime) -> None:
        """Have a look at what the CA publishes."""
        _SOON.run(self._cursor, id=authority, soon=micros(now))

    def due(self, now: datetime, latest: datetime, count: int) -> list[str]:
        """CAs that have something to publish, or whose plans for after `latest` are wrong."""
        return [row[0] for row in _DUE.all(self._cursor, now=micros(now), latest=micros(latest), count=count)]

    def claim(self, authority: str, now: datetime, latest: datetime, until: datetime) -> int | None:
        """Take one that is due until then; the number of the lease, or None where it is not due any more."""
        row = _CLAIM.one(self._cursor, id=authority, now=micros(now), latest=micros(latest), until=micros(until))
        return None if row is None else int(row[0])

    def finish(self, authority: str, fence: int, until: datetime, later: datetime | None) -> None:
        """Give the lease back, to look again at `later`, unless something has become due meanwhile."""
        _FINISH.run(
            self._cursor, id=authority, fence=fence, until=micros(until), next=None if later is None else micros(later)
        )

    def release_all(self, now: datetime) -> None:
        """Make due what a dead owner may have claimed."""
        _RELEASE.run(self._cursor, now=micros(now))

    def next_number(self, authority: str) -> int:
        """A number for CRLs that has never been given out before."""
        row = _NUMBER.one(self._cursor, id=authority)
        assert row is not None
        return int(row[0])

    def add_list(self, authority: str, shard: int, now: datetime) -> None:
        """There is to be a list for this shard, if there is none yet."""
        _ADD_LIST.run(
            self._cursor,
            authority=authority,
            shard=shard,
            number=0,
            sha256=None,
            size=0,
            this_update=None,
            next_update=None,
            act_at=micros(now),
            fence=0,
            partial=0,
        )

    def list_of(self, authority: str, shard: int) -> RevocationList | None:
        row = _GET_LIST.one(self._cursor, authority=authority, shard=shard)
        return None if row is None else _list(row)

    def lists(self, authority: str) -> list[RevocationList]:
        """All lists of a CA, by shard."""
        return [_list(row) for row in _LISTS.all(self._cursor, authority=authority)]

    def published(self) -> set[str]:
        """The digests of all lists that are published."""
        return {row[0] for row in _PUBLISHED.all(self._cursor)}

    def put_list(self, made: RevocationList) -> None:
        """Publish a list, unless one with a higher number is. It stays due where its fence has moved meanwhile."""
        assert made.this_update is not None
        assert made.next_update is not None
        key = {"authority": made.authority, "shard": made.shard}
        _PUT_LIST.run(
            self._cursor,
            **key,
            new_number=made.number,
            new_sha256=made.sha256,
            new_size=made.size,
            new_this_update=micros(made.this_update),
            new_next_update=micros(made.next_update),
            new_partial=int(made.partial),
        )
        _PLAN_LIST.run(self._cursor, **key, seen=made.fence, new_act_at=micros(made.act_at))

    def entries(self, authority: str, shard: int, since: int) -> Iterator[list[Row]]:
        """What stands on a list, in batches: serial number, time and reason of each that was revoked and was valid at
        `since`, in Unix seconds. Until the last one this transaction is to be used for nothing else.
        """
        cursor = _ENTRIES.run(self._cursor, authority=authority, shard=shard, since=since)
        while batch := cursor.fetchmany(_BATCH):
            yield batch

    def reply(self, authority: str, serial: str) -> StatusReply | None:
        """What is published about a certificate; None where nothing is yet."""
        row = _GET_REPLY.one(self._cursor, authority=authority, serial=serial)
        if row is None or row[0] is None:
            return None
        return StatusReply(moment(row[0]), moment(row[1]), moment(row[2]), {"sha1": row[3], "sha256": row[4]})

    def due_replies(self, authority: str, now: datetime, latest: datetime, count: int) -> list[DueReply]:
        """Certificates of a CA about which replies are due, or are planned for after `latest`."""
        rows = _DUE_REPLIES.all(self._cursor, authority=authority, now=micros(now), latest=micros(latest), count=count)
        return [DueReply(*row) for row in rows]

    def next_reply(self, authority: str) -> datetime | None:
        """When the next replies of a CA are due."""
        row = _NEXT_REPLY.one(self._cursor, authority=authority)
        return None if row is None else moment(row[0])

    def put_reply(self, authority: str, due: DueReply, reply: StatusReply) -> None:
        """Publish replies about a certificate, unless it has been revoked meanwhile."""
        _PUT_REPLY.run(
            self._cursor,
            authority=authority,
            serial=due.serial,
            seen=due.fence,
            new_this_update=micros(reply.this_update),
            new_next_update=micros(reply.next_update),
            new_act_at=micros(reply.act_at),
            new_sha1=reply.by_hash["sha1"],
            new_sha256=reply.by_hash["sha256"],
        )

    def plan_reply(self, authority: str, due: DueReply, act_at: datetime) -> None:
        """Have another look at it then, unless it has been revoked meanwhile."""
        _PLAN_REPLY.run(self._cursor, authority=authority, serial=due.serial, seen=due.fence, new_act_at=micros(act_at))

    def forget_future(self, authority: str, now: datetime) -> None:
        """A clock has been set back: make all replies due that hold from later than now on."""
        _FORGET_FUTURE.run(self._cursor, authority=authority, now=micros(now))

    def drop_reply(self, authority: str, serial: str) -> None:
        """Nobody asks about this certificate any more."""
        _DROP_REPLY.run(self._cursor, authority=authority, serial=serial)

    def problem(self, authority: str) -> PublishingProblem | None:
        row = _GET_PROBLEM.one(self._cursor, authority=authority)
        return None if row is None else _problem(row)

    def problems(self, count: int) -> list[PublishingProblem]:
        """CAs that cannot publish now."""
        return [_problem(row) for row in _PROBLEMS.all(self._cursor, count=count)]

    def put_problem(self, problem: PublishingProblem) -> None:
        """Note it; `since` stays what it was."""
        _PUT_PROBLEM.run(
            self._cursor,
            authority=problem.authority,
            since=micros(problem.since),
            failures=problem.failures,
            problem=problem.problem,
        )

    def drop_problem(self, authority: str) -> None:
        _DROP_PROBLEM.run(self._cursor, authority=authority)

    def standings(self, now: datetime, count: int) -> list[PublishingState]:
        """How so many CAs stand, those of one name together."""
        return [
            PublishingState(
                vault, name, lists, moment(until) if until else None, None if since is None else moment(since), problem
            )
            for vault, name, lists, until, since, problem in _STANDINGS.all(
                self._cursor, seconds=int(now.timestamp()), count=count
            )
        ]

    def forget_orphans(self, now: datetime) -> None:
        """Forget what CAs have published that are gone, once it is over."""
        for (authority,) in _ORPHANS.all(self._cursor, now=micros(now)):
            for forget in _FORGET:
                forget.run(self._cursor, authority=authority)


def _list(row: Row) -> RevocationList:
    authority, shard, number, sha256, size, this_update, next_update, act_at, fence, partial = row
    return RevocationList(
        authority,
        shard,
        number,
        sha256,
        size,
        None if this_update is None else moment(this_update),
        None if next_update is None else moment(next_update),
        moment(act_at),
        fence,
        bool(partial),
    )


def _problem(row: Row) -> PublishingProblem:
    authority, since, failures, problem = row
    return PublishingProblem(authority, moment(since), failures, problem)
