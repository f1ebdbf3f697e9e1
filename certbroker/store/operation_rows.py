"""An operation as a row, and back."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from certbroker.domain import operation as states
from certbroker.domain.records import Cause, Operation, SealedBytes, Turn
from certbroker.store.moments import micros, moment
from certbroker.store.objects import decode_policy
from certbroker.store.statement import Row
from certbroker.store.tables import OperationRow

_p = OperationRow
COLUMNS: Final = (
    _p.id, _p.vault_id, _p.display, _p.version, _p.policy, _p.state, _p.options, _p.cancellation_requested, _p.created,
    _p.deadline, _p.kek, _p.dek, _p.payload, _p.fence,
)  # fmt: skip

_STATES: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    kind.__name__: msgspec.json.Decoder(kind)
    for kind in (
        states.Prepared,
        states.AwaitingIssuer,
        states.AwaitingMerge,
        states.Completed,
        states.Failed,
        states.Cancelled,
    )
}
_FIRST: Final = Turn()


class Options(Struct, frozen=True):
    """What the operation was started with beyond the policy, and whose turn it is."""

    tags: dict[str, str]
    enabled: bool = True
    preserve_order: bool = False
    cause: Cause | None = None
    turn: Turn = _FIRST


_OPTIONS: Final = msgspec.json.Decoder(Options)


def encode_options(operation: Operation) -> str:
    """What an operation was started with, as text."""
    options = Options(operation.tags, operation.enabled, operation.preserve_order, operation.cause, operation.turn)
    return msgspec.json.encode(options).decode()


def encode_state(state: states.State) -> str:
    """A state as text, its name first."""
    return f"{type(state).__name__} {msgspec.json.encode(state).decode()}"


def act_at(state: states.State) -> int | None:
    """When there is something to do in this state, in microseconds since 1970."""
    due = states.act_at(state)
    return None if due is None else micros(due)


def decode_operation(row: Row) -> Operation:
    """The operation in a row of `COLUMNS`."""
    (
        operation_id,
        vault,
        display,
        version,
        policy,
        state,
        options,
        cancel,
        created,
        deadline,
        kek,
        dek,
        payload,
        fence,
    ) = row
    kind, _, body = state.partition(" ")
    chosen = _OPTIONS.decode(options)
    return Operation(
        id=operation_id,
        vault_id=vault,
        name=display,
        version=version,
        policy=decode_policy(policy),
        state=_STATES[kind].decode(body),
        created=moment(created),
        deadline=moment(deadline),
        tags=chosen.tags,
        enabled=chosen.enabled,
        preserve_order=chosen.preserve_order,
        cause=chosen.cause,
        turn=chosen.turn,
        cancellation_requested=bool(cancel),
        sealed_key=None if kek is None else SealedBytes(kek, dek, payload),
        fence=fence,
    )
