"""`certbroker seal`: the keys that everything secret is under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certbroker.cli.paths import at
from certbroker.cli.session import Session, admin_command

if TYPE_CHECKING:
    from certbroker.app import Core
    from certbroker.services.seal_rotation import Rotation

app = typer.Typer(no_args_is_help=True)

_Config = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The broker's configuration file.", envvar="CERTBROKER_CONFIG")
]
_Offline = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Work on a broker that is stopped, by its configuration file."),
]


@app.command()
@admin_command
def status(session: Session, *, config: _Offline = None) -> None:
    """Show the seal key, and whether a rotation is under way."""
    if config is None:
        found = session.administration.get(at("admin", "seal"))
    else:
        with _stopped_broker(config) as core:
            found = _status(core)
    session.output.record(
        found,
        {
            "seal key": found["seal_key"],
            "key-encryption keys": found["keys"],
            "replaced, not destroyed yet": found["superseded"],
        },
    )


@app.command()
@admin_command
def rotate(session: Session, *, config: _Offline = None) -> None:
    """Give every vault a new key-encryption key, and wrap all data keys with it.

    A running broker goes on serving meanwhile; what takes longer than some seconds it finishes by itself.
    """
    if config is None:
        found = session.administration.post(at("admin", "seal", "rotate"))
    else:
        with _stopped_broker(config) as core:
            found = _json(_rotate(core))
    text = f"{found['made']} new keys, {found['rewrapped']} values rewrapped, {found['destroyed']} old keys destroyed."
    session.output.done(text, found)
    if found["waiting"]:
        session.output.note(
            f"{found['waiting']} old keys stay until nothing can need them any more; see `certbroker seal status`."
        )
    if found["unreadable"]:
        session.output.note(
            f"{found['unreadable']} values cannot be read; the log names them. Their old keys are kept."
        )


@app.command()
@admin_command
def migrate(session: Session, *, config: _Config) -> None:
    """Put everything under the key in [seal], from the one in [seal.previous]. The broker must not run.

    A broker that is started with this configuration does the same.
    """
    with _stopped_broker(config) as core:
        found = _status(core)
    session.output.done(f"All {found['keys']} key-encryption keys are under the seal key {found['seal_key']}.", found)
    session.output.note("The section [seal.previous] can be removed now. Keep its key as long as you keep old backups.")


@app.command()
@admin_command
def init(session: Session, *, config: _Config) -> None:
    """Make the key that [seal] names, in its file or its PKCS#11 token, unless there is one."""
    with _refusals():
        from certbroker.config import load
        from certbroker.unsealing import make_key

        configuration = load(config)
        made = make_key(configuration.seal, configuration.data.directory)
    session.output.done("The seal key has been made." if made else "There is a seal key already.")


def _status(core: Core) -> Any:
    from dataclasses import asdict

    return asdict(core.broker.rotation.status())


def _rotate(core: Core) -> Rotation:
    from datetime import timedelta

    from certbroker.domain.audit import Caller

    # Nobody else has the database open, so nobody can be using an old key, and there is no request to answer in time.
    return core.broker.rotation.rotate(Caller("operator", "SealRotate"), grace=timedelta(0), patience=None)


def _json(rotation: Rotation) -> Any:
    from dataclasses import asdict

    return asdict(rotation)


@contextmanager
def _stopped_broker(config: Path) -> Iterator[Core]:
    """The broker of this configuration, held by us. Raises CommandFailed, also when it is running."""
    with _refusals():
        from certbroker.app import open_core
        from certbroker.config import load
        from certbroker.hardening import harden

        harden()
        core = open_core(load(config))
        try:
            yield core
        finally:
            core.close()


@contextmanager
def _refusals() -> Iterator[None]:
    from certbroker.cli.client import CommandFailed, ExitCode
    from certbroker.config import ConfigurationError
    from certbroker.domain.errors import BrokerError

    try:
        yield
    except (ConfigurationError, BrokerError) as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from None
