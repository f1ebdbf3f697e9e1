"""`certbroker operation`: certificates that are being made, or could not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from certbroker.cli import certificates
from certbroker.cli.output import name_of
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@vault_command
def list_operations(
    session: Session,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have succeeded.")] = False,
) -> None:
    """List the certificates that are being made, wait for somebody, or have failed."""
    columns = {
        "certificate": lambda item: name_of(item["id"]),
        "issuer": lambda item: item["issuer"]["name"],
        "status": lambda item: item["status"],
        "details": lambda item: item.get("status_details"),
    }
    found = (each for each in _operations(session) if everything or each["status"] != "completed")
    session.output.listing(found, columns, "No operations.")


app.command("show", help="Show the operation of a certificate.")(certificates.pending)


def _operations(session: Session) -> Iterator[dict[str, Any]]:
    """The pending operation of each certificate that has one: the API lists certificates only."""
    from certbroker.cli.client import CommandFailed, ExitCode

    vault = session.vault
    for item in vault.items(at("certificates"), includePending="true"):
        try:
            yield vault.get(at("certificates", name_of(item["id"]), "pending"))
        except CommandFailed as failure:
            if failure.exit_code is not ExitCode.NOT_FOUND:
                raise
