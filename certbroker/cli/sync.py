"""`certbroker sync`: keeps the files of a certificate on a machine as they are in the vault, and has servers take them.

It asks whether there is anything new, with the tag of what it has, and leaves what is there when the broker is away.
What it has done is in a small file beside the files, so that a command that has failed is run again.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certbroker.cli.output import version_of
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

if TYPE_CHECKING:
    from certbroker.cli.client import Client
    from certbroker.deploy import LocalDeployer, Target

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIRST_RETRY = 30.0

_WHERE = "Where it is put"
_THEN = "What is done then"
_WHEN = "When"

_Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        file_okay=False,
        rich_help_panel=_WHERE,
        help="Gets cert.pem, chain.pem, fullchain.pem and privkey.pem, replaced all at once.",
    ),
]
_Combined = Annotated[
    Path | None,
    typer.Option(rich_help_panel=_WHERE, help="A file with certificate, chain and key, as HAProxy reads it."),
]
_PFX = Annotated[
    Path | None, typer.Option("--pfx", rich_help_panel=_WHERE, help="A file with a PKCS#12 without a password.")
]
_Owner = Annotated[str | None, typer.Option(rich_help_panel=_WHERE, help="Whose the files are.")]
_Group = Annotated[str | None, typer.Option(rich_help_panel=_WHERE, help="The group of the files.")]
_Mode = Annotated[str, typer.Option(rich_help_panel=_WHERE, help="Of the files with the key, in octal.")]
_Reload = Annotated[
    str | None, typer.Option(metavar="SERVER", rich_help_panel=_THEN, help="nginx, haproxy, or systemd:UNIT.")
]
_Hook = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        rich_help_panel=_THEN,
        help="A program by its absolute path, and its arguments. It gets certbot's variables. No shell reads it.",
    ),
]
_Timeout = Annotated[float, typer.Option(metavar="SECONDS", rich_help_panel=_THEN, help="For each command.")]
_Every = Annotated[
    str | None,
    typer.Option(metavar="TIME", rich_help_panel=_WHEN, help="Go on, and look so often: 30m, 1h. Once otherwise."),
]
_Token = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="A file with a token, read each time, instead of a client secret."),
]


@vault_command
def sync(
    session: Session,
    *,
    certificate: Annotated[str, typer.Option("--certificate", "-c", metavar="NAME", help="Name of the certificate.")],
    directory: _Directory = None,
    combined: _Combined = None,
    pfx: _PFX = None,
    owner: _Owner = None,
    group: _Group = None,
    mode: _Mode = "0600",
    reload: _Reload = None,
    hook: _Hook = None,
    timeout: _Timeout = 120.0,
    every: _Every = None,
    token_file: _Token = None,
) -> None:
    """Keep the files of a certificate on this machine as they are in the vault, and have servers take them."""
    from certbroker.cli.client import CommandFailed, ExitCode
    from certbroker.deploy import LocalDeployer, Target

    if directory is None and combined is None and pfx is None:
        raise CommandFailed(ExitCode.USAGE, "Where to? Give --directory, --combined or --pfx.")
    pause = None if every is None else _seconds(every)
    try:
        command = tuple(shlex.split(hook)) if hook else ()
        target = Target(
            directory and directory.absolute(),
            combined and combined.absolute(),
            pfx and pfx.absolute(),
            owner,
            group,
            mode,
            reload,
            command,
            timeout=timeout,
        )
    except ValueError as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from None
    vault = session.vault if token_file is None else session.vault_by(token_file)
    name = vault.url.removeprefix("https://").partition(".")[0]
    mirror = Mirror(vault, certificate, LocalDeployer("sync", name, certificate, target), target)
    if pause is None:
        _say(session, certificate, mirror.update())
    else:
        _go_on(session, certificate, mirror, pause)


def _go_on(session: Session, certificate: str, mirror: Mirror, pause: float) -> None:
    """For ever: what fails is told, and tried again, sooner at first than it would be looked at again."""
    import random

    from certbroker.cli.client import CommandFailed, ExitCode

    failures = 0
    while True:
        try:
            _say(session, certificate, mirror.update())
            failures, wait = 0, pause
        except CommandFailed as failure:
            if failure.exit_code is ExitCode.USAGE:
                raise
            failures += 1
            wait = min(pause, _FIRST_RETRY * 2 ** min(failures - 1, 10))
            session.output.note(f"{certificate}: {failure} It is tried again in {wait:.0f} seconds.")
        # Many machines that were started together do not come together.
        time.sleep(wait * random.uniform(0.9, 1.1))  # noqa: S311 - nothing secret depends on it


def _say(session: Session, certificate: str, version: str | None) -> None:
    if version is not None:
        session.output.done(f"certificate {certificate} is here, version {version}.", {"version": version})


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done the last time: for which URL and settings, with which tag, and what is there."""

    url: str = ""
    settings: str = ""
    etag: str = ""
    sha256: str = ""


