"""The resources of RFC 8555 as a CA sends them, read strictly where a decision hangs on it and leniently elsewhere.

`acme.messages` knows these too, but it refuses the status `expired` and identifier types it does not know, and loses
every field it has no name for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from certbroker.domain.policy import is_dns_name
from issuers.acme.problem import Nonsense, ProblemDocument, printable, read_problem

# RFC 8555 section 8.3: only the base64url alphabet. The token becomes part of a path and a key.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,256}", re.ASCII)
_MAX_AUTHORIZATIONS: Final = 500
_MAX_ISSUERS: Final = 10


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a certificate is ordered for: `kind` is `dns` or `ip` (RFC 8738)."""

    kind: str
    value: str

    def json(self) -> dict[str, str]:
        return {"type": self.kind, "value": self.value}


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the CA's resources are (section 7.1.1) and what it says about itself."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke_cert: str | None
    key_change: str | None
    renewal_info: str | None
    """RFC 9773 section 3; None when the CA suggests no times of renewal."""
    terms_of_service: str | None
    website: str | None
    caa_identities: tuple[str, ...]
    external_account_required: bool
    profiles: Mapping[str, str] | None
    """Names and descriptions; None when the CA has no profiles."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Section 7.1.5. `token` is None for kinds that have none; the last two are those of dns-persist-01."""

    kind: str
    url: str
    status: str
    token: str | None
    error: ProblemDocument | None
    issuers: tuple[str, ...] = ()
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Authorization:
    """Section 7.1.4. `identifier` is without the `*.` of a wildcard."""

    url: str
    identifier: Identifier
    wildcard: bool
    status: str
    expires: datetime | None
    challenges: tuple[Challenge, ...]

    @property
    def name(self) -> str:
        """The name as it was ordered."""
        return f"*.{self.identifier.value}" if self.wildcard else self.identifier.value

    def error(self) -> ProblemDocument | None:
        """Why it became invalid, when a challenge says so."""
        return next((challenge.error for challenge in self.challenges if challenge.error), None)


@dataclass(frozen=True, slots=True)
class Order:
    """Section 7.1.3."""

    url: str
    status: str
    identifiers: frozenset[Identifier]
    expires: datetime | None
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    error: ProblemDocument | None
    replaces: str | None
    """The certificate that it says it replaces, by the identifier of RFC 9773 section 4.1."""


def read_directory(body: Mapping[str, Any]) -> Directory:
    """The directory in a JSON object. Like all readers here, raises IssuerUnavailable when it is none."""
    meta = body.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    profiles = meta.get("profiles")
    identities = meta.get("caaIdentities")
    return Directory(
        new_nonce=_text(body, "newNonce"),
        new_account=_text(body, "newAccount"),
        new_order=_text(body, "newOrder"),
        revoke_cert=_optional(body, "revokeCert"),
        key_change=_optional(body, "keyChange"),
        renewal_info=_optional(body, "renewalInfo"),
        terms_of_service=_optional(meta, "termsOfService"),
        website=_optional(meta, "website"),
        caa_identities=tuple(item for item in identities if isinstance(item, str)) if _is_list(identities) else (),
        external_account_required=meta.get("externalAccountRequired") is True,
        profiles={str(name)[:100]: printable(str(text)) for name, text in profiles.items()}
        if isinstance(profiles, Mapping)
        else None,
    )


def read_order(body: Mapping[str, Any], url: str) -> Order:
    """The order at `url`."""
    listed = body.get("authorizations", [])
    if not _is_list(listed) or len(listed) > _MAX_AUTHORIZATIONS or not all(isinstance(item, str) for item in listed):
        raise Nonsense("the authorizations of an order are not a list of URLs")
    identifiers = body.get("identifiers")
    return Order(
        url=url,
        status=_text(body, "status"),
        identifiers=frozenset(_identifier(item) for item in identifiers) if _is_list(identifiers) else frozenset(),
        expires=_time(body.get("expires")),
        authorizations=tuple(listed),
        finalize=_text(body, "finalize"),
        certificate=_optional(body, "certificate"),
        error=read_problem(body.get("error")),
        replaces=_optional(body, "replaces"),
    )


def read_authorization(body: Mapping[str, Any], url: str) -> Authorization:
    """The authorization at `url`."""
    challenges = body.get("challenges", [])
    if not _is_list(challenges):
        raise Nonsense("the challenges of an authorization are not a list")
    return Authorization(
        url=url,
        identifier=_identifier(body.get("identifier")),
        wildcard=body.get("wildcard") is True,
        status=_text(body, "status"),
        expires=_time(body.get("expires")),
        challenges=tuple(read_challenge(item) for item in challenges[:20] if isinstance(item, Mapping)),
    )


def read_challenge(body: Mapping[str, Any]) -> Challenge:
    """One challenge of an authorization."""
    token = _optional(body, "token")
    if token is not None and not _TOKEN.fullmatch(token):
        raise Nonsense("the token of a challenge is not in the base64url alphabet")
    return Challenge(
        kind=_text(body, "type"),
        url=_text(body, "url"),
        status=_text(body, "status"),
        token=token,
        error=read_problem(body.get("error")),
        issuers=read_issuers(body.get("issuer-domain-names")),
        account=_optional(body, "accounturi"),
    )


def read_issuers(value: object) -> tuple[str, ...]:
    """Domain names of a CA. They are shown to people and published in DNS, so nothing else passes."""
    listed = value[:_MAX_ISSUERS] if _is_list(value) else []
    return tuple(item for item in listed if isinstance(item, str) and is_dns_name(item))


def _identifier(value: object) -> Identifier:
    if not isinstance(value, Mapping):
        raise Nonsense("an identifier is not an object")
    return Identifier(_text(value, "type"), _text(value, "value").lower())


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise Nonsense(f"the field {field} is missing or no text")
    return value


def _optional(body: Mapping[str, Any], field: str) -> str | None:
    value = body.get(field)
    return value if isinstance(value, str) and value else None


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _time(value: object) -> datetime | None:
    """An RFC 3339 time in UTC; None when it is missing or unreadable, since nothing but a shortcut hangs on it."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    # Go writes nanoseconds, which Python cannot read.
    text = re.sub(r"(\.\d{6})\d+", r"\1", value)
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
