"""`certbroker certificate endpoint`: where a certificate should be served, and what is served there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certbroker.cli.options import CertificateName, present
from certbroker.cli.output import Columns, remaining, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)

_Endpoint = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="A host or address, and a port: 443 otherwise.")]
_ServerName = Annotated[
    str | None, typer.Option(metavar="NAME", help="The name that the server is asked for, if not the host.")
]
_StartTLS = Annotated[
    str | None, typer.Option("--starttls", metavar="PROTOCOL", help="smtp, imap, pop3, ldap or postgres.")
]
_Address = Annotated[
    str | None, typer.Option(metavar="IP", help="Look at this address instead of all that the host has.")
]


def _place(item: dict[str, Any]) -> str:
    parts = [item["endpoint"]]
    parts += [f"for {item['server_name']}"] if "server_name" in item else []
    parts += [f"at {item['address']}"] if "address" in item else []
    parts += [f"({item['starttls']})"] if "starttls" in item else []
    return " ".join(parts)


def _serves(sight: dict[str, Any]) -> str:
    what = sight.get("version") or sight.get("subject") or sight.get("problem") or ""
    return f"{sight['address']}: {what[:100]}"


_COLUMNS: Columns = {
    "endpoint": _place,
    "state": lambda item: item["state"],
    "since": lambda item: when(item.get("since")),
    "serves": lambda item: [_serves(sight) for sight in item.get("seen", ())],
    "expires": lambda item: remaining(
        min((s["expires"] for s in item.get("seen", ()) if "expires" in s), default=None)
    ),
    "wrong": lambda item: [each for each in (item.get("alarm"), *item.get("findings", ())) if each],
    "next look": lambda item: when(item.get("next_look")),
    "id": lambda item: item["id"],
}


@app.command()
@vault_command
def add(
    session: Session,
    name: CertificateName,
    endpoint: _Endpoint,
    *,
    server_name: _ServerName = None,
    starttls: _StartTLS = None,
    address: _Address = None,
) -> None:
    """Look at a place from now on, and say when it does not serve the version in use."""
    body = present(endpoint=endpoint, server_name=server_name, starttls=starttls, address=address)
    found = session.vault.post(at("certificates", name, "endpoints"), body)
    session.output.done(
        f"{_place(found)} is looked at; `certbroker certificate endpoint list` shows what is seen.", found
    )


@app.command("list")
@vault_command
def list_(session: Session, name: CertificateName) -> None:
    """Show what is served where."""
    found = session.vault.items(at("certificates", name, "endpoints"))
    session.output.listing(found, _COLUMNS, f"{name} has no endpoints.")


@app.command()
@vault_command
def remove(
    session: Session,
    name: CertificateName,
    endpoint: Annotated[str, typer.Argument(metavar="HOST[:PORT]|ID", help="As the list shows it.")],
) -> None:
    """Look at a place no more."""
    from certbroker.cli.client import CommandFailed, ExitCode

    known = [
        each
        for each in session.vault.items(at("certificates", name, "endpoints"))
        if endpoint in (each["id"], each["endpoint"], each["endpoint"].removesuffix(":443"))
    ]
    if not known:
        raise CommandFailed(ExitCode.NOT_FOUND, f"The certificate {name} has no endpoint {endpoint}.")
    if len(known) > 1:
        ids = ", ".join(each["id"] for each in known)
        raise CommandFailed(
            ExitCode.USAGE, f"There are {len(known)} endpoints at {endpoint}: name one by its id, {ids}."
        )
    removed = session.vault.delete(at("certificates", name, "endpoints", known[0]["id"]))
    session.output.done(f"{_place(removed)} is looked at no more.", removed)