class Mirror:
    """The files of one certificate on this machine."""

    def __init__(self, vault: Client, certificate: str, deployer: LocalDeployer, target: Target) -> None:
        self._vault = vault
        self._certificate = certificate
        self._deployer = deployer
        file = target.combined or target.pfx
        self._files = [each for each in (target.combined, target.pfx) if each is not None]
        if target.directory is not None:
            self._files.append(target.directory / "privkey.pem")
            self._note = target.directory / ".sync"
        else:
            assert file is not None
            # A dot keeps HAProxy from it.
            self._note = file.with_name(f".{file.name}.sync")

    def update(self) -> str | None:
        """Fetch what is new, write it and run the commands; the version, or None where all is as it should be.

        Raises CommandFailed. What is there stays then, and what is missing is done the next time.
        """
        from certbroker.cli.client import CommandFailed, ExitCode
        from certbroker.domain.deployment import read_material
        from certbroker.domain.errors import BrokerError
        from certbroker.domain.policy import PEM
        from certbroker.ports.deployer import DeploymentFailed

        path = at("secrets", self._certificate)
        url = self._vault.url + path
        done = self._read()
        same = (
            done.url == url and done.settings == self._deployer.settings and all(each.exists() for each in self._files)
        )
        found = self._vault.get_unless(path, done.etag if same else "", outContentType=PEM)
        if found is None:
            return None
        secret, etag = found
        try:
            material = read_material(self._deployer.vault, self._certificate, version_of(secret["id"]), _value(secret))
            changed = self._deployer.write(material)
            if changed or not same or done.sha256 != material.sha256:
                # Without a tag, until the commands have succeeded: who is cut off here asks for all of it again.
                self._write(_Done(url, self._deployer.settings, "", ""))
                self._deployer.run(material)
            self._write(_Done(url, self._deployer.settings, etag, material.sha256))
        except (BrokerError, DeploymentFailed) as error:
            raise CommandFailed(ExitCode.REFUSED, str(error)) from None
        return material.version

    def _read(self) -> _Done:
        try:
            return _Done(**json.loads(self._note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return _Done()  # Nothing was done yet, or it is not known: then all of it is done again.

    def _write(self, done: _Done) -> None:
        from certbroker.deploy.files import Content, FilesRefused, Ownership, write_file
        from certbroker.ports.deployer import DeploymentFailed

        try:
            write_file(self._note, Content(json.dumps(asdict(done)).encode(), secret=True), Ownership())
        except FilesRefused as error:
            raise DeploymentFailed(str(error)) from None


def _value(secret: Any) -> str:
    from certbroker.cli.client import CommandFailed, ExitCode

    if not isinstance(secret, dict) or not isinstance(secret.get("value"), str) or "kid" not in secret:
        raise CommandFailed(ExitCode.REFUSED, "The secret is not that of a certificate.")
    return str(secret["value"])


def _seconds(text: str) -> float:
    from certbroker.cli.client import CommandFailed, ExitCode

    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None or int(match[1]) * _UNITS[match[2]] < 5:
        raise CommandFailed(ExitCode.USAGE, f"{text[:20]!r} is no time such as 30m or 1h, of 5 seconds at least.")
    return float(int(match[1]) * _UNITS[match[2]])
