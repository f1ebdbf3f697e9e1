"""What CAs allow, as their operators publish it or as an issuer's options say: `orders=300/3h,domain=50/7d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from certbroker.domain.budget import UNLIMITED, Limit, Limits, limit
from certbroker.domain.errors import Invalid

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)

# https://letsencrypt.org/docs/rate-limits/ as of 5 August 2026.
LETS_ENCRYPT: Final = Limits(
    orders=limit(300, 3 * _HOUR),
    domain=limit(50, _WEEK),
    names=limit(5, _WEEK),
    failures=limit(5, _HOUR),
    consecutive=limit(1152, 1152 * _DAY),
    exempts_renewals=True,
)
# https://letsencrypt.org/docs/staging-environment/ as of 25 November 2025.
LETS_ENCRYPT_STAGING: Final = Limits(
    orders=limit(1500, 3 * _HOUR),
    domain=limit(30_000, _WEEK),
    names=limit(30_000, _WEEK),
    failures=limit(200, _HOUR),
    consecutive=limit(3600, 6 * _HOUR),
    exempts_renewals=True,
)
# For all others: wide enough for a large private CA with certificates of an hour, and still an end to any loop.
ANY_CA: Final = Limits(
    orders=limit(10_000, _HOUR),
    names=limit(100, _HOUR),
    failures=limit(100, _HOUR),
)

_NAMES: Final = ("orders", "domain", "set", "failures", "consecutive")
_UNITS: Final = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": _HOUR, "d": _DAY}
_ENTRY: Final = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,6})([smhd])", re.ASCII)
_MAX_PERIOD: Final = timedelta(days=3660)


def default_limits(directory: str) -> Limits:
    """What the CA with this directory allows, as far as is known here."""
    host = (urlsplit(directory).hostname or "").lower()
    if host != "letsencrypt.org" and not host.endswith(".letsencrypt.org"):
        return ANY_CA
    return LETS_ENCRYPT_STAGING if "staging" in host else LETS_ENCRYPT


def read_limits(text: str | None, directory: str) -> Limits:
    """The limits of the CA, with those that the option names in place of the known ones. Raises Invalid.

    `none` stands for no limit, alone or for one of them.
    """
    if text is None:
        return default_limits(directory)
    if text.lower() == "none":
        return UNLIMITED
    given: dict[str, Limit | None] = {}
    for part in text.lower().split(","):
        name, _, value = part.partition("=")
        if name not in _NAMES or name in given:
            raise Invalid(
                f"org_details.id: limits has {part[:64]!r}; write for example limits=orders=300/3h,domain=50/7d with "
                f"each of {', '.join(_NAMES)} at most once, or limits=none."
            )
        given[name] = _limit(name, value)
    known = default_limits(directory)
    return Limits(
        orders=given.get("orders", known.orders),
        domain=given.get("domain", known.domain),
        names=given.get("set", known.names),
        failures=given.get("failures", known.failures),
        consecutive=given.get("consecutive", known.consecutive),
        exempts_renewals=known.exempts_renewals,
    )


def write_limits(limits: Limits, directory: str) -> str | None:
    """The text that `read_limits` reads back as the same limits; None when they are the known ones."""
    if limits == UNLIMITED:
        return "none"
    known, wanted = _named(default_limits(directory)), _named(limits)
    return ",".join(f"{name}={_text(wanted[name])}" for name in _NAMES if wanted[name] != known[name]) or None


def _named(limits: Limits) -> dict[str, Limit | None]:
    values = (limits.orders, limits.domain, limits.names, limits.failures, limits.consecutive)
    return dict(zip(_NAMES, values, strict=True))


def _limit(name: str, value: str) -> Limit | None:
    if value == "none":
        return None
    entry = _ENTRY.fullmatch(value)
    if entry is None or int(entry[2]) * _UNITS[entry[3]] > _MAX_PERIOD:
        raise Invalid(
            f"org_details.id: limits has {name}={value[:64]}; write a count and a time in s, m, h or d, such as "
            f"{name}=50/7d, or {name}=none."
        )
    return limit(int(entry[1]), int(entry[2]) * _UNITS[entry[3]])


def _text(value: Limit | None) -> str:
    if value is None:
        return "none"
    seconds = round(value.period.total_seconds())
    unit, size = next(
        (unit, size) for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if not seconds % size
    )
    return f"{value.burst}/{seconds // size}{unit}"
