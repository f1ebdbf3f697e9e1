"""What a command is called with: where the broker is, who we are, and how to print.

`vault_command` and `admin_command` turn a function of a `Session` into a command: they add the options that all
commands share, and turn failures into one line and an exit code.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

import typer

from certbroker.cli.output import Format, Output, fail

if TYPE_CHECKING:
    from pathlib import Path

    from certbroker.cli.client import Client, Connection

P = ParamSpec("P")

_PANEL = "Where and how"

OutputOption = Annotated[
    Format,
    typer.Option("--output", "-o", envvar="CERTBROKER_OUTPUT", rich_help_panel=_PANEL, help="How to print."),
]
VaultOption = Annotated[
    str | None,
    typer.Option("--vault", metavar="NAME", rich_help_panel=_PANEL, help="Name of the vault."),
]
VaultURLOption = Annotated[
    str | None,
    typer.Option("--vault-url", metavar="URL", envvar="KEYVAULT_URL", rich_help_panel=_PANEL, help="URL of the vault."),
]
AdminURLOption = Annotated[
    str | None,
    typer.Option(
        "--admin-url", metavar="URL", envvar="CERTBROKER_ADMIN_URL", rich_help_panel=_PANEL, help="URL of the broker."
    ),
]


class Session:
    """One call of the command line."""

    def __init__(
        self,
        output: Output,
        *,
        vault: str | None = None,
        vault_url: str | None = None,
        admin_url: str | None = None,
    ) -> None:
        self.output = output
        self._vault = vault
        self._vault_url = vault_url
        self._admin_url = admin_url
        self._connection: Connection | None = None

    @property
    def vault(self) -> Client:
        """The vault that the options name. Raises CommandFailed."""
        from certbroker.cli.client import CommandFailed, ExitCode

        url = self._url_of(self._vault) if self._vault else self._vault_url
        if not url:
            raise CommandFailed(ExitCode.USAGE, "Which vault? Give --vault-url, or set KEYVAULT_URL.")
        return self._connect().vault(_https(url, "The vault"))

    def vault_by(self, token_file: Path) -> Client:
        """The same by the token that is in a file. Raises CommandFailed."""
        from certbroker.cli.client import Connection, TokenFile

        self._connection = Connection(TokenFile(token_file), _ca_file())
        return self.vault

    @property
    def administration(self) -> Client:
        """The broker itself. Raises CommandFailed."""
        from certbroker.cli.client import CommandFailed, ExitCode

        if not self._admin_url:
            raise CommandFailed(ExitCode.USAGE, "Where is the broker? Give --admin-url, or set CERTBROKER_ADMIN_URL.")
        return self._connect().administration(_https(self._admin_url, "The broker"))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> Connection:
        if self._connection is None:
            from certbroker.cli.client import Connection, Credentials

            self._connection = Connection(Credentials.from_environment(os.environ), _ca_file())
        return self._connection

    def _url_of(self, name: str) -> str:
        """The URL of a vault by its name: beside the vault of KEYVAULT_URL, or where the broker says."""
        from certbroker.cli.client import CommandFailed, ExitCode, exchange, open_http
        from certbroker.domain.objects import VAULT_NAME

        if VAULT_NAME.fullmatch(name) is None:
            raise CommandFailed(ExitCode.USAGE, f"{name[:64]!r} is not the name of a vault.")
        known = urlsplit(self._vault_url or "")
        if known.hostname and not _is_address(known.hostname):
            port = f":{known.port}" if known.port else ""
            return f"https://{name}.{known.hostname.partition('.')[2]}{port}"
        if not self._admin_url:
            raise CommandFailed(
                ExitCode.USAGE,
                "--vault needs a KEYVAULT_URL with a host name, or CERTBROKER_ADMIN_URL, to know the domain of vaults.",
            )
        with open_http(_ca_file()) as http:
            url = f"{_https(self._admin_url, 'The broker')}/metadata/endpoints"
            reply = exchange(http, http.build_request("GET", url))
        try:
            suffix = reply.json()["suffixes"]["keyVaultDns"]
        except (ValueError, KeyError, TypeError):
            raise CommandFailed(ExitCode.UNREACHABLE, f"{url} does not say where vaults are.") from None
        return f"https://{name}.{suffix.removeprefix('.')}"


def vault_command(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """A command about one vault."""

    def command(
        *arguments: Any,
        output: OutputOption = Format.TABLE,
        vault: VaultOption = None,
        vault_url: VaultURLOption = None,
        admin_url: AdminURLOption = None,
        **options: Any,
    ) -> None:
        session = Session(Output(output), vault=vault, vault_url=vault_url, admin_url=admin_url)
        run(session, function, *arguments, **options)

    return _named(command, function)


def admin_command(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """A command about the broker itself."""

    def command(
        *arguments: Any, output: OutputOption = Format.TABLE, admin_url: AdminURLOption = None, **options: Any
    ) -> None:
        run(Session(Output(output), admin_url=admin_url), function, *arguments, **options)

    return _named(command, function)


def run(session: Session, function: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Do it, and end the process with the exit code that a failure has."""
    from certbroker.cli.client import CommandFailed

    try:
        function(session, *arguments, **options)
    except CommandFailed as failure:
        fail(failure.code, str(failure))
        raise typer.Exit(int(failure.exit_code)) from None
    finally:
        session.close()


def _named(command: Callable[..., None], function: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the parameters of both, except the session."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    shared = inspect.signature(command, eval_str=True).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*list(own)[1:], *(each for each in shared if each.kind not in variable))
    ]
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # As inspect documents it.
    return command


def _https(url: str, what: str) -> str:
    from certbroker.cli.client import CommandFailed, ExitCode

    if not url.startswith("https://") or not urlsplit(url).hostname:
        raise CommandFailed(ExitCode.USAGE, f"{what} is reached by https; {url[:200]!r} is not an https URL.")
    return url.rstrip("/")


def _ca_file() -> str | None:
    return os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
