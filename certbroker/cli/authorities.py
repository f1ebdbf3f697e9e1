"""`certbroker ca`: the CAs of a vault."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Annotated, Any

import typer

from certbroker.cli.client import CommandFailed, ExitCode
from certbroker.cli.options import ObjectName, Yes, confirm, present
from certbroker.cli.output import last, remaining, when
from certbroker.cli.paths import Place, at, within
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)

Days = Annotated[int | None, typer.Option(help="For how many days it is valid.")]
Shards = Annotated[int | None, typer.Option(help="Into how many lists revocations are divided; 1 by default.")]
CRLHours = Annotated[int | None, typer.Option(help="For how many hours a CRL is valid; the broker says otherwise.")]
LendTo = Annotated[
    list[str] | None,
    typer.Option(metavar="VAULT", help="Another vault whose issuers may use it; may be repeated; '*' is every one."),
]
PathLength = Annotated[int | None, typer.Option(help="How many CAs may be below it.")]
Permit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Names it may certify, such as dns:corp.example or ip:10.0.0.0/8; repeatable."),
]
Exclude = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Names it may not certify; repeatable.")]


@app.command()
@vault_command
def create(
    session: Session,
    name: ObjectName,
    *,
    subject: Annotated[str, typer.Option(help="Its distinguished name, such as 'CN=Example Root CA,O=Example'.")],
    parent: Annotated[
        str | None, typer.Option(metavar="CA", help="The CA above it, a name or VAULT/NAME; without, it is a root.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="RSA-2048, RSA-3072, RSA-4096, P-256, P-384, P-521, Ed25519, ML-DSA-44, -65 or -87."),
    ] = None,
    days: Days = None,
    path_length: PathLength = None,
    permit: Permit = None,
    exclude: Exclude = None,
    shards: Shards = None,
    crl_hours: CRLHours = None,
    lend_to: LendTo = None,
) -> None:
    """Make a root, or a CA below another one. Its key never leaves the vault."""
    body = present(
        subject=subject,
        parent=parent,
        key=key,
        days=days,
        path_length=path_length,
        permitted=permit,
        excluded=exclude,
        shards=shards,
        crl_hours=crl_hours,
        lent_to=lend_to,
    )
    _told(session, session.vault.post(_path(name, "create"), body), f"CA {name} is there")


@app.command("list")
@vault_command
def list_authorities(
    session: Session,
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that do not sign any more, and links.")] = False,
) -> None:
    """List the CAs."""
    found = [item for item in session.vault.items(at("authorities")) if every or item["state"] == "active"]
    columns = {
        "name": lambda item: last(item["id"]),
        "subject": lambda item: item["subject"],
        "key": lambda item: item["key"],
        "state": lambda item: item["state"] if every else None,
        "generation": lambda item: item["generation"] if every else None,
        "not after": lambda item: remaining(item["not_after"]),
    }
    session.output.listing(found, columns, "No CAs.")


@app.command()
@vault_command
def show(session: Session, name: ObjectName) -> None:
    """Show a CA, what it may do, and where it publishes."""
    found = session.vault.get(_path(name))
    session.output.record(found, lambda: _rows(found))
    if found["state"] == "active" and "published" not in found:
        session.output.note(
            "Nothing is published: its certificates say nothing about where to ask whether they are revoked. Set "
            "pki.listen and pki.url in the broker's configuration."
        )


@app.command()
@vault_command
def download(
    session: Session,
    name: ObjectName,
    file: Annotated[Path, typer.Option("--file", "-f", dir_okay=False, help="Where to, in PEM.")],
) -> None:
    """Write a CA's certificate to a file, for those who are to trust it."""
    found = session.vault.get(_path(name))
    _write(file, _pem(found["cer"]))
    session.output.done(f"the certificate of CA {name} is in {file}; SHA-256 {found['sha256'].upper()}.", found)


@app.command("set")
@vault_command
def set_authority(
    session: Session, name: ObjectName, *, shards: Shards = None, crl_hours: CRLHours = None, lend_to: LendTo = None
) -> None:
    """Change how a CA publishes, and to which vaults it is lent; --lend-to '' lends it to none."""
    lent = None if lend_to is None else [vault for vault in lend_to if vault]
    body = present(shards=shards, crl_hours=crl_hours, lent_to=lent)
    session.output.done(f"CA {name} is changed.", session.vault.patch(_path(name), body))


