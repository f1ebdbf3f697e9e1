"""What every stored object has: a kind, a name, versions and attributes.

Object times are Unix seconds in UTC, as in the Key Vault contract; they may lie beyond 2038 and beyond year 9999.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from msgspec import Struct, field

from certbroker.domain.errors import Invalid

NAME: Final = re.compile(r"[0-9a-zA-Z-]{1,127}", re.ASCII)
VAULT_NAME: Final = re.compile(r"[a-zA-Z](?:[0-9a-zA-Z]|-(?!-)){1,22}[0-9a-zA-Z]", re.ASCII)
VERSION: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

MAX_TAGS: Final = 15
MAX_TAG_CHARS: Final = 256

T = TypeVar("T")

# The latest second a client may set. Python and JavaScript both hold it exactly, and it fits a 64-bit column.
MAX_TIME: Final = 2**53 - 1


class Kind(StrEnum):
    """The three kinds of object a vault holds."""

    SECRET = "secret"  # noqa: S105 - the name of a kind
    KEY = "key"
    CERTIFICATE = "certificate"


class Attributes(Struct, frozen=True):
    """Whether an object is on, when it may be used, and when it was made and changed. All times in Unix seconds."""

    created: int
    updated: int
    enabled: bool = True
    not_before: int | None = None
    expires: int | None = None


class Changes(Struct, frozen=True):
    """What a caller sets on an object; None keeps what is there. `tags` replaces the whole map."""

    enabled: bool | None = None
    not_before: int | None = None
    expires: int | None = None
    tags: dict[str, str] | None = None
    content_type: str | None = None

    def __post_init__(self) -> None:
        for label, value in (("nbf", self.not_before), ("exp", self.expires)):
            if value is not None and not 0 <= value <= MAX_TIME:
                raise Invalid(f"attributes.{label} must be between 0 and {MAX_TIME} seconds since 1970.")
        if self.not_before is not None and self.expires is not None and self.not_before >= self.expires:
            raise Invalid("attributes.exp must be later than attributes.nbf.")
        check_tags(self.tags or {})

    def attributes(self, now: int) -> Attributes:
        """The attributes of a new object made at `now`."""
        return Attributes(now, now, self.enabled is not False, self.not_before, self.expires)


class Deletion(Struct, frozen=True):
    """When an object was deleted and when it will be purged, in Unix seconds."""

    deleted: int
    scheduled_purge: int


class Recovery(Struct, frozen=True):
    """A vault's promise about deleted objects, shown with every object."""

    days: int
    purge_protection: bool

    @property
    def level(self) -> str:
        """The Key Vault recovery level: the 90-day levels have plain names, shorter periods are "customized"."""
        name = "Recoverable" if self.days >= 90 else "CustomizedRecoverable"
        return name if self.purge_protection else f"{name}+Purgeable"


class Vault(Struct, frozen=True):
    """A named container. `id` is its stable identity: names may be given away, ids never."""

    id: int
    name: str
    tier: str
    recovery: Recovery
    created: int = 0


class Listed(Struct, frozen=True):
    """One row of a listing: an object or one of its versions, without any payload."""

    name: str
    version: str
    attributes: Attributes
    tags: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    managed: bool = False
    deletion: Deletion | None = None
    thumbprint: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a listing, and where the next part starts."""

    items: tuple[T, ...]
    next: str | None = None


def object_path(kind: Kind, name: str, version: str = "") -> str:
    """The path of an object, or of a version, below the URL of its vault."""
    return f"/{kind}s/{name}/{version}" if version else f"/{kind}s/{name}"


def check_name(name: str) -> str:
    """The name itself, or Invalid."""
    if NAME.fullmatch(name) is None:
        raise Invalid(f"The name {name[:140]!r} is not allowed: use 1 to 127 characters out of 0-9, a-z, A-Z and '-'.")
    return name


def check_version(version: str) -> str:
    """The version itself, in lower case, or Invalid."""
    if VERSION.fullmatch(version.lower()) is None:
        raise Invalid("The version is not valid: it has 32 hexadecimal digits.")
    return version.lower()


def check_tags(tags: dict[str, str]) -> None:
    """Raise Invalid when there are too many tags or one is too long."""
    if len(tags) > MAX_TAGS:
        raise Invalid(f"An object has at most {MAX_TAGS} tags; {len(tags)} were given.")
    for key, value in tags.items():
        if len(key) > MAX_TAG_CHARS or len(value) > MAX_TAG_CHARS:
            raise Invalid(f"The names and values of tags have at most {MAX_TAG_CHARS} characters.")
