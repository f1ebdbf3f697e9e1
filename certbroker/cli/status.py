"""`certbroker status`: how the broker is, on one screen."""

from __future__ import annotations

from typing import Any, Final

import typer

from certbroker.cli.output import Columns, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

_PROBLEM: Columns = {
    "what": lambda item: item["what"],
    "vault": lambda item: item.get("vault"),
    "name": lambda item: item["name"],
    "state": lambda item: item["state"],
    "since": lambda item: when(item.get("since")),
    "reason": lambda item: item.get("reason"),
    "do": lambda item: item.get("advice"),
    "next try": lambda item: when(item.get("next_action")),
}
_COMING: Columns = {
    "vault": lambda item: item["vault"],
    "certificate": lambda item: item["name"],
    "next look": lambda item: when(item["at"]),
    "next action": lambda item: when(item.get("renewal")),
    "reason": lambda item: item.get("reason"),
}
_HOLDS: Columns = {
    "CA": lambda item: item["ca"],
    "for": lambda item: item["scope"],
    "of": lambda item: item.get("subject"),
    "until": lambda item: when(item.get("until")),
    "reason": lambda item: item.get("reason"),
}
_SHOWN_COMING: Final = 5


@admin_command
def status(session: Session) -> None:
    """Show how the broker is: what needs a person, what fails, what comes next. Exit code 6: somebody is needed."""
    from certbroker.cli.client import ExitCode

    found = session.administration.get(at("admin", "status"))
    session.output.record(found, lambda: _summary(found))
    if not session.output.is_json:
        _lists(session, found)
    if found["needs_person"]:
        raise typer.Exit(int(ExitCode.NEEDS_PERSON))


def _lists(session: Session, found: dict[str, Any]) -> None:
    for title, label, columns, most in (
        ("Needs a person", "needs_person", _PROBLEM, None),
        ("Fails, and is tried again", "failing", _PROBLEM, None),
        ("Pauses that CAs have asked for", "holds", _HOLDS, None),
        ("Comes next", "coming", _COMING, _SHOWN_COMING),
    ):
        items = found[label][:most]
        if items:
            session.output.heading(title)
            session.output.listing(items, columns, "")


def _summary(found: dict[str, Any]) -> dict[str, object]:
    parts = found["engine"]["parts"]
    stale = [f"{part['part']} (for {part['age']} s)" for part in parts if not part["fresh"]]
    counts = {health: count for health, count in found["certificates"].items() if count}
    engine = f"stands still: {', '.join(stale)}" if stale else "works"
    if not parts:
        engine = "has not started"
    return {
        "certbroker": f"{found['version']}, schema {found['schema']}, SQLite {found['sqlite']}",
        "seal": f"open, by the key {found['seal']['seal_key']}",
        "engine": f"{engine}; last mark {when(found['engine']['last_beat']) or 'never'}",
        "certificates": ", ".join(f"{count} {health}" for health, count in counts.items()) or "none",
        "needs a person": len(found["needs_person"]) or "nothing",
    }
