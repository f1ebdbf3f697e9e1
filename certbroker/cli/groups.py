"""Groups of commands that are imported when one of their commands is called: `--help` and completion stay quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

# Name: the module with its `app`, and what the list of commands says.
GROUPS: Final = {
    "vault": ("vaults", "Vaults: make, list, show."),
    "secret": ("secrets", "Secrets: set, get, list, versions, delete, recover, back up."),
    "key": ("keys", "Keys: make, import, sign, verify, encrypt, decrypt, delete, recover, back up."),
    "certificate": (
        "certificates",
        "Certificates: create, import, merge, download, policies, delete, recover, back up.",
    ),
    "ca": ("authorities", "CAs of our own: make, renew, cross-sign, sign requests, revoke."),
    "revocation": ("watching", "Revocation: whether certificates are revoked, and who says so."),
    "issuer": ("issuers", "Issuers: the CAs that a vault gets certificates from."),
    "contacts": ("contacts", "Contacts: who is told about the certificates of a vault."),
    "channel": ("channels", "Channels: who is told what happens in a vault, and how."),
    "operation": ("operations", "Operations: certificates that are being made, or could not be."),
    "discovery": ("discovery", "Discovery: certificates seen at servers and in CT logs, and what to make of them."),
    "seal": ("seal", "The seal: rotate its keys, move to another seal key."),
    "identity": ("identities", "Identities: applications, their secrets, and their roles."),
}


class LazyGroups(TyperGroup):
    """The root group. What it lists are empty groups; the one that is called is filled first."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in GROUPS and name in self.commands:
            module, text = GROUPS[name]
            command = get_group(import_module(f"certbroker.cli.{module}").app)
            command.name, command.help = name, text
            self.commands[name] = command
        return name, command, rest


def add_groups(app: typer.Typer, panel: str) -> None:
    """Announce all groups."""
    for name, (_, text) in GROUPS.items():
        app.add_typer(typer.Typer(), name=name, help=text, rich_help_panel=panel)
