"""Notifiers: one module for each kind of channel, and the registry of the kinds."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from certbroker.ports.notifier import NotifierKind

if TYPE_CHECKING:
    from certbroker.notify.mail import MailServer

_ENTRY_POINTS: Final = "certbroker.notifiers"


def kinds(server: MailServer | None, *, apprise: bool) -> dict[str, NotifierKind]:
    """Every kind by its name: ours, and those that other packages bring by entry point.

    `server` sends mails; `apprise` says whether the operator lets Apprise make connections of its own.
    """
    # Not for the process in which Apprise runs, which is started for each notification.
    from certbroker.notify.apprise import AppriseKind
    from certbroker.notify.mail import MailKind
    from certbroker.notify.webhook import WebhookKind

    ours: tuple[NotifierKind, ...] = (MailKind(server), WebhookKind(), AppriseKind(allowed=apprise))
    found = {kind.name: kind for kind in ours}
    for entry in entry_points(group=_ENTRY_POINTS):
        kind: NotifierKind = entry.load()
        found.setdefault(kind.name, kind)
    return found
