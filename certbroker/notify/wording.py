"""What an event says to people: a subject, what has happened, the facts, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from certbroker.domain.events import EventType
from certbroker.domain.one_line import one_line
from certbroker.ports.notifier import Notification

_MAX_SUBJECT: Final = 160
_MAX_TEXT: Final = 2000

_WHAT: Final = {
    EventType.CERTIFICATE_NEW_VERSION: "has a new version",
    EventType.CERTIFICATE_NEAR_EXPIRY: "expires {when}",
    EventType.CERTIFICATE_EXPIRED: "has expired",
    EventType.KEY_NEW_VERSION: "has a new version",
    EventType.KEY_NEAR_EXPIRY: "expires {when}",
    EventType.KEY_EXPIRED: "has expired",
    EventType.SECRET_NEW_VERSION: "has a new version",
    EventType.SECRET_NEAR_EXPIRY: "expires {when}",
    EventType.SECRET_EXPIRED: "has expired",
    EventType.CERTIFICATE_RENEWAL_STARTED: "is being renewed",
    EventType.CERTIFICATE_RENEWAL_FAILED: "could not be renewed",
    EventType.CERTIFICATE_RENEWAL_SUGGESTED: "should be renewed earlier than planned",
    EventType.CERTIFICATE_RENEWAL_STOPPED: "is renewed again and again, and not for now",
    EventType.CERTIFICATE_ACTIVATED: "has a new version in use",
    EventType.CERTIFICATE_NEEDS_PERSON: "needs somebody to act",
    EventType.CERTIFICATE_REVOKED: "has been revoked",
    EventType.CERTIFICATE_REVOCATION_FOUND: "was found revoked at its CA",
    EventType.CERTIFICATE_REVOCATION_FAILED: "could not be revoked",
    EventType.CERTIFICATE_NOT_DEPLOYED: "is not where it should be",
    EventType.CERTIFICATE_DEPLOYED: "is where it should be again",
    EventType.UNKNOWN_CERTIFICATE: "was found that is in no vault",
}

_ADVICE: Final = {
    EventType.CERTIFICATE_NEAR_EXPIRY: "This version is the one in use. Make or merge a new one, or see why it is not "
    "renewed by itself.",
    EventType.CERTIFICATE_EXPIRED: "Clients refuse it from now on. Make, merge or import a new version.",
    EventType.KEY_NEAR_EXPIRY: "Rotate the key, or give it a rotation policy that does.",
    EventType.KEY_EXPIRED: "It signs, encrypts and wraps nothing any more: rotate it, or change when it expires.",
    EventType.SECRET_NEAR_EXPIRY: "Set a new version of the secret, and let its users change over.",
    EventType.SECRET_EXPIRED: "Set a new version of the secret, and let its users change over.",
    EventType.CERTIFICATE_RENEWAL_FAILED: "The version in use goes on being served. The broker tries again by itself "
    "unless it says otherwise above.",
    EventType.CERTIFICATE_RENEWAL_STOPPED: "The version in use goes on being served, for as long as it is valid. Look "
    "for the cause: without that, the next renewal is only one more.",
    EventType.CERTIFICATE_NEEDS_PERSON: "Nothing goes on before somebody does what is said above.",
    EventType.CERTIFICATE_REVOKED: "Whoever still serves this version must change over to another one.",
    EventType.UNKNOWN_CERTIFICATE: "Whoever holds its key can pretend to be one of these names. Find out who has "
    "ordered it. Then have certbroker discovery adopt or ignore it, or have it revoked.",
    EventType.CERTIFICATE_REVOCATION_FOUND: "Nobody has revoked it here. Find out who did, and why, before its "
    "successor meets the same end.",
    EventType.CERTIFICATE_REVOCATION_FAILED: "It is still valid, and nobody goes on trying: revoke it again, or in the "
    "CA's own way.",
    EventType.REVOCATION_UNKNOWN: "They are neither called good nor revoked meanwhile, and it is asked again by "
    "itself. See whether something on the way refuses, or whether the CA publishes somewhere else: "
    "certbroker revocation sources.",
    EventType.CERTIFICATE_NOT_DEPLOYED: "Renewing it is of no use before it is served: deploy the version that is "
    "named here, and have the server load it.",
}

# What a digest tells, by the names under which its event has it.
DIGEST: Final = {
    "expiring": "Expires in the coming weeks",
    "failing": "Could not be renewed, or waits for somebody",
    "replaced": "Expires too, and is already replaced",
}


@dataclass(frozen=True, slots=True)
class Message:
    """An event in words. All of it is plain text on one line, except the lines of a list."""

    vault: str
    subject: str
    said: str
    facts: tuple[tuple[str, str], ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    advice: str = ""
    link: str = ""

    def as_text(self) -> str:
        """All but the subject."""
        parts = [self.said]
        parts += ["\n".join((f"{label}:", *(f"- {line}" for line in lines))) for label, lines in self.lists]
        parts.append("\n".join(f"{label}: {value}" for label, value in self.facts))
        parts.append(self.advice)
        return "\n\n".join(part for part in parts if part)


def message_of(notification: Notification) -> Message:
    """What people read."""
    event = notification.event
    match event.type:
        case EventType.CHANNEL_TEST:
            subject = "Test of a notification channel"
            said = event.message
        case EventType.VAULT_DIGEST:
            subject = "Certificates in the coming weeks"
            said = event.message
        case EventType.ISSUER_WARNING:
            subject = f"Issuer {event.name} needs attention"
            said = event.message
        case EventType.REVOCATION_UNKNOWN:
            subject = "Whether certificates are revoked cannot be known"
            said = event.message
        case _:
            what = _WHAT[event.type].format(when=_distance(event.not_after, event.at))
            subject = f"{event.kind.value.capitalize()} {event.name} {what}"
            said = f"The {event.kind.value} {event.name} {what}. {event.message}"
    lists = tuple(
        (label, tuple(one_line(line, _MAX_TEXT) for line in event.details[name].splitlines()))
        for name, label in DIGEST.items()
        if event.type is EventType.VAULT_DIGEST and event.details.get(name)
    )
    return Message(
        one_line(notification.vault, _MAX_SUBJECT),
        one_line(f"[{notification.vault}] {subject}", _MAX_SUBJECT),
        one_line(said, _MAX_TEXT),
        tuple(_facts(notification)),
        lists,
        _ADVICE.get(event.type, ""),
        one_line(notification.object_url, _MAX_TEXT),
    )


def _facts(notification: Notification) -> list[tuple[str, str]]:
    event = notification.event
    found = {
        "Vault": notification.vault,
        event.kind.value.capitalize(): event.name if event.type is not EventType.ISSUER_WARNING else "",
        "Version": event.version,
        "Valid from": _date(event.not_before),
        "Valid until": _date(event.not_after),
    }
    if event.type is not EventType.VAULT_DIGEST:
        found |= event.details
    found["Happened"] = f"{event.at:%Y-%m-%d %H:%M:%S} UTC"
    return [(_label(label), one_line(value, _MAX_TEXT)) for label, value in found.items() if value]


def _label(text: str) -> str:
    line = one_line(text, 60)
    return line[:1].upper() + line[1:]


def _date(seconds: int | None) -> str:
    if seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "after the year 9999"


def _distance(not_after: int | None, at: datetime) -> str:
    """How far away the end of validity was when it happened."""
    if not_after is None:
        return "soon"
    left = not_after - int(at.timestamp())
    days, hours = left // 86_400, left // 3600
    if left < 0:
        return "now"
    if days >= 1:
        return f"in {days} day{'s' * (days != 1)}"
    return f"in {hours} hour{'s' * (hours != 1)}" if hours else "within the hour"
