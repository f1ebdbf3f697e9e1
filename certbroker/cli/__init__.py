"""The command line: a module for each group of commands. Server parts are imported by the commands that need them."""

from __future__ import annotations

import typer

from certbroker.cli import demo, doctor, drill, server, status, sync
from certbroker.cli.groups import LazyGroups, add_groups

_SERVER = "The broker"
_CLIENT = "Its clients"

_HELP = """
A key vault that gets, keeps, renews and watches certificates, and speaks the Azure Key Vault API.

Commands find the broker by KEYVAULT_URL and CERTBROKER_ADMIN_URL, and sign in with AZURE_AUTHORITY_HOST,
AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. SSL_CERT_FILE names a CA certificate to trust.
"""
_EXIT_CODES = (
    "Exit codes: 0 done, 1 the broker refused or an operation failed, 2 wrong usage or configuration, 3 not reachable, "
    "4 not authorised, 5 not found, 6 something needs a person."
)

# Tracebacks in colour show local variables, and those may be secrets.
app = typer.Typer(
    cls=LazyGroups,
    help=_HELP,
    epilog=_EXIT_CODES,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=_SERVER)(server.serve)
app.command(rich_help_panel=_SERVER)(server.dev)
app.command(rich_help_panel=_SERVER)(server.init)
app.command(rich_help_panel=_SERVER)(demo.demo)
app.command(rich_help_panel=_CLIENT)(status.status)
app.command(rich_help_panel=_CLIENT)(doctor.doctor)
app.command(rich_help_panel=_CLIENT)(sync.sync)
app.command(rich_help_panel=_CLIENT)(drill.drill)
add_groups(app, _CLIENT)


def main() -> None:
    """Run the command line."""
    app()
