"""What an issuer of a private CA is configured with, in `org_details.id`.

| option | meaning |
|---|---|
| `ca` | the CA in the vault, or `vault/name` for one that another vault lends |
| `profile` | what its certificates are for: server, client, code-signing, smime or custom |
| `days` | for how long they are valid at most |
| `names` | which names they may have, such as `dns:corp.example,ip:10.0.0.0/8`; none is all that the CA allows |
| `over` | the CA over whose cross certificate the chain leads |
| `chain` | `full` for a chain with the root; without, servers send what their clients do not have |
| `ekus`, `usages`, `sans` | what a custom profile consists of |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509

from certbroker.domain.errors import Invalid
from certbroker.ports.issuer import IssuerSettings
from issuers.options import read_options
from issuers.private_ca.constraints import name_constraints
from issuers.private_ca.profiles import CUSTOM, MAX_DAYS, NAMES, PROFILES, SERVER, Profile, custom, with_days

_KNOWN: Final = ("ca", "profile", "days", "names", "over", "chain", "ekus", "usages", "sans")
_OF_CUSTOM: Final = ("ekus", "usages", "sans")
_CA: Final = re.compile(r"([A-Za-z0-9-]{1,24}/)?[A-Za-z0-9-]{1,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PrivateCASettings:
    """Which CA signs, what for, and how a chain is put together. `names` are the permitted subtrees, if limited."""

    ca: str
    profile: Profile = SERVER
    names: x509.NameConstraints | None = None
    over: str | None = None
    with_root: bool = False


def read_settings(settings: IssuerSettings) -> PrivateCASettings:
    """The settings; Invalid, naming the option, when they are incomplete or malformed."""
    return _read(settings.organization_id or "")


# An issuer is opened for each certificate.
@lru_cache(maxsize=256)
def _read(text: str) -> PrivateCASettings:
    given = read_options(text, _KNOWN)
    if "ca" not in given:
        raise Invalid("org_details.id lacks the option ca: write ca=<name of a CA>; `certbroker ca list` shows them.")
    for option in ("ca", "over"):
        if option in given and not _CA.fullmatch(given[option]):
            raise Invalid(f"org_details.id: {option}={given[option][:64]} is neither a CA's name nor vault/name.")
    if given.get("chain", "full") not in ("full", "short"):
        raise Invalid("org_details.id: chain is full or short.")
    names = name_constraints(_list(given.get("names")), ()) if "names" in given else None
    return PrivateCASettings(given["ca"], read_profile(given), names, given.get("over"), given.get("chain") == "full")


def read_profile(given: dict[str, str]) -> Profile:
    """The profile that the options `profile`, `days` and those of a custom one describe. Raises Invalid."""
    name = given.get("profile", SERVER.name).lower()
    days = _days(given.get("days"))
    if name == CUSTOM:
        ekus, usages, sans = (_list(given.get(option)) for option in _OF_CUSTOM)
        return with_days(custom(ekus, usages, sans), days)
    if name not in PROFILES:
        raise Invalid(f"profile {name[:40]!r} is none: use one of {', '.join(NAMES)}.")
    extra = next((option for option in _OF_CUSTOM if option in given), None)
    if extra is not None:
        raise Invalid(f"The option {extra} has an effect only with profile=custom.")
    return with_days(PROFILES[name], days)


def _list(value: str | None) -> list[str]:
    return [part for part in (value or "").split(",") if part]


def _days(value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", value, re.ASCII) or not 1 <= int(value) <= MAX_DAYS:
        raise Invalid(f"days={value[:20]} is not a number of days from 1 to {MAX_DAYS}.")
    return int(value)
