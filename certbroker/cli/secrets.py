"""`certbroker secret`: values under a name, with versions."""

from __future__ import annotations

import base64
import binascii
import sys
from pathlib import Path
from typing import Annotated

import typer

from certbroker.cli import lifecycle
from certbroker.cli.options import Enabled, InputFile, SecretName, Tags, Version, expiring, present, read_tags
from certbroker.cli.output import name_of, remaining, tags, version_of, when, write_private
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)

_ContentType = Annotated[str | None, typer.Option("--content-type", help="What the value is; free text.")]
_Expires = Annotated[
    int | None, typer.Option("--expires-in", min=1, metavar="DAYS", help="Days until it should be replaced.")
]
_Base64 = Annotated[bool, typer.Option("--base64", help="The value is binary, and kept as base64.")]


@app.command("set")
@vault_command
def set_secret(
    session: Session,
    name: SecretName,
    value: Annotated[
        str | None,
        typer.Argument(help="The value. Other users can see arguments: better use --file or standard input."),
    ] = None,
    *,
    file: InputFile = None,
    binary: _Base64 = False,
    content_type: _ContentType = None,
    expires_in: _Expires = None,
    tag: Tags = None,
    enabled: Enabled = None,
) -> None:
    """Keep a value, from an argument, a file, or standard input, as a new version. It is not shown."""
    body = present(
        value=_value(value, file, binary=binary),
        contentType=content_type,
        tags=read_tags(tag),
        attributes=expiring(enabled, expires_in),
    )
    stored = session.vault.put(at("secrets", name), body)
    # The reply repeats the value, and nobody asked to see it.
    stored.pop("value", None)
    session.output.done(f"secret {name} has version {version_of(stored['id'])}.", stored)


@app.command()
@vault_command
def get(
    session: Session,
    name: SecretName,
    version: Version = "",
    *,
    output_file: Annotated[
        Path | None,
        typer.Option("--output-file", dir_okay=False, help="Write it there, with mode 0600, and show nothing."),
    ] = None,
    binary: Annotated[bool, typer.Option("--base64", help="Decode the value; for --output-file.")] = False,
) -> None:
    """Print the value of a secret, and nothing else."""
    if binary and output_file is None:
        raise typer.BadParameter("Binary values are written to a file only.", param_hint="--base64")
    found = session.vault.get(at("secrets", name, version))
    if output_file is not None:
        write_private(output_file, _decoded(found["value"]) if binary else found["value"].encode())
        session.output.note(f"The value of {name} is in {output_file}.")
    else:
        session.output.value(found["value"], found)


@app.command("list")
@vault_command
def list_secrets(session: Session) -> None:
    """List the secrets, without their values."""
    columns = {
        "name": lambda item: name_of(item["id"]),
        "content type": lambda item: item.get("contentType"),
        "enabled": lambda item: item["attributes"].get("enabled"),
        "updated": lambda item: when(item["attributes"].get("updated")),
        "expires": lambda item: remaining(item["attributes"].get("exp")),
        "of": lambda item: "a certificate" if item.get("managed") else None,
        "tags": tags,
    }
    session.output.listing(session.vault.items(at("secrets")), columns, "No secrets.")


@app.command()
@vault_command
def update(
    session: Session,
    name: SecretName,
    version: Version = "",
    *,
    content_type: _ContentType = None,
    expires_in: _Expires = None,
    tag: Tags = None,
    enabled: Enabled = None,
) -> None:
    """Change what is known about a secret; the value stays. Tags are replaced as a whole."""
    attributes = expiring(enabled, expires_in)
    changed = session.vault.patch(
        at("secrets", name, version),
        present(contentType=content_type, tags=read_tags(tag), attributes=attributes),
    )
    session.output.done(f"secret {name} is changed.", changed)


lifecycle.register(app, "secret")


def _value(argument: str | None, file: Path | None, *, binary: bool) -> str:
    if argument is not None and file is not None:
        raise typer.BadParameter("Give the value as an argument or in a file, not both.", param_hint="VALUE")
    if argument is not None:
        return base64.b64encode(argument.encode()).decode() if binary else argument
    if file is not None:
        data = file.read_bytes()
    elif sys.stdin.isatty():
        data = str(typer.prompt("Value", hide_input=True, err=True)).encode()
    else:
        # `echo value |` adds a line's end that is not meant.
        data = sys.stdin.buffer.read()
        data = data if binary else data.removesuffix(b"\n")
    if binary:
        return base64.b64encode(data).decode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("The value is not text in UTF-8; keep it with --base64.", param_hint="VALUE") from None


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise typer.BadParameter("The value is not base64.", param_hint="--base64") from None
