"""The command line. Each module is one group of commands; server parts are imported only by the commands that need them."""

from __future__ import annotations

import typer

from certbroker.cli import server

# Tracebacks in colour show local variables, and those may be secrets.
app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, add_completion=True, rich_markup_mode="rich")
app.command()(server.serve)
app.command()(server.dev)
app.command()(server.init)


def main() -> None:
    """Run the command line."""
    app()
