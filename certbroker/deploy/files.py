"""Files with certificates and keys, written so that nobody reads half of one, or a key beside another's certificate.

A file is replaced as a whole, by renaming. Several that belong together lie in a directory of their own behind one
symbolic link, and are replaced by replacing the link: that is one step for all of them. What people and servers open
are links that never change:

    /etc/certbroker/live/www/
        privkey.pem   -> .current/privkey.pem
        fullchain.pem -> .current/fullchain.pem
        .current      -> .set-5f3a2c…           replaced by rename
        .set-5f3a2c…/                           one version, whole
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certbroker.failpoints import failpoint

_CURRENT: Final = ".current"
_SET: Final = ".set-"
_PUBLIC: Final = 0o644
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FilesRefused(Exception):
    """The files cannot be written there, or it would not be safe. The text names the path and says why."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the files are; None is whoever writes them. `mode` is of files with a key, others can be read by all."""

    owner: int | None = None
    group: int | None = None
    mode: int = 0o600

    @property
    def directory_mode(self) -> int:
        """Whoever may read a key may enter its directory."""
        return 0o750 if self.mode & 0o040 else 0o700


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds, and whether that is a secret."""

    data: bytes
    secret: bool

    def mode(self, ownership: Ownership) -> int:
        return ownership.mode if self.secret else _PUBLIC


def write_set(directory: Path, contents: Mapping[str, Content], ownership: Ownership) -> bool:
    """Have the directory hold these files, all of them at once; False when it does already. Raises FilesRefused."""
    with _told(directory), _opened(directory, ownership) as place:
        names = _names(place)
        _check_links(directory, place, contents, names)
        before = os.readlink(_CURRENT, dir_fd=place) if _CURRENT in names else ""
        changed = not before or not _holds(place, before, contents, ownership)
        if changed:
            fresh = f"{_SET}{secrets.token_hex(8)}"
            _make_set(place, fresh, contents, ownership)
            failpoint("deploy.files.written")
            _link(place, fresh, _CURRENT)
            failpoint("deploy.files.switched")
        else:
            fresh = before
        for name in contents:
            if name not in names or os.readlink(name, dir_fd=place) != f"{_CURRENT}/{name}":
                _link(place, f"{_CURRENT}/{name}", name)
        os.fsync(place)
        # Whoever has just read the link still finds the set before it. Older ones go, and those that were cut short.
        for name in names:
            if name.startswith(_SET) and name not in (before, fresh):
                _remove_set(place, name)
        return changed


def write_file(path: Path, content: Content, ownership: Ownership) -> bool:
    """Have one file hold this, replaced as a whole; False when it does already. Raises FilesRefused."""
    with _told(path), _opened(path.parent, None) as place:
        if _is(place, path.name, content, ownership):
            return False
        # One name, so that what a writer leaves that is killed is gone with the next. A dot keeps HAProxy from it.
        temporary = f".{path.name}.certbroker"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)
        _create(place, temporary, content, ownership)
        failpoint("deploy.files.written")
        os.rename(temporary, path.name, src_dir_fd=place, dst_dir_fd=place)
        os.fsync(place)
        failpoint("deploy.files.switched")
        return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FilesRefused(f"{path} cannot be written: {error.strerror or error}.") from None


@contextmanager
def _opened(directory: Path, made_for: Ownership | None) -> Iterator[int]:
    """The directory, made where it is missing and whose it should be is given. What others may change is refused."""
    if made_for is not None and not directory.exists():
        directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        made = True
    else:
        made = False
    # Its path is the operator's, who may have a link in it. Inside nothing is followed.
    place = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        if made and made_for is not None:
            _own(place, made_for, made_for.directory_mode)
        found = os.fstat(place)
        if found.st_mode & stat.S_IWOTH:
            raise FilesRefused(
                f"Everybody may write into {directory}, so others could put files of their own there. "
                f"Take that away: chmod o-w {directory}."
            )
        yield place
    finally:
        os.close(place)


def _check_links(directory: Path, place: int, contents: Mapping[str, Content], names: list[str]) -> None:
    """Raise FilesRefused where something else has the name of one of ours."""
    for name in (_CURRENT, *contents):
        if name not in names:
            continue
        target = os.readlink(name, dir_fd=place) if _is_link(place, name) else ""
        if not target.startswith(_SET if name == _CURRENT else f"{_CURRENT}/"):
            raise FilesRefused(f"{directory / name} is there and is not ours: move it away, or name another directory.")


def _names(place: int) -> list[str]:
    with os.scandir(place) as entries:
        return [entry.name for entry in entries]


def _is_link(place: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode)


def _holds(place: int, name: str, contents: Mapping[str, Content], ownership: Ownership) -> bool:
    try:
        inside = os.open(name, _DIRECTORY, dir_fd=place)
    except OSError:
        return False
    try:
        return all(_is(inside, each, content, ownership) for each, content in contents.items())
    finally:
        os.close(inside)


def _is(place: int, name: str, content: Content, ownership: Ownership) -> bool:
    """Whether a file is as it should be, its owner and its mode among it."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != content.mode(ownership):
            return False
        if ownership.owner not in (None, found.st_uid) or ownership.group not in (None, found.st_gid):
            return False
        return file.read(len(content.data) + 1) == content.data


def _make_set(place: int, name: str, contents: Mapping[str, Content], ownership: Ownership) -> None:
    os.mkdir(name, 0o700, dir_fd=place)
    inside = os.open(name, _DIRECTORY, dir_fd=place)
    try:
        for each, content in contents.items():
            _create(inside, each, content, ownership)
        _own(inside, ownership, ownership.directory_mode)
        os.fsync(inside)
    finally:
        os.close(inside)


def _create(place: int, name: str, content: Content, ownership: Ownership) -> None:
    """A new file, whose owner and mode are right before anything is in it."""
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=place)
    with os.fdopen(descriptor, "wb") as file:
        _own(descriptor, ownership, content.mode(ownership))
        file.write(content.data)
        file.flush()
        os.fsync(descriptor)


def _own(descriptor: int, ownership: Ownership, mode: int) -> None:
    if ownership.owner is not None or ownership.group is not None:
        os.fchown(
            descriptor,
            -1 if ownership.owner is None else ownership.owner,
            -1 if ownership.group is None else ownership.group,
        )
    os.fchmod(descriptor, mode)


def _link(place: int, target: str, name: str) -> None:
    """Make a symbolic link, or replace it in one step."""
    temporary = f"{name}.new" if name.startswith(".") else f".{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=place)
    os.symlink(target, temporary, dir_fd=place)
    os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)


def _remove_set(place: int, name: str) -> None:
    inside = os.open(name, _DIRECTORY, dir_fd=place)
    try:
        for each in _names(inside):
            os.unlink(each, dir_fd=inside)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=place)
