"""`certbroker serve` and `certbroker dev`."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

if TYPE_CHECKING:
    from certbroker.app import Core
    from certbroker.config import Configuration
    from certbroker.process import Application

_DEV = "demo"
_BASE_DOMAIN = "vault.localhost"
_PUBLICATION_PORT = "publication-port"
_console = Console(stderr=True)


def serve(
    config: Annotated[Path, typer.Option(help="The configuration file.", envvar="CERTBROKER_CONFIG")],
) -> None:
    """Run the broker."""
    _collect_later()
    from certbroker.config import load

    def ready(application: Application) -> None:
        _console.print(f"certbroker is ready on port {application.port}; token endpoint: {application.authority}")

    with _refusals():
        _run(load(config), ready)


def dev(
    data: Annotated[Path, typer.Option(help="Directory for everything; made if missing.")],
    env_file: Annotated[Path, typer.Option(help="Written once the broker is ready, for a shell to source.")],
    port: Annotated[int, typer.Option(help="Port for HTTPS; 0 picks a free one.")] = 8443,
    http01_port: Annotated[int | None, typer.Option(help="Port for answering http-01 challenges.")] = None,
    trust: Annotated[list[Path] | None, typer.Option(help="PEM file with CA certificates to trust.")] = None,
    dns: Annotated[list[str] | None, typer.Option(help="NAME=COMMAND: a command that publishes TXT records.")] = None,
) -> None:
    """Run a throw-away broker on this machine: a vault named demo, and an application with full rights."""
    _collect_later()
    with _refusals():
        configuration = _dev_configuration(data, port, http01_port, trust or [], dns or [])
        secrets: list[str] = []

        def prepare(core: Core) -> None:
            secrets.extend(_dev_identity(core, data))

        _run(configuration, lambda application: _announce(application, data, env_file, *secrets), prepare)


def init(
    config: Annotated[Path, typer.Option(help="The configuration file.", envvar="CERTBROKER_CONFIG")],
    name: Annotated[str, typer.Option(help="Name of the first application.")] = "administrator",
) -> None:
    """Prepare a new broker: database, seal key, and an application that may administer it. The broker must not run."""
    from certbroker.app import open_core
    from certbroker.config import load
    from certbroker.domain.audit import Caller

    with _refusals():
        core = open_core(load(config))
        try:
            caller = Caller("operator", "Init")
            application = core.broker.access.create_application(caller, name)
            _, secret = core.broker.access.add_secret(caller, application.id)
            core.broker.access.assign(caller, application.object_id, "Broker Administrator", "/")
        finally:
            core.close()
        typer.echo(f"AZURE_TENANT_ID={core.tenant}\nAZURE_CLIENT_ID={application.id}\nAZURE_CLIENT_SECRET={secret}")
        _console.print("The secret is shown only now. Keep it where your passwords are.")


def _collect_later() -> None:
    """Leave the garbage collector off until everything is loaded: what is loaded stays, and it would look at all of it
    each time that it has grown by a quarter.
    """
    gc.disable()


@contextmanager
def _refusals() -> Iterator[None]:
    """What the operator can mend is told without a traceback; exit code 2."""
    from certbroker.config import ConfigurationError
    from certbroker.domain.errors import BrokerError

    try:
        yield
    except (ConfigurationError, BrokerError) as error:
        _console.print(f"[red]certbroker cannot start.[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def _run(
    configuration: Configuration,
    ready: Callable[[Application], None],
    prepare: Callable[[Core], None] = lambda core: None,
) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    import uvloop

    from certbroker.foundation import lay_foundation
    from certbroker.hardening import harden
    from certbroker.logs import configure
    from certbroker.process import Application
    from certbroker.store.migrations import upgrade_apart

    harden()
    configure(configuration.log.level, configuration.log.format)
    application = Application(lay_foundation(configuration, upgrade_apart), prepare)

    async def serving() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
        await application.run(stop, ready)

    uvloop.run(serving())


def _dev_configuration(
    data: Path, port: int, http01_port: int | None, trust: list[Path], dns: list[str]
) -> Configuration:
    from certbroker.config import ConfigurationError, build

    publishers = {}
    for each in dns:
        name, separator, command = each.partition("=")
        if not separator or not shlex.split(command):
            raise ConfigurationError(f"--dns {each!r} is not of the form NAME=COMMAND.")
        publishers[name] = {"kind": "hook", "command": shlex.split(command)}
    server = {
        "listen": f"127.0.0.1:{port}",
        "base_domain": _BASE_DOMAIN,
        "authority": "https://localhost:{port}",
        "http01_listen": None if http01_port is None else f"127.0.0.1:{http01_port}",
        # Names below localhost resolve in browsers and with nss-myhostname only, an address resolves everywhere.
        "vault_hosts": {"127.0.0.1": _DEV},
    }
    return build(
        {
            "server": server,
            "data": {"directory": data},
            "egress": {"allowed_networks": ["127.0.0.0/8", "::1/128"], "trust": trust},
            "dns": publishers,
            "log": {"level": "info", "format": "text"},
            "monitoring": {"listen": "127.0.0.1:0"},
            "pki": {"listen": f"127.0.0.1:{_kept_port(data)}", "url": "http://127.0.0.1:{port}"},
        }
    )


def _kept_port(data: Path) -> int:
    """Where CAs published at the last start, because that stands in their certificates; 0 where it is taken now."""
    try:
        port = int((data / _PUBLICATION_PORT).read_text())
        with socket.create_server(("127.0.0.1", port)):
            return port
    except (OSError, ValueError, OverflowError):
        return 0


def _dev_identity(core: Core, data: Path) -> tuple[str, str]:
    """Client id and secret of the application, made at the first start and kept in the directory."""
    from certbroker.domain.audit import Caller
    from certbroker.domain.errors import NotFound

    caller = Caller("operator", "DevSetUp")
    file = data / "client-secret"
    access = core.broker.access
    try:
        core.broker.vaults.find(_DEV)
    except NotFound:
        core.broker.vaults.create(caller, _DEV)
    try:
        application = access.application(_DEV)
    except NotFound:
        application = access.create_application(caller, _DEV)
        access.assign(caller, application.object_id, "Broker Administrator", "/")
    if not file.exists():
        _, secret = access.add_secret(caller, application.id, 730)
        _write_private(file, secret)
    return application.id, file.read_text()


def _announce(application: Application, data: Path, env_file: Path, client_id: str, secret: str) -> None:
    """Write the environment file and tell how to connect."""
    publication = application.publication_url or ""
    _write_private(data / _PUBLICATION_PORT, str(urlsplit(publication).port))
    by_name = f"https://{_DEV}.{_BASE_DOMAIN}:{application.port}"
    vault = by_name if _resolves(f"{_DEV}.{_BASE_DOMAIN}") else f"https://127.0.0.1:{application.port}"
    authority = str((data / "ca.pem").resolve())
    values = {
        "KEYVAULT_URL": vault,
        "AZURE_AUTHORITY_HOST": application.authority,
        # Azure's libraries do not ask the public cloud about this one tenant, so that they work without it.
        "AZURE_TENANT_ID": "adfs",
        "AZURE_CLIENT_ID": client_id,
        "AZURE_CLIENT_SECRET": secret,
        "REQUESTS_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        "NODE_EXTRA_CA_CERTS": authority,
        "CERTBROKER_ADMIN_URL": application.authority,
        "CERTBROKER_MONITORING_URL": f"http://127.0.0.1:{application.monitoring_port}",
        "CERTBROKER_PUBLICATION_URL": publication,
    }
    _write_private(env_file, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    _console.print(
        f"certbroker is ready\n"
        f"  vault           {vault}\n"
        f"  token endpoint  {application.authority}/adfs\n"
        f"  data            {data}\n"
        f"  environment     set -a; . {shlex.quote(str(env_file))}; set +a",
        highlight=False,
        soft_wrap=True,
    )
    if vault != by_name:
        _console.print(
            f"Names below .localhost do not resolve on this machine, so the vault is served at its address. For "
            f"{by_name} install libnss-myhostname, or add '127.0.0.1 {_DEV}.{_BASE_DOMAIN}' to /etc/hosts.",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None, family=socket.AF_INET))
    except OSError:
        return False


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, as a whole."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
