"""`certbroker vault`: the vaults of a broker."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certbroker.cli.output import when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

app = typer.Typer(no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="3 to 24 letters, digits and hyphens.")]


@app.command()
@admin_command
def create(
    session: Session,
    name: _Name,
    *,
    tier: Annotated[str, typer.Option(help="standard, or premium for keys in an HSM.")] = "standard",
    soft_delete_days: Annotated[
        int, typer.Option(min=7, max=90, help="Days in which deleted objects can be recovered.")
    ] = 90,
    purge_protection: Annotated[
        bool, typer.Option("--purge-protection", help="Let nobody remove deleted objects before their time.")
    ] = False,
) -> None:
    """Make a vault."""
    body = {
        "name": name,
        "tier": tier,
        "soft_delete_days": soft_delete_days,
        "purge_protection": purge_protection,
    }
    session.output.done(f"vault {name} is there.", session.administration.post(at("admin", "vaults"), body))


@app.command("list")
@admin_command
def list_vaults(session: Session) -> None:
    """List the vaults."""
    columns = {
        "name": lambda vault: vault["name"],
        "tier": lambda vault: vault["tier"],
        "soft delete": lambda vault: f"{vault['soft_delete_days']} days",
        "purge protection": lambda vault: vault["purge_protection"],
        "created": lambda vault: when(vault["created"]),
    }
    session.output.listing(session.administration.items(at("admin", "vaults")), columns, "No vaults.")


@app.command()
@admin_command
def show(session: Session, name: _Name) -> None:
    """Show a vault."""
    vault = _find(session, name)
    session.output.record(
        vault,
        {
            "name": vault["name"],
            "tier": vault["tier"],
            "soft delete": f"{vault['soft_delete_days']} days",
            "purge protection": vault["purge_protection"],
            "created": when(vault["created"]),
        },
    )


def _find(session: Session, name: str) -> Any:
    from certbroker.cli.client import CommandFailed, ExitCode

    for vault in session.administration.items(at("admin", "vaults")):
        if vault["name"].lower() == name.lower():
            return vault
    raise CommandFailed(ExitCode.NOT_FOUND, f"Vault not found: {name}.", "VaultNotFound")
