"""One attempt to obtain one version of a certificate, as a state machine.

    Prepared ──KeyMade──► AwaitingIssuer ──Issued──► Completed
        │                   │   ▲  │ ──Refused───► Failed
        │                   └───┘ Waiting, Unavailable, HandedOver
        └──KeyMade──► AwaitingMerge ──Issued──► Completed

    CancelRequested ends any unfinished state as Cancelled, DeadlinePassed as Failed.

The rules:

- A state holds only what exists in that state, and says by its `act_at` when the engine looks at it next: no `act_at`
  means that somebody else acts, or that nobody has to.
- `advance` is pure. An event that does not fit the state raises `ValueError` and changes nothing.
- Completed, Failed and Cancelled are final. A new attempt is a new operation.
- Every unfinished state that the engine works on has a deadline; an AwaitingMerge operation waits for a person for as
  long as the person needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from certbroker.domain.backoff import doubled

# The longest that an operation is worked on. Certification authorities that validate by hand take days, not weeks, and
# an ACME order lives for at most seven days.
DEADLINE: Final = timedelta(days=7)

# Waits between attempts at an issuer that cannot be reached: they double from the first to the last.
FIRST_RETRY: Final = timedelta(seconds=5)
LAST_RETRY: Final = timedelta(hours=1)

# However long an issuer wants to be left alone, it is asked once a day.
LONGEST_WAIT: Final = timedelta(days=1)


class Problem(Struct, frozen=True):
    """Why an operation waits or failed. `code` is stable and for machines, `message` says what to do."""

    code: str
    message: str
    detail: str | None = None


class Prepared(Struct, frozen=True):
    """Wanted, and nothing made yet: the engine makes the key and the CSR."""

    act_at: datetime


class AwaitingIssuer(Struct, frozen=True):
    """The key exists; the engine asks the issuer at `act_at`.

    `failures` counts the attempts in a row that found no issuer.
    """

    csr: bytes
    act_at: datetime
    detail: str
    failures: int = 0
    problem: Problem | None = None


class AwaitingMerge(Struct, frozen=True):
    """The key exists; a person carries the CSR out and merges the answer."""

    csr: bytes


class Completed(Struct, frozen=True):
    """The certificate is stored under the operation's version."""

    csr: bytes


class Failed(Struct, frozen=True):
    """Given up; the problem says why and what to do."""

    problem: Problem
    csr: bytes | None = None


class Cancelled(Struct, frozen=True):
    """Ended because its owner asked for it."""

    csr: bytes | None = None


Unfinished = Prepared | AwaitingIssuer | AwaitingMerge
Finished = Completed | Failed | Cancelled
State = Unfinished | Finished


class KeyMade(Struct, frozen=True):
    """The key is stored and its CSR built. `merge` when a person is the issuer."""

    csr: bytes
    merge: bool


class Waiting(Struct, frozen=True):
    """The issuer works on it, or waits for somebody; look again at `until`."""

    until: datetime
    detail: str


class Unavailable(Struct, frozen=True):
    """The issuer could not be asked now; it named `retry_at` as the earliest time to come back, or nothing."""

    problem: Problem
    retry_at: datetime | None = None


class HandedOver(Struct, frozen=True):
    """It is the turn of another of the policy's issuers; the problem is why."""

    detail: str
    problem: Problem


class Issued(Struct, frozen=True):
    """The certificate is there, checked, and stored in the same transaction as this event."""


class Refused(Struct, frozen=True):
    """It will not be issued: asking again in the same way is pointless."""

    problem: Problem


class CancelRequested(Struct, frozen=True):
    """The owner wants the operation to end."""


class DeadlinePassed(Struct, frozen=True):
    """The operation took longer than it may."""


Event = KeyMade | Waiting | Unavailable | HandedOver | Issued | Refused | CancelRequested | DeadlinePassed


def advance(state: State, event: Event, now: datetime) -> State:
    """The state after `event`; ValueError when the event does not fit the state."""
    match state, event:
        case Prepared(), KeyMade(csr, merge=True):
            return AwaitingMerge(csr)
        case Prepared(), KeyMade(csr, merge=False):
            return AwaitingIssuer(csr, now, "Pending certificate created. The issuer is about to be asked.")
        case AwaitingIssuer(), Waiting(until, detail):
            return AwaitingIssuer(state.csr, min(until, now + LONGEST_WAIT), detail)
        case AwaitingIssuer() | Prepared(), Unavailable(problem, retry_at):
            return _later(state, problem, retry_at, now)
        case Prepared(), HandedOver():
            return Prepared(now)
        case AwaitingIssuer(csr), HandedOver(detail, problem):
            return AwaitingIssuer(csr, now, detail, problem=problem)
        case ((AwaitingIssuer(csr) | AwaitingMerge(csr)), Issued()):
            return Completed(csr)
        case ((AwaitingIssuer(csr) | AwaitingMerge(csr)), Refused(problem)):
            return Failed(problem, csr)
        case Prepared(), Refused(problem):
            return Failed(problem)
        case ((Prepared() | AwaitingIssuer() | AwaitingMerge()), CancelRequested()):
            return Cancelled(csr_of(state))
        case ((Prepared() | AwaitingIssuer()), DeadlinePassed()):
            return Failed(_deadline_problem(state), csr_of(state))
        case _:
            raise ValueError(f"{type(event).__name__} does not fit {type(state).__name__}")


def _later(state: Prepared | AwaitingIssuer, problem: Problem, retry_at: datetime | None, now: datetime) -> State:
    """The same state, tried again after a wait that doubles with every failure, and not before the issuer wants it.

    An issuer that always says "at once" would otherwise be asked every second for a week.
    """
    wanted = min(retry_at or now, now + LONGEST_WAIT)
    if isinstance(state, Prepared):
        return Prepared(max(wanted, now + FIRST_RETRY))
    pause = doubled(FIRST_RETRY, LAST_RETRY, state.failures + 1)
    return replace(
        state,
        act_at=max(wanted, now + pause),
        detail=f"The issuer could not be used and will be asked again. {problem.message}",
        failures=state.failures + 1,
        problem=problem,
    )


def _deadline_problem(state: Prepared | AwaitingIssuer) -> Problem:
    last = state.problem if isinstance(state, AwaitingIssuer) else None
    return Problem(
        "DeadlinePassed",
        f"The certificate was not issued within {DEADLINE.days} days. Correct the cause and create it again.",
        last.message if last else None,
    )


def csr_of(state: State) -> bytes | None:
    """The CSR in DER, once it exists."""
    match state:
        case Prepared():
            return None
        case AwaitingIssuer(csr) | AwaitingMerge(csr) | Completed(csr) | Failed(_, csr) | Cancelled(csr):
            return csr
        case _:
            assert_never(state)


def act_at(state: State) -> datetime | None:
    """When the engine looks at the operation next; None when it has nothing to do."""
    match state:
        case Prepared(due) | AwaitingIssuer(_, due):
            return due
        case AwaitingMerge() | Completed() | Failed() | Cancelled():
            return None
        case _:
            assert_never(state)


def is_finished(state: State) -> bool:
    """Whether nothing can happen to the operation any more."""
    return isinstance(state, Completed | Failed | Cancelled)
