"""Where a certificate goes on this machine, and what is run once it is there."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from certbroker.commands import CommandFailed, run_command
from certbroker.deploy.files import Content, FilesRefused, Ownership, write_file, write_set
from certbroker.domain.deployment import Material
from certbroker.failpoints import failpoint
from certbroker.ports.deployer import DeploymentFailed

_MAX_TIMEOUT: Final = 600.0
_UNIT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}", re.ASCII)
# Where the programs are that only administrators run, which are not on the PATH of others.
_SYSTEM: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Target:
    """One place. ValueError, naming the field, for what cannot work."""

    directory: Path | None = None
    """Gets cert.pem, chain.pem, fullchain.pem and privkey.pem, replaced all at once."""
    combined: Path | None = None
    """A file that gets the certificate, the chain and the key, as HAProxy reads it."""
    pfx: Path | None = None
    """A file that gets all of it as a PKCS#12 without a password."""
    owner: str | None = None
    group: str | None = None
    mode: str = "0600"
    """Of files with the key, in octal."""
    reload: str | None = None
    """`nginx`, `haproxy`, or `systemd:` and the name of a unit."""
    command: tuple[str, ...] = ()
    """A program by its absolute path, and its arguments. No shell reads them."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the command gets besides; for its credentials. These values never appear in messages."""
    timeout: float = 120.0
    """Seconds for each command. Then it and what it has started are killed."""

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what cannot work."""
        if not (self.directory or self.combined or self.pfx or self.command):
            raise ValueError("set at least one of directory, combined, pfx and command.")
        for label, path in (("directory", self.directory), ("combined", self.combined), ("pfx", self.pfx)):
            if path is not None and (not path.is_absolute() or ".." in path.parts or path == path.parent):
                raise ValueError(f"{label} is an absolute path without '..'.")
        if self.command and not Path(self.command[0]).is_absolute():
            raise ValueError("command begins with the absolute path of a program.")
        if not 0 < self.timeout <= _MAX_TIMEOUT:
            raise ValueError(f"timeout is at most {_MAX_TIMEOUT:g} seconds.")
        _mode(self.mode)
        if self.reload is not None:
            _reloading(self.reload)

    @property
    def digest(self) -> str:
        """Another one for another configuration."""
        # Without the values of the environment: credentials change nothing about where the files are.
        said = "\0".join((repr(self), *sorted(self.environment)))
        return hashlib.sha256(said.encode()).hexdigest()


class LocalDeployer:
    """The `Deployer` port over the files and programs of this machine."""

    def __init__(self, name: str, vault: str, certificate: str, target: Target) -> None:
        self.name = name
        self.vault = vault
        self.certificate = certificate
        self.settings = target.digest
        self._target = target

    def deploy(self, material: Material) -> None:
        self.write(material)
        self.run(material)

    def write(self, material: Material) -> bool:
        """Write the files; False when they are there already. Raises DeploymentFailed."""
        target, ownership = self._target, self._ownership()
        key = material.key.encode()
        contents = {
            "cert.pem": Content(material.cert.encode(), secret=False),
            "chain.pem": Content(material.chain.encode(), secret=False),
            "fullchain.pem": Content(material.fullchain.encode(), secret=False),
            "privkey.pem": Content(key, secret=True),
        }
        changed = False
        try:
            if target.directory is not None:
                changed |= write_set(target.directory, contents, ownership)
            if target.combined is not None:
                changed |= write_file(target.combined, Content(material.combined.encode(), secret=True), ownership)
            if target.pfx is not None:
                changed |= write_file(target.pfx, Content(material.pfx, secret=True), ownership)
        except FilesRefused as error:
            raise DeploymentFailed(str(error)) from None
        return changed

    def run(self, material: Material) -> None:
        """Run the commands, the reload first. Raises DeploymentFailed."""
        target = self._target
        commands = [*(_reloading(target.reload) if target.reload else ())]
        if target.command:
            commands.append(target.command)
        environment, secrets = self._environment(material), [*_lines(material.key), *target.environment.values()]
        for command in commands:
            failpoint("deploy.command.before")
            try:
                run_command(_found(command), environment, target.timeout, secrets)
            except CommandFailed as failure:
                raise DeploymentFailed(f"The command {command[0]} {failure}.") from None
            failpoint("deploy.command.after")

    def _ownership(self) -> Ownership:
        target = self._target
        try:
            owner = None if target.owner is None else pwd.getpwnam(target.owner).pw_uid
            group = None if target.group is None else grp.getgrnam(target.group).gr_gid
        except KeyError as error:
            raise DeploymentFailed(f"There is no such user or group here: {error.args[0]}.") from None
        return Ownership(owner, group, _mode(target.mode))

    def _environment(self, material: Material) -> dict[str, str]:
        """The names that certbot gives to its deploy hooks, and ours."""
        target = self._target
        paths = {"DIRECTORY": target.directory, "COMBINED": target.combined, "PFX": target.pfx}
        lineage = target.directory or next((path.parent for path in (target.combined, target.pfx) if path), None)
        return {
            **target.environment,
            "RENEWED_LINEAGE": "" if lineage is None else str(lineage),
            "RENEWED_DOMAINS": " ".join(material.names),
            "CERTBROKER_DEPLOYMENT": self.name,
            "CERTBROKER_VAULT": material.vault,
            "CERTBROKER_CERTIFICATE": material.certificate,
            "CERTBROKER_VERSION": material.version,
            "CERTBROKER_SHA256": material.sha256,
            "CERTBROKER_NOT_AFTER": material.not_after.isoformat(),
            **{f"CERTBROKER_{label}": str(path) for label, path in paths.items() if path is not None},
        }


def _mode(text: str) -> int:
    """The mode of files with a key. Raises ValueError where others could read or change it."""
    try:
        mode = int(text, 8)
    except ValueError:
        raise ValueError("mode is a number in octal, such as 0640.") from None
    if mode & ~0o640 or not mode & 0o400:
        raise ValueError("mode is 0400, 0440, 0600 or 0640: others could read or change the key otherwise.")
    return mode


def _reloading(text: str) -> tuple[tuple[str, ...], ...]:
    """The commands by which a server takes the new files. Raises ValueError."""
    kind, _, unit = text.partition(":")
    if text == "nginx":
        return ("nginx", "-t", "-q"), ("nginx", "-s", "reload")
    if text == "haproxy":
        # Its unit checks the configuration before it reloads.
        return (("systemctl", "reload", "haproxy"),)
    if kind == "systemd" and _UNIT.fullmatch(unit):
        # What the operator has stopped remains so.
        return (("systemctl", "try-reload-or-restart", unit),)
    raise ValueError("reload is nginx, haproxy, or systemd: and the name of a unit.")


def _found(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with its program's path."""
    if Path(command[0]).is_absolute():
        return command
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM))
    return (shutil.which(command[0], path=path) or command[0], *command[1:])


def _lines(key: str) -> Iterable[str]:
    """What must not be quoted of a command that prints the key."""
    lines = key.splitlines()
    return [*lines, "".join(line for line in lines if not line.startswith("-"))]
