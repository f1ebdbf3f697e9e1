"""`certbroker discovery`: certificates that were seen at servers and in CT logs, and what to make of them."""

from __future__ import annotations

from typing import Annotated

import typer

from certbroker.cli.output import Columns, remaining, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

app = typer.Typer(no_args_is_help=True)

_Sighting = Annotated[str, typer.Argument(metavar="ID", help="Of a sighting, as `list` shows it.")]
_State = Annotated[str, typer.Option("--state", metavar="STATE", help="unknown, known, adopted, ignored, new, or all.")]
_Vault = Annotated[str, typer.Option("--vault", metavar="NAME", help="Where it is to be managed.")]
_Issuer = Annotated[str, typer.Option(metavar="NAME", help="Who makes the certificate: an issuer of the vault.")]
_Name = Annotated[str, typer.Option("--as", metavar="NAME", help="Its name there; otherwise after its first host.")]

_COLUMNS: Columns = {
    "id": lambda item: item["id"],
    "state": lambda item: item["state"],
    "names": lambda item: ", ".join(item["names"][:3]) + (" …" if len(item["names"]) > 3 else ""),
    "issuer": lambda item: item.get("issuer"),
    "expires": lambda item: remaining(item.get("not_after")),
    "seen at": lambda item: item["places"][:2],
    "vault": lambda item: item.get("vault"),
    "certificate": lambda item: item.get("name"),
}
_TASKS: Columns = {
    "task": lambda item: item["task"],
    "found": lambda item: item["found"],
    "began": lambda item: when(item.get("began")),
    "last round": lambda item: when(item.get("succeeded")),
    "goes on": lambda item: when(item.get("next")),
    "problem": lambda item: item.get("problem"),
}


@app.command("list")
@admin_command
def list_sightings(session: Session, *, state: _State = "unknown") -> None:
    """List certificates that were seen: those that are in no vault, or those in another state."""
    query = {} if state == "all" else {"state": state}
    session.output.listing(
        session.administration.items(at("admin", "discovery", "sightings"), **query), _COLUMNS, "None."
    )


@app.command()
@admin_command
def show(session: Session, sighting: _Sighting) -> None:
    """Show one of them."""
    found = session.administration.get(at("admin", "discovery", "sightings", sighting))
    session.output.record(
        found,
        lambda: {
            "state": found["state"],
            "names": found["names"],
            "subject": found.get("subject"),
            "issuer": found.get("issuer"),
            "serial": found["serial"],
            "SHA-256": found.get("sha256"),
            "key": found.get("key"),
            "valid from": when(found.get("not_before")),
            "expires": remaining(found.get("not_after")),
            "seen at": found["places"],
            "first seen": when(found.get("first_seen")),
            "last seen": when(found.get("last_seen")),
            "managed as": " ".join(found[part] for part in ("vault", "name") if part in found),
        },
    )


@app.command()
@admin_command
def ignore(session: Session, sighting: _Sighting) -> None:
    """Say that it is right as it is: nobody is told of it any more."""
    found = session.administration.post(at("admin", "discovery", "sightings", sighting, "ignore"))
    session.output.done(f"sighting {sighting} is ignored.", found)


@app.command()
@admin_command
def adopt(session: Session, sighting: _Sighting, *, vault: _Vault, issuer: _Issuer, name: _Name = "") -> None:
    """Have a certificate for the same names made, with a key of its own, and managed from now on."""
    body = {"vault": vault, "issuer": issuer, "name": name}
    found = session.administration.post(at("admin", "discovery", "sightings", sighting, "adopt"), body)
    session.output.done(f"certificate {found['name']} is being made in {vault}, for the names of {sighting}.", found)


@app.command()
@admin_command
def scan(session: Session) -> None:
    """Look now, and do not wait until it is time."""
    found = session.administration.post(at("admin", "discovery", "scan"))
    session.output.done("discovery looks now; see certbroker discovery status.", found)


@app.command()
@admin_command
def status(session: Session) -> None:
    """Show what is looked at, how far that is, and what does not work."""
    found = session.administration.get(at("admin", "discovery"))
    counts = ", ".join(f"{count} {state}" for state, count in found["sightings"].items())
    session.output.record(
        found, lambda: {"places": found["places"], "monitors": found["monitors"], "sightings": counts or "none"}
    )
    if not session.output.is_json:
        session.output.listing(found["tasks"], _TASKS, "Nothing is configured to be looked at.")
