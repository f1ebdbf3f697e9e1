"""Arguments and options that several groups of commands have, so that they read the same everywhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

_DAY = 86_400

ObjectName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
SecretName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the secret.")]
KeyName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")]
CertificateName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the certificate.")]
IssuerName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the issuer.")]
Version = Annotated[str, typer.Option("--version", metavar="VERSION", help="A version; the current one otherwise.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A tag; may be repeated.")]
Enabled = Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether it can be used.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
InputFile = Annotated[
    Path | None, typer.Option("--file", "-f", exists=True, dir_okay=False, readable=True, help="Read it from a file.")
]

PasswordFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="The password of the file is its first line.")
]


def first_line(path: Path) -> str:
    """A password in a file, without the end of its line."""
    return path.read_text("utf-8").partition("\n")[0].removesuffix("\r")


def expiring(enabled: bool | None, days: int | None) -> dict[str, object] | None:
    """The attributes that were given; None, which changes nothing, when none were."""
    expires = None if days is None else int(time.time()) + days * _DAY
    return present(enabled=enabled, exp=expires) or None


def read_tags(pairs: list[str] | None) -> dict[str, str] | None:
    """The tags as the API has them; None, which changes nothing, when none were given."""
    if pairs is None:
        return None
    tags = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is not of the form NAME=VALUE.", param_hint="--tag")
        tags[name] = value
    return tags


def present(**values: object) -> dict[str, object]:
    """The values that there are."""
    return {name: value for name, value in values.items() if value is not None}


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone. Without a terminal the answer must have been given by --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("This cannot be undone: confirm it with --yes.", param_hint="--yes")
    typer.confirm(question, abort=True, err=True)
