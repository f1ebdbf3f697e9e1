"""`certbroker key`: keys that never leave the vault, and what is done with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from certbroker.cli import lifecycle
from certbroker.cli.jwk import decoded, encoded, from_pem, public_pem
from certbroker.cli.options import (
    Enabled,
    KeyName,
    PasswordFile,
    Tags,
    Version,
    expiring,
    first_line,
    present,
    read_tags,
)
from certbroker.cli.output import name_of, remaining, tags, version_of, when, write_private
from certbroker.cli.paths import Place, at, within
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)
policies = typer.Typer(no_args_is_help=True)
app.add_typer(policies, name="rotation-policy", help="When it is made anew: show, set.")

_USE = "Use"

_Uses = Annotated[
    list[str] | None,
    typer.Option("--use", metavar="OPERATION", help="What it may be used for; all of it otherwise. May be repeated."),
]
_Expires = Annotated[
    int | None, typer.Option("--expires-in", min=1, metavar="DAYS", help="Days until it makes nothing new any more.")
]
_Given = Annotated[
    Path, typer.Option("--file", "-f", exists=True, dir_okay=False, readable=True, help="Read it from a file.")
]
_Algorithm = Annotated[str | None, typer.Option("--algorithm", metavar="ALG", help="One of RFC 7518.")]


@app.command()
@vault_command
def create(
    session: Session,
    name: KeyName,
    *,
    rsa: Annotated[int | None, typer.Option("--rsa", metavar="BITS", help="An RSA key: 2048, 3072 or 4096.")] = None,
    curve: Annotated[str | None, typer.Option("--curve", help="An EC key: P-256, P-384, P-521 or P-256K.")] = None,
    use: _Uses = None,
    expires_in: _Expires = None,
    tag: Tags = None,
    enabled: Enabled = None,
) -> None:
    """Make a key inside the vault, as a new version. On P-256, where nothing else is asked for."""
    if rsa is not None and curve is not None:
        raise typer.BadParameter("A key is RSA or on a curve, not both.", param_hint="--curve")
    kind: dict[str, object] = {"kty": "RSA", "key_size": rsa} if rsa else {"kty": "EC", "crv": curve or "P-256"}
    body = kind | present(key_ops=use, tags=read_tags(tag), attributes=expiring(enabled, expires_in))
    made = session.vault.post(at("keys", name, "create"), body)
    session.output.done(f"key {name} has version {version_of(made['key']['kid'])}.", made)


@app.command("import")
@vault_command
def import_key(
    session: Session,
    name: KeyName,
    *,
    file: _Given,
    password_file: PasswordFile = None,
    use: _Uses = None,
    expires_in: _Expires = None,
    tag: Tags = None,
    enabled: Enabled = None,
) -> None:
    """Keep a private key that exists, in PEM, as a new version."""
    try:
        jwk = from_pem(file.read_bytes(), None if password_file is None else first_line(password_file))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--file") from None
    body = {"key": jwk | present(key_ops=use)} | present(tags=read_tags(tag), attributes=expiring(enabled, expires_in))
    made = session.vault.put(at("keys", name), body)
    session.output.done(f"key {name} has version {version_of(made['key']['kid'])}.", made)


@app.command("list")
@vault_command
def list_keys(session: Session) -> None:
    """List the keys."""
    columns = {
        "name": lambda item: name_of(item["kid"]),
        "enabled": lambda item: item["attributes"].get("enabled"),
        "updated": lambda item: when(item["attributes"].get("updated")),
        "expires": lambda item: remaining(item["attributes"].get("exp")),
        "of": lambda item: "a certificate" if item.get("managed") else None,
        "tags": tags,
    }
    session.output.listing(session.vault.items(at("keys")), columns, "No keys.")


@app.command()
@vault_command
def show(session: Session, name: KeyName, version: Version = "") -> None:
    """Show what is public about a key."""
    found = session.vault.get(at("keys", name, version))
    key, attributes = found["key"], found["attributes"]
    rows = {
        "name": name_of(key["kid"]),
        "version": version_of(key["kid"]),
        "type": key["kty"],
        "size": key.get("crv") or f"{8 * len(decoded(key['n']))} bits",
        "operations": ", ".join(key["key_ops"]),
        "enabled": attributes["enabled"],
        "not before": when(attributes.get("nbf")),
        "expires": remaining(attributes.get("exp")),
        "created": when(attributes["created"]),
        "of": "a certificate" if found.get("managed") else None,
        "tags": tags(found),
    }
    session.output.record(found, rows)


@app.command()
@vault_command
def download(
    session: Session,
    name: KeyName,
    version: Version = "",
    *,
    file: Annotated[Path | None, typer.Option("--file", "-f", dir_okay=False, help="Write it there.")] = None,
) -> None:
    """Print the public key in PEM, or write it to a file."""
    pem = public_pem(session.vault.get(at("keys", name, version))["key"])
    if file is None:
        session.output.value(pem.rstrip(), {"pem": pem})
    else:
        file.write_text(pem)
        session.output.done(f"The public key of {name} is in {file}.")


@app.command()
@vault_command
def update(
    session: Session,
    name: KeyName,
    version: Version = "",
    *,
    use: _Uses = None,
    expires_in: _Expires = None,
    tag: Tags = None,
    enabled: Enabled = None,
) -> None:
    """Change what a key may be used for, and until when. Tags and uses are replaced as a whole."""
    body = present(key_ops=use, tags=read_tags(tag), attributes=expiring(enabled, expires_in))
    changed = session.vault.patch(at("keys", name, version), body)
    session.output.done(f"key {name} is changed.", changed)


@app.command()
@vault_command
def rotate(session: Session, name: KeyName) -> None:
    """Make another key of the same kind, as a new version."""
    made = session.vault.post(at("keys", name, "rotate"))
    session.output.done(f"key {name} has version {version_of(made['key']['kid'])}.", made)


@policies.command("show")
@vault_command
def show_policy(session: Session, name: KeyName) -> None:
    """Show when a key is rotated, and when people are told of its end."""
    found = session.vault.get(at("keys", name, "rotationpolicy"))
    rows: dict[str, object] = {"name": name}
    for each in found["lifetimeActions"]:
        trigger = each["trigger"]
        after, before = trigger.get("timeAfterCreate"), trigger.get("timeBeforeExpiry")
        rows[each["action"]["type"].lower()] = f"{after} after it was made" if after else f"{before} before it expires"
    rows["a new version lives"] = found["attributes"].get("expiryTime")
    session.output.record(found, rows)


@policies.command("set")
@vault_command
def set_policy(
    session: Session,
    name: KeyName,
    *,
    rotate_after: Annotated[str | None, typer.Option(metavar="P90D", help="Rotate so long after it was made.")] = None,
    rotate_before: Annotated[str | None, typer.Option(metavar="P30D", help="Or so long before it expires.")] = None,
    notify_before: Annotated[
        str | None, typer.Option(metavar="P30D", help="Tell people so long before its end.")
    ] = None,
    expires_after: Annotated[str | None, typer.Option(metavar="P1Y", help="How long a new version lives.")] = None,
) -> None:
    """Replace the rotation policy of a key. Times are ISO 8601 durations of years, months and days."""
    rotated = present(timeAfterCreate=rotate_after, timeBeforeExpiry=rotate_before)
    actions = [{"trigger": rotated, "action": {"type": "Rotate"}}] if rotated else []
    if notify_before is not None:
        actions.append({"trigger": {"timeBeforeExpiry": notify_before}, "action": {"type": "Notify"}})
    body = {"lifetimeActions": actions, "attributes": present(expiryTime=expires_after)}
    changed = session.vault.put(at("keys", name, "rotationpolicy"), body)
    session.output.done(f"The rotation policy of {name} is set.", changed)


@app.command(rich_help_panel=_USE)
@vault_command
def sign(session: Session, name: KeyName, version: Version = "", *, file: _Given, algorithm: _Algorithm = None) -> None:
    """Sign a file, and print the signature in base64url. Only its digest goes to the vault."""
    path, alg, digest = _digested(session, name, version, file, algorithm)
    signed = session.vault.post(within(path, "sign"), {"alg": alg, "value": digest})
    session.output.value(signed["value"], signed)


@app.command(rich_help_panel=_USE)
@vault_command
def verify(
    session: Session,
    name: KeyName,
    signature: Annotated[str, typer.Argument(help="In base64url, as `sign` prints it.")],
    version: Version = "",
    *,
    file: _Given,
    algorithm: _Algorithm = None,
) -> None:
    """Say whether a signature is that of a file; exits with 1 when it is not."""
    path, alg, digest = _digested(session, name, version, file, algorithm)
    found = session.vault.post(within(path, "verify"), {"alg": alg, "digest": digest, "value": signature})
    if not found["value"]:
        session.output.done(f"The signature is not one of {file} by {name}.", found)
        raise typer.Exit(1)
    session.output.done(f"The signature is that of {file} by {name}.", found)


@app.command(rich_help_panel=_USE)
@vault_command
def encrypt(
    session: Session, name: KeyName, version: Version = "", *, file: _Given, algorithm: _Algorithm = None
) -> None:
    """Encrypt a small file, such as another key, and print it in base64url."""
    body = {"alg": algorithm or "RSA-OAEP-256", "value": encoded(file.read_bytes())}
    made = session.vault.post(at("keys", name, version, "encrypt"), body)
    session.output.value(made["value"], made)


@app.command(rich_help_panel=_USE)
@vault_command
def decrypt(
    session: Session,
    name: KeyName,
    value: Annotated[str, typer.Argument(help="In base64url, as `encrypt` prints it.")],
    version: Version = "",
    *,
    output_file: Annotated[Path, typer.Option("--output-file", dir_okay=False, help="Written with mode 0600.")],
    algorithm: _Algorithm = None,
) -> None:
    """Decrypt what was encrypted for a key, to a file."""
    body = {"alg": algorithm or "RSA-OAEP-256", "value": value}
    made = session.vault.post(at("keys", name, version, "decrypt"), body)
    write_private(output_file, decoded(made["value"]))
    session.output.done(f"It is in {output_file}.")


lifecycle.register(app, "key")

_SIGNING = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "P-256K": "ES256K"}


def _digested(session: Session, name: str, version: str, file: Path, algorithm: str | None) -> tuple[Place, str, str]:
    """The path of the version, the algorithm, and the digest of the file that it takes."""
    key = session.vault.get(at("keys", name, version))["key"]
    algorithm = algorithm or _SIGNING.get(key.get("crv", ""), "PS256")
    size = algorithm.removesuffix("K")[-3:]
    if size not in ("256", "384", "512"):
        raise typer.BadParameter(f"{algorithm!r} is no algorithm that signs.", param_hint="--algorithm")
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, f"sha{size}").digest()
    return at("keys", name, version_of(key["kid"])), algorithm, encoded(digest)
