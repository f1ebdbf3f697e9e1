"""`certbroker doctor`: a look at everything that the broker depends on."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from certbroker.cli.output import Columns
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

_POLL_SECONDS: Final = 0.5
# Longer than the broker gives to the longest check.
_PATIENCE_SECONDS: Final = 330.0
_GRADES: Final = {"ok": Text("ok", "green"), "warn": Text("warn", "yellow"), "fail": Text("fail", "bold red")}
_COLUMNS: Columns = {
    "": lambda item: _GRADES.get(item["grade"], Text(str(item["grade"]))),
    "what": lambda item: item["what"],
    "found": lambda item: item["detail"],
    "do": lambda item: item.get("advice"),
}


@admin_command
def doctor(
    session: Session,
    *,
    issuer: Annotated[str | None, typer.Option(metavar="NAME", help="Only this issuer, and names by it.")] = None,
    vault: Annotated[
        str | None, typer.Option(metavar="NAME", help="The vault of the issuer, or of the issuers.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name that certificates are for; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Have a certificate for the names made by a staging CA, and throw it away."),
    ] = False,
    directory: Annotated[
        str | None, typer.Option(metavar="URL", help="The staging CA, where it is not known by its issuer.")
    ] = None,
) -> None:
    """Check what the broker depends on, from where the broker is. Exit code 6: something does not work."""
    from certbroker.cli.client import CommandFailed, ExitCode

    wanted = {"issuer": issuer, "vault": vault, "names": name or [], "dry_run": dry_run, "directory": directory}
    broker = session.administration
    found: dict[str, Any] = broker.post(at("admin", "doctor"), wanted)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not found["done"]:
        if time.monotonic() > deadline:
            raise CommandFailed(ExitCode.UNREACHABLE, "The checkup does not end; the log of the broker may say why.")
        time.sleep(_POLL_SECONDS)
        found = broker.get(at("admin", "doctor", found["id"]))
    order = list(_GRADES)
    session.output.listing(sorted(found["found"], key=lambda item: -order.index(item["grade"])), _COLUMNS, "Nothing.")
    if any(item["grade"] == "fail" for item in found["found"]):
        raise typer.Exit(int(ExitCode.NEEDS_PERSON))
