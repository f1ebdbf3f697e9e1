"""Commands that secrets, keys and certificates share: versions, soft delete, backup and restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certbroker.cli.jwk import decoded, encoded
from certbroker.cli.options import ObjectName, Yes, confirm
from certbroker.cli.output import name_of, remaining, version_of, when, write_private
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command


def register(app: typer.Typer, kind: str, panel: str = "Soft delete and backup") -> None:
    """Add the shared commands to the group of one kind of object."""

    @vault_command
    def delete(session: Session, name: ObjectName) -> None:
        deleted = session.vault.delete(at(f"{kind}s", name))
        until = deleted.get("scheduledPurgeDate")
        session.output.done(f"{kind} {name} is deleted; it can be recovered until {when(until)}.", deleted)

    @vault_command
    def list_deleted(session: Session) -> None:
        columns = {
            "name": lambda item: name_of(item.get("id") or item["kid"]),
            "deleted": lambda item: when(item.get("deletedDate")),
            "purged": lambda item: remaining(item.get("scheduledPurgeDate")),
        }
        session.output.listing(session.vault.items(at(f"deleted{kind}s")), columns, f"No deleted {kind}s.")

    @vault_command
    def recover(session: Session, name: ObjectName) -> None:
        recovered = session.vault.post(at(f"deleted{kind}s", name, "recover"))
        session.output.done(f"{kind} {name} is there again.", recovered)

    @vault_command
    def purge(session: Session, name: ObjectName, *, yes: Yes = False) -> None:
        confirm(f"Purge the deleted {kind} {name} for ever?", yes=yes)
        session.vault.delete(at(f"deleted{kind}s", name))
        session.output.done(f"{kind} {name} is purged.")

    @vault_command
    def versions(session: Session, name: ObjectName) -> None:
        columns = {
            "version": lambda item: version_of(item.get("id") or item["kid"]),
            "enabled": lambda item: item["attributes"].get("enabled"),
            "created": lambda item: when(item["attributes"].get("created")),
            "expires": lambda item: remaining(item["attributes"].get("exp")),
        }
        session.output.listing(
            session.vault.items(at(f"{kind}s", name, "versions")), columns, f"No versions of {name}."
        )

    @vault_command
    def backup(
        session: Session,
        name: ObjectName,
        file: Annotated[Path, typer.Option("--file", "-f", dir_okay=False, help="Written with mode 0600.")],
    ) -> None:
        blob = session.vault.post(at(f"{kind}s", name, "backup"))
        write_private(file, decoded(blob["value"]))
        session.output.done(f"{kind} {name} is in {file}. Only this broker, with its seal key, can restore it.")

    @vault_command
    def restore(
        session: Session,
        file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="A backup.")],
    ) -> None:
        restored = session.vault.post(at(f"{kind}s", "restore"), {"value": encoded(file.read_bytes())})
        url = restored["key"]["kid"] if kind == "key" else restored["id"]
        session.output.done(f"{kind} {name_of(url)} is restored.", restored)

    app.command(help=f"List the versions of a {kind}.")(versions)
    for label, command, text in (
        ("delete", delete, f"Delete a {kind}; it can be recovered for some time."),
        ("list-deleted", list_deleted, f"List deleted {kind}s."),
        ("recover", recover, f"Bring a deleted {kind} back."),
        ("purge", purge, f"Remove a deleted {kind} for ever."),
        ("backup", backup, f"Write all versions of a {kind} to a file, encrypted by the broker."),
        ("restore", restore, f"Bring a {kind} back from a backup, with all of its versions."),
    ):
        app.command(label, help=text, rich_help_panel=panel)(command)
