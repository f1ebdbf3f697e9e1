"""CT monitors: what they are asked, and what their answers mean."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from certbroker.domain.discovery import Sighting, logged
from certbroker.domain.one_line import one_line
from certbroker.domain.retry_after import retry_after
from certbroker.ports.clock import Clock
from certbroker.ports.egress import Egress, EgressFailed, EgressRefused

# An answer is many thousand certificates long for large domains.
_MAX_BYTES: Final = 16 * 1024 * 1024
_SECONDS: Final = 60.0

# Before another try, where nobody says when.
TROUBLE: Final = timedelta(minutes=10)


class Answer(Struct, frozen=True):
    """What a monitor tells, and what is wrong. `retry_at` is when to ask again where it wants to be left alone.

    `overloaded` means that it says no more than that it cannot answer now, which may be for this question only.
    """

    found: tuple[Sighting, ...] = ()
    problem: str = ""
    retry_at: datetime | None = None
    overloaded: bool = False


def ask(egress: Egress, monitor: str, query: str, clock: Clock) -> Answer:
    """Ask for the certificates that have not expired. Blocks; raises nothing that the other side can bring about."""
    url = f"{monitor}{'&' if '?' in monitor else '?'}q={quote(query, safe='')}&output=json&exclude=expired"
    try:
        answer = egress.request(
            "GET", url, headers={"accept": "application/json"}, max_bytes=_MAX_BYTES, timeout=_SECONDS
        )
    except (EgressRefused, EgressFailed) as error:
        return Answer(problem=one_line(f"{query}: {error}", 300))
    now, status = clock.now(), answer.status
    pause = retry_after(answer.headers.get("retry-after"), now, answer.headers.get("date"))
    if status == 429 or (status == 503 and pause is not None):
        alone = f"It wants to be left alone: status {status}."
        return Answer(problem=alone, retry_at=now + (pause or TROUBLE))
    if status == 404:
        return Answer()
    if status != 200:
        return Answer(problem=f"{query}: it answered with status {status}.", overloaded=status == 503)
    try:
        return Answer(tuple(each for each in logged(answer.body, monitor, now) if each.not_after > now))
    except ValueError as error:
        return Answer(problem=f"{query}: {error}")