@app.command()
@vault_command
def renew(
    session: Session,
    name: ObjectName,
    *,
    new_key: Annotated[bool, typer.Option("--new-key", help="With a new key; otherwise the key stays.")] = False,
    key: Annotated[str | None, typer.Option(help="The kind of the new key; otherwise it stays.")] = None,
    days: Days = None,
) -> None:
    """Make a CA's next certificate, which signs from now on."""
    found = session.vault.post(_path(name, "renew"), present(new_key=new_key, key=key, days=days))
    _told(session, found, f"CA {name} has a new certificate")


@app.command("cross-sign")
@vault_command
def cross_sign(
    session: Session,
    name: ObjectName,
    *,
    by: Annotated[
        str, typer.Option(metavar="CA", help="Who vouches for it: another CA, or itself, by its previous key.")
    ],
    days: Days = None,
) -> None:
    """Have another CA certify a CA's key; an issuer's option over=CA has chains lead over that."""
    found = session.vault.post(_path(name, "cross-sign"), present(by=by, days=days))
    _told(session, found, f"{by} vouches for CA {name}")


@app.command()
@vault_command
def adopt(
    session: Session,
    name: ObjectName,
    *,
    shards: Shards = None,
    crl_hours: CRLHours = None,
    lend_to: LendTo = None,
) -> None:
    """Make a CA of a certificate that is in the vault with its key."""
    body = present(shards=shards, crl_hours=crl_hours, lent_to=lend_to)
    _told(session, session.vault.post(_path(name, "adopt"), body), f"{name} is a CA")


@app.command("import")
@vault_command
def import_authority(
    session: Session,
    name: ObjectName,
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="PFX, or PEM with the key.")],
    *,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The password of the file is its first line.")
    ] = None,
) -> None:
    """Take over a CA that exists, with its key. Destroy what is outside of the vault then."""
    from certbroker.cli.options import first_line

    body = present(
        value=base64.b64encode(file.read_bytes()).decode(),
        pwd=None if password_file is None else first_line(password_file),
        policy={"key_props": {"exportable": False}},
    )
    session.vault.post(at("certificates", name, "import"), body)
    _told(session, session.vault.post(_path(name, "adopt"), {}), f"CA {name} is taken over")


@app.command()
@vault_command
def sign(
    session: Session,
    name: ObjectName,
    *,
    csr: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The request, PKCS#10 in PEM or DER.")],
    file: Annotated[Path, typer.Option("--file", "-f", dir_okay=False, help="Where the certificate goes, in PEM.")],
    chain: Annotated[bool, typer.Option("--chain", help="With the certificates of the CAs.")] = False,
    profile: Annotated[str, typer.Option(help="server, client, code-signing, smime or custom.")] = "server",
    days: Days = None,
    subject: Annotated[
        str | None, typer.Option(help="The subject; that of the request is not taken. None by default.")
    ] = None,
    eku: Annotated[list[str] | None, typer.Option(help="For custom: a purpose; repeatable.")] = None,
    usage: Annotated[list[str] | None, typer.Option(help="For custom: a key usage; repeatable.")] = None,
    san: Annotated[list[str] | None, typer.Option(help="For custom: a kind of name; repeatable.")] = None,
) -> None:
    """Sign a request from outside. Of the request, its key and its names are taken."""
    text = csr.read_bytes()
    if b"-----BEGIN" not in text:
        encoded = base64.encodebytes(text)
        text = b"-----BEGIN CERTIFICATE REQUEST-----\n" + encoded + b"-----END CERTIFICATE REQUEST-----\n"
    body = present(
        csr=text.decode("ascii", "replace"),
        profile=profile,
        days=days,
        subject=subject,
        ekus=eku,
        usages=usage,
        sans=san,
    )
    found = session.vault.post(_path(name, "sign"), body)
    _write(file, "".join(map(_pem, found["x5c"] if chain else found["x5c"][:1])))
    if found["ignored"]:
        session.output.note(f"What else the request asked for is not in it: {', '.join(found['ignored'])}.")
    session.output.done(f"signed: serial {found['serial']}, until {when(found['not_after'])}, in {file}.", found)


