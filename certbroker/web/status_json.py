"""How the broker is, and what a checkup has found, as JSON. Times are Unix seconds; what has no value is left out."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from certbroker.domain.budget import Bucket, Level
from certbroker.domain.revocation_sources import Source
from certbroker.services.health.doctor import Checkup
from certbroker.services.health.status import Coming, Report, Trouble


def status_json(report: Report) -> dict[str, Any]:
    """The page."""
    return {
        "version": report.version,
        "schema": report.schema,
        "sqlite": report.sqlite,
        "seal": asdict(report.seal),
        "engine": {
            "last_beat": _seconds(report.beat),
            "parts": [
                _present(
                    {"part": sign.part.value, "age": round(sign.age), "fresh": sign.is_fresh, "problem": sign.problem}
                )
                for sign in report.signs
            ],
        },
        "certificates": {health.value: count for health, count in report.certificates.items()},
        "needs_person": [_trouble(each) for each in report.needs_person],
        "failing": [_trouble(each) for each in report.failing],
        "coming": [_coming(each) for each in report.coming],
        "holds": [_hold(*each) for each in report.holds],
    }


def checkup_json(checkup: Checkup) -> dict[str, Any]:
    """A checkup, as far as it has come."""
    # First, so that what is done is whole.
    done = checkup.done
    found = [
        _present({"what": each.what, "grade": each.grade.value, "detail": each.detail, "advice": each.advice})
        for each in list(checkup.found)
    ]
    return {"id": checkup.id, "done": done, "found": found}


def source_json(source: Source) -> dict[str, Any]:
    """Who says whether certificates are revoked, and how it is."""
    holding = source.holding
    facts = None if holding.base is None else (holding.news or holding.base).facts
    return _present({
        "url": source.url,
        "kind": source.kind.value,
        "status": source.status.value,
        "entries": None if holding.base is None else holding.base.facts.entries,
        "number": None if facts is None or facts.number is None else str(facts.number),
        "this_update": None if facts is None else _seconds(facts.this_update),
        "fresh_until": _seconds(holding.fresh_until),
        "confirmed": _seconds(holding.confirmed),
        "failing_since": _seconds(holding.failing_since),
        "next_try": _seconds(source.act_at),
        "problem": holding.problem or holding.delta_problem,
    })  # fmt: skip


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return _present({
        "what": trouble.what,
        "vault": trouble.vault,
        "name": trouble.name,
        "state": trouble.state,
        "reason": trouble.reason,
        "advice": trouble.advice,
        "since": _seconds(trouble.since),
        "next_action": _seconds(trouble.next_action),
    })  # fmt: skip


def _coming(coming: Coming) -> dict[str, Any]:
    return _present({
        "vault": coming.vault,
        "name": coming.name,
        "at": _seconds(coming.at),
        "reason": coming.reason,
        "renewal": _seconds(coming.renewal),
    })  # fmt: skip


def _hold(bucket: Bucket, level: Level) -> dict[str, Any]:
    return _present({
        "ca": bucket.ca,
        "scope": bucket.scope.value,
        "subject": bucket.subject,
        "until": _seconds(level.held_until),
        "reason": level.reason,
    })  # fmt: skip


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "")}
