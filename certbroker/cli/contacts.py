"""`certbroker contacts`: who is told about the certificates of a vault."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)

_PATH = at("certificates", "contacts")


@app.command("set")
@vault_command
def set_contacts(
    session: Session, address: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Mail addresses.")]
) -> None:
    """Replace the contacts of a vault."""
    found = session.vault.put(_PATH, {"contacts": [{"email": each} for each in address]})
    session.output.done(f"The vault has {len(found['contacts'])} contact{'s' * (len(found['contacts']) != 1)}.", found)


@app.command()
@vault_command
def show(session: Session) -> None:
    """Show the contacts of a vault."""
    found = session.vault.get(_PATH)
    session.output.record(found, lambda: {"contacts": _lines(found)})


@app.command()
@vault_command
def delete(session: Session) -> None:
    """Delete the contacts of a vault."""
    session.output.done("The vault has no contacts any more.", session.vault.delete(_PATH))


def _lines(found: dict[str, Any]) -> list[str]:
    people = found.get("contacts") or ()
    return [" ".join(person[part] for part in ("email", "name", "phone") if person.get(part)) for person in people]