@app.command()
@vault_command
def issued(
    session: Session,
    name: ObjectName,
    *,
    generation: Annotated[
        str, typer.Option(help="Of an earlier certificate of the CA, by its id; see ca list --all.")
    ] = "",
) -> None:
    """List what a CA has issued and has not long expired."""
    columns = {
        "serial": lambda item: item["serial"],
        "profile": lambda item: item["profile"],
        "certificate": lambda item: item.get("certificate", "").partition("/")[0],
        "not after": lambda item: remaining(item["not_after"]),
        "revoked": lambda item: when(item.get("revoked")),
    }
    items = session.vault.items(_path(name, "issued"), **({"generation": generation} if generation else {}))
    session.output.listing(items, columns, "It has issued nothing.")


@app.command()
@vault_command
def revoke(
    session: Session,
    name: ObjectName,
    serial: Annotated[str, typer.Argument(help="Serial number, in hexadecimal digits.")],
    *,
    reason: Annotated[
        str,
        typer.Option(
            help="keyCompromise, superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn, unspecified."
        ),
    ],
    yes: Yes = False,
) -> None:
    """Revoke what a CA has issued, for good: certificates in vaults, certificates for requests, and CAs below it."""
    path = _path(name, "issued", serial.replace(":", "").lower())
    if not yes:
        found = session.vault.get(path)
        what = found.get("certificate") or "made for a request"
        confirm(f"Revoke serial {found['serial']} ({what}, {found['profile']}), for ever?", yes=yes)
    done = session.vault.post(within(path, "revoke"), {"reason": reason})
    session.output.done(f"serial {done['serial']} of CA {name} is revoked since {when(done['revoked'])}.", done)


@app.command()
@vault_command
def retire(session: Session, name: ObjectName, *, yes: Yes = False) -> None:
    """Have a CA sign nothing any more. What it has signed stays good, and its lists go on."""
    confirm(f"Have the CA {name} sign nothing any more?", yes=yes)
    session.output.done(f"CA {name} is retired.", session.vault.post(_path(name, "retire"), {}))


@app.command()
@vault_command
def delete(
    session: Session,
    name: ObjectName,
    *,
    force: Annotated[bool, typer.Option("--force", help="Although certificates of it are still valid.")] = False,
    yes: Yes = False,
) -> None:
    """Forget a CA, so that it signs and publishes nothing. Its certificate stays, and can then be deleted."""
    confirm(f"Forget the CA {name}, so that nobody can ask about its certificates any more?", yes=yes)
    session.vault.request("DELETE", _path(name), None, **({"force": "true"} if force else {}))
    session.output.done(f"CA {name} is forgotten.")


def _path(name: str, *more: str) -> Place:
    return at("authorities", name, *more)


def _told(session: Session, found: dict[str, Any], what: str) -> None:
    session.output.done(f"{what}: {found['subject']}, until {when(found['not_after'])}.", found)


def _pem(encoded: str) -> str:
    return ssl.DER_cert_to_PEM_cert(base64.b64decode(encoded))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"{file} cannot be written: {error.strerror}.") from None


def _rows(found: dict[str, Any]) -> dict[str, object]:
    published = found.get("published") or {}
    others = [
        f"{each['state']}, {each['subject']}, until {when(each['not_after'])}, generation {each['generation']}"
        for each in found.get("others", ())
    ]
    return {
        "name": last(found["id"]),
        "state": found["state"],
        "subject": found["subject"],
        "key": found["key"],
        "serial": found["serial"],
        "SHA-256": found["sha256"].upper(),
        "not before": when(found["not_before"]),
        "not after": remaining(found["not_after"]),
        "path length": found.get("path_length"),
        "permitted": found.get("permitted"),
        "excluded": found.get("excluded"),
        "lent to": found.get("lent_to"),
        "generation": found["generation"],
        "below": found.get("parent"),
        "certificate at": published.get("certificate"),
        "CRLs at": published.get("crl"),
        "OCSP at": published.get("ocsp"),
        "others": others,
    }
