"""`certbroker identity`: the applications that may use the broker, their secrets, and their roles."""

from __future__ import annotations

from typing import Annotated

import typer

from certbroker.cli.options import Yes, confirm
from certbroker.cli.output import remaining, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

app = typer.Typer(no_args_is_help=True)

_SECRETS = "Secrets of an application"
_ROLES = "Roles"

_Application = Annotated[str, typer.Argument(metavar="APPLICATION", help="Its name, client id or object id.")]


@app.command()
@admin_command
def create(session: Session, name: Annotated[str, typer.Argument(metavar="NAME", help="A name for people.")]) -> None:
    """Make an application. It has no secret and no role yet."""
    application = session.administration.post(at("admin", "applications"), {"name": name})
    rows = {"name": name, "client id": application["id"], "object id": application["object_id"]}
    session.output.record(application, rows)


@app.command("list")
@admin_command
def list_applications(session: Session) -> None:
    """List the applications."""
    columns = {
        "name": lambda item: item["name"],
        "client id": lambda item: item["id"],
        "enabled": lambda item: item["enabled"],
        "created": lambda item: when(item["created"]),
    }
    session.output.listing(session.administration.items(at("admin", "applications")), columns, "No applications.")


@app.command()
@admin_command
def delete(session: Session, application: _Application, *, yes: Yes = False) -> None:
    """Delete an application with its secrets and roles; its tokens stop working at once."""
    confirm(f"Delete the application {application}?", yes=yes)
    session.administration.delete(at("admin", "applications", application))
    session.output.done(f"application {application} is deleted.")


@app.command()
@admin_command
def enable(session: Session, application: _Application) -> None:
    """Switch an application on."""
    _switch(session, application, enabled=True)


@app.command()
@admin_command
def disable(session: Session, application: _Application) -> None:
    """Switch an application off; its tokens stop working at once."""
    _switch(session, application, enabled=False)


@app.command("secrets", rich_help_panel=_SECRETS)
@admin_command
def list_secrets(session: Session, application: _Application) -> None:
    """List the secrets of an application, by their identifiers."""
    columns = {
        "id": lambda item: item["id"],
        "created": lambda item: when(item["created"]),
        "expires": lambda item: remaining(item["expires"]),
    }
    items = session.administration.items(at("admin", "applications", application, "secrets"))
    session.output.listing(items, columns, f"{application} has no secrets.")


@app.command(rich_help_panel=_SECRETS)
@admin_command
def add_secret(
    session: Session,
    application: _Application,
    *,
    days: Annotated[int, typer.Option(min=1, max=730, help="How long it is valid.")] = 180,
) -> None:
    """Make a secret and print it. It cannot be shown again."""
    made = session.administration.post(at("admin", "applications", application, "secrets"), {"days": days})
    session.output.note(f"The secret of {application} is valid until {when(made['expires'])}, and shown only now.")
    session.output.value(made["secret"], made)


@app.command(rich_help_panel=_SECRETS)
@admin_command
def remove_secret(
    session: Session,
    application: _Application,
    secret: Annotated[str, typer.Argument(metavar="ID", help="Its identifier, which `identity secrets` lists.")],
) -> None:
    """Remove a secret of an application."""
    session.administration.delete(at("admin", "applications", application, "secrets", secret))
    session.output.done(f"The secret {secret} is removed.")


@app.command(rich_help_panel=_ROLES)
@admin_command
def grant(
    session: Session,
    application: _Application,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role that `identity roles` lists.")],
    *,
    scope: Annotated[
        str, typer.Option(help="/, /vaults/NAME, or /vaults/NAME/secrets/OBJECT (or keys, certificates, authorities).")
    ],
) -> None:
    """Give an application a role for everything, a vault, or one object."""
    body = {"application": application, "role": role, "scope": scope}
    given = session.administration.post(at("admin", "assignments"), body)
    session.output.done(f"{application} is {role} of {scope}.", given)


@app.command(rich_help_panel=_ROLES)
@admin_command
def revoke(
    session: Session,
    assignment: Annotated[
        str, typer.Argument(metavar="ID", help="Its identifier, which `identity assignments` lists.")
    ],
) -> None:
    """Take a role away."""
    session.administration.delete(at("admin", "assignments", assignment))
    session.output.done(f"The assignment {assignment} is removed.")


@app.command(rich_help_panel=_ROLES)
@admin_command
def assignments(session: Session) -> None:
    """List who has which role for what."""
    admin = session.administration
    names = {item["object_id"]: item["name"] for item in admin.items(at("admin", "applications"))}
    columns = {
        "application": lambda item: names.get(item["principal"], item["principal"]),
        "role": lambda item: item["role"],
        "scope": lambda item: item["scope"],
        "id": lambda item: item["id"],
    }
    session.output.listing(admin.items(at("admin", "assignments")), columns, "Nobody has a role.")


@app.command(rich_help_panel=_ROLES)
@admin_command
def roles(session: Session) -> None:
    """List the roles and what each allows."""
    columns = {"role": lambda item: item["name"], "allows": lambda item: ", ".join(item["actions"])}
    session.output.listing(session.administration.items(at("admin", "roles")), columns, "No roles.")


def _switch(session: Session, application: str, *, enabled: bool) -> None:
    changed = session.administration.patch(at("admin", "applications", application), {"enabled": enabled})
    session.output.done(f"application {application} is {'enabled' if enabled else 'disabled'}.", changed)
