"""`certbroker revocation`: whether certificates are revoked, and who says so."""

from __future__ import annotations

from typing import Any

import typer

from certbroker.cli.options import CertificateName
from certbroker.cli.output import Columns, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command, vault_command

app = typer.Typer(no_args_is_help=True)

_SOURCES: Columns = {
    "kind": lambda item: item["kind"],
    "url": lambda item: item["url"],
    "status": lambda item: item["status"],
    "entries": lambda item: item.get("entries"),
    "number": lambda item: item.get("number"),
    "of": lambda item: when(item.get("this_update")),
    "holds until": lambda item: when(item.get("fresh_until")),
    "asked": lambda item: when(item.get("confirmed")),
    "next try": lambda item: when(item.get("next_try")),
    "problem": lambda item: item.get("problem"),
}
_CHAIN: Columns = {
    "certificate": lambda item: item["subject"],
    "serial": lambda item: item["serial"],
    "standing": lambda item: item["standing"],
    "reason": lambda item: item["reason"],
}


@app.command()
@vault_command
def show(session: Session, name: CertificateName) -> None:
    """Show whether a certificate and those of its issuers are revoked, as far as is known."""
    _show(session, session.vault.get(at("certificates", name, "revocation")))


@app.command()
@vault_command
def check(session: Session, name: CertificateName) -> None:
    """Ask all sources of a certificate now. Exit code 6: it is revoked, on hold, or it cannot be known."""
    from certbroker.cli.client import ExitCode

    found = session.vault.post(at("certificates", name, "revocation", "check"))
    _show(session, found)
    if found["standing"] not in ("Good", "NotCovered"):
        raise typer.Exit(ExitCode.NEEDS_PERSON)


@app.command()
@admin_command
def sources(session: Session) -> None:
    """List the CRLs that are held, and other sources that fail. Exit code 6: one says nothing that holds."""
    from certbroker.cli.client import ExitCode

    found = list(session.administration.items(at("admin", "revocation", "sources")))
    session.output.listing(found, _SOURCES, "No sources.")
    if any(each["status"] == "stale" for each in found):
        raise typer.Exit(ExitCode.NEEDS_PERSON)


def _show(session: Session, found: dict[str, Any]) -> None:
    rows = {
        "standing": found["standing"],
        "reason": found.get("reason"),
        "source": found.get("source"),
        "confirmed": when(found.get("confirmed")),
        "checked": when(found.get("checked")),
    }
    session.output.record(found, rows)
    if session.output.is_json:
        return
    for title, label, columns in (("The chain", "chain", _CHAIN), ("Sources", "sources", _SOURCES)):
        if found.get(label):
            session.output.heading(title)
            session.output.listing(found[label], columns, "")
