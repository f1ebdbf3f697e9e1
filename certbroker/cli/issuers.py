"""`certbroker issuer`: the CAs that a vault gets certificates from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from certbroker.cli.options import Enabled, IssuerName, Yes, confirm, first_line, present
from certbroker.cli.output import last, when
from certbroker.cli.paths import at, within
from certbroker.cli.session import Session, vault_command
from certbroker.domain.budget import duration

app = typer.Typer(no_args_is_help=True)

_ACME = "ACME"
_ANY = "Any provider"


@app.command("set")
@vault_command
def set_issuer(
    session: Session,
    name: IssuerName,
    *,
    provider: Annotated[str, typer.Option(help="The kind of issuer.")] = "ACME",
    directory: Annotated[
        str | None,
        typer.Option(help="URL of the CA's directory, or a name such as letsencrypt.", rich_help_panel=_ACME),
    ] = None,
    challenge: Annotated[
        str | None,
        typer.Option(
            help="http-01, tls-alpn-01, dns-01 or dns-persist-01: how to prove control over names.",
            rich_help_panel=_ACME,
        ),
    ] = None,
    dns: Annotated[
        str | None,
        typer.Option(
            metavar="PUBLISHER", help="For dns-01: a publisher of the broker's configuration.", rich_help_panel=_ACME
        ),
    ] = None,
    contact: Annotated[
        list[str] | None, typer.Option(help="Mail address of the account; may be repeated.", rich_help_panel=_ACME)
    ] = None,
    eab_key_id: Annotated[
        str | None, typer.Option(help="External account binding: key identifier.", rich_help_panel=_ACME)
    ] = None,
    eab_key_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="External account binding: file with the key.", rich_help_panel=_ACME
        ),
    ] = None,
    preferred_chain: Annotated[
        str | None, typer.Option(help="Common name of an issuer in the chain to prefer.", rich_help_panel=_ACME)
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A profile that the CA offers.", rich_help_panel=_ACME)] = None,
    account_key: Annotated[
        str | None, typer.Option(help="Kind of account key, such as P-256.", rich_help_panel=_ACME)
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any other option; may be repeated.", rich_help_panel=_ANY),
    ] = None,
    account_id: Annotated[str | None, typer.Option(help="Account at the CA.", rich_help_panel=_ANY)] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The account's password is its first line.", rich_help_panel=_ANY
        ),
    ] = None,
    enabled: Enabled = None,
) -> None:
    """Configure an issuer, or replace all of its settings."""
    if eab_key_id is not None and account_id is not None:
        raise typer.BadParameter("--account-id is the same as --eab-key-id; give one.", param_hint="--account-id")
    if eab_key_file is not None and password_file is not None:
        raise typer.BadParameter(
            "--password-file is the same as --eab-key-file; give one.", param_hint="--password-file"
        )
    password = password_file or eab_key_file
    options = _options(
        present(
            directory=directory,
            challenge=challenge,
            dns=dns,
            preferred_chain=preferred_chain and quote(preferred_chain, safe=""),
            profile=profile and quote(profile, safe=""),
            account_key=account_key,
        ),
        option or [],
    )
    credentials = present(account_id=eab_key_id or account_id, pwd=None if password is None else first_line(password))
    organization = present(
        id=options or None, admin_details=[{"email": address} for address in contact] if contact else None
    )
    body = present(
        provider=provider,
        credentials=credentials or None,
        org_details=organization or None,
        attributes=present(enabled=enabled) or None,
    )
    session.output.done(f"issuer {name} is set.", session.vault.put(at("certificates", "issuers", name), body))


@app.command("list")
@vault_command
def list_issuers(session: Session) -> None:
    """List the issuers."""
    columns = {"name": lambda item: last(item["id"]), "provider": lambda item: item["provider"]}
    session.output.listing(session.vault.items(at("certificates", "issuers")), columns, "No issuers.")


@app.command()
@vault_command
def show(session: Session, name: IssuerName) -> None:
    """Show an issuer; its password cannot be shown."""
    issuer = session.vault.get(at("certificates", "issuers", name))
    session.output.record(issuer, lambda: _rows(issuer))


@app.command()
@vault_command
def health(session: Session, name: IssuerName) -> None:
    """Show how an issuer has done with the settings that it has, and why."""
    found = session.vault.get(at("certificates", "issuers", name, "health"))
    rows = {
        "state": found["state"],
        "reason": found.get("reason"),
        "since": when(found.get("since")),
        "last success": when(found.get("last_success")),
        "next try": when(found.get("next_try")),
    }
    session.output.record(found, rows)


@app.command()
@vault_command
def limits(
    session: Session,
    name: IssuerName,
    *,
    host: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name of the certificate in question; repeated for each."),
    ] = None,
    lift: Annotated[
        bool, typer.Option("--lift", help="Lift what the CA has asked for, and try again at once.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Show what the CA allows in a time, what is left of it, and when the next order fits."""
    path, names = at("certificates", "issuers", name, "limits"), ",".join(host or ())
    if lift:
        confirm(f"Ask the CA of issuer {name} again before the time that it has named?", yes=yes)
        states = session.vault.post(within(path, "lift"), names=names)["value"]
    else:
        states = session.vault.get(path, names=names)["value"]
    columns = {
        "what": lambda state: state["counts"],
        "limit": lambda state: _limit(state["limit"]),
        "left": lambda state: state["left"],
        "next fits": lambda state: when(state["next_fit"]),
        "held until": lambda state: when(state.get("held", {}).get("until")),
        "the CA said": lambda state: state.get("held", {}).get("reason"),
    }
    session.output.listing(states, columns, "The issuer keeps no rate budgets.")


@app.command()
@vault_command
def delete(session: Session, name: IssuerName) -> None:
    """Delete an issuer; certificates that name it stay, and cannot be renewed by it."""
    session.output.done(f"issuer {name} is deleted.", session.vault.delete(at("certificates", "issuers", name)))


@app.command("dns-persist")
@vault_command
def dns_persist(
    session: Session,
    name: IssuerName,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A DNS name, or *. and a name for a wildcard.")],
) -> None:
    """Print the DNS record that proves a name to the issuer for good (dns-persist-01), and how it stands."""
    record = session.vault.post(at("certificates", "issuers", name, "dns-persist"), {"name": host})
    rows = {
        "record": record["zone_line"],
        "status": record["status"],
        "detail": record["detail"],
        "until": when(record.get("until")),
    }
    session.output.record(record, rows)


@app.command()
@vault_command
def account(session: Session, name: IssuerName) -> None:
    """Show an ACME issuer's account, and what its CA says of itself."""
    found = session.vault.get(at("certificates", "issuers", name, "account"))
    session.output.record(found, lambda: _account_rows(found))


@app.command("account-rollover")
@vault_command
def account_rollover(session: Session, name: IssuerName) -> None:
    """Exchange the key of an ACME issuer's account; it may be repeated."""
    session.vault.post(at("certificates", "issuers", name, "account", "rollover"))
    session.output.done(f"the account of issuer {name} has a new key.")


@app.command("account-deactivate")
@vault_command
def account_deactivate(session: Session, name: IssuerName, *, yes: Yes = False) -> None:
    """Give an ACME issuer's account up for good. The next order makes a new one, unless the issuer is disabled."""
    confirm(f"Deactivate the account of issuer {name} at its CA?", yes=yes)
    session.vault.post(at("certificates", "issuers", name, "account", "deactivate"))
    session.output.done(f"the account of issuer {name} is deactivated.")


def _limit(limit: dict[str, int] | None) -> str:
    if limit is None:
        return ""
    return f"{limit['count']} in {duration(timedelta(seconds=limit['seconds']))}"


def _options(named: dict[str, object], others: list[str]) -> str:
    """The options as the broker reads them: `key=value`, separated by `;`."""
    for each in others:
        key, equals, value = each.partition("=")
        if not equals or not key or ";" in each or any(letter.isspace() for letter in each):
            raise typer.BadParameter(
                f"{each!r} is not of the form KEY=VALUE, without ';' and white space.", param_hint="--option"
            )
        if key in named:
            raise typer.BadParameter(f"{key} is given twice.", param_hint="--option")
        named[key] = value
    return ";".join(f"{key}={value}" for key, value in named.items())


def _account_rows(found: dict[str, Any]) -> dict[str, object]:
    labels = {
        "directory": "directory",
        "account": "account",
        "status": "status",
        "thumbprint": "key thumbprint",
        "key": "kind of key",
        "contacts": "contacts",
        "external_account": "external account",
        "terms_of_service": "terms of service",
        "website": "website",
        "caa_identities": "name in CAA records",
    }
    profiles = [f"{name}: {text}" for name, text in (found.get("profiles") or {}).items()]
    offers = "says when to renew" if found.get("renewal_info") else None
    return {label: found.get(field) for field, label in labels.items()} | {"profiles": profiles, "the CA": offers}


def _rows(issuer: dict[str, Any]) -> dict[str, object]:
    organization = issuer.get("org_details") or {}
    attributes = issuer.get("attributes") or {}
    return {
        "name": last(issuer["id"]),
        "provider": issuer["provider"],
        "options": (organization.get("id") or "").split(";"),
        "account": (issuer.get("credentials") or {}).get("account_id"),
        "contacts": [person.get("email") for person in organization.get("admin_details") or ()],
        "enabled": attributes.get("enabled"),
        "updated": when(attributes.get("updated")),
    }
