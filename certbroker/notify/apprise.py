"""Some 170 services by Apprise, which makes its connections itself.

It runs as a process of its own: one that hangs is ended, the rest of the broker does without what it imports, and what
it logs, which may be a URL with a token, goes nowhere. Our egress policy does not reach into it, so the operator has to
allow it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Final

from certbroker.domain.errors import Invalid
from certbroker.domain.events import WARNINGS
from certbroker.notify.wording import message_of
from certbroker.ports.notifier import NotDelivered, Notification, Notifier, NotifierResources, NotifierSettings

_SECONDS: Final = 20
_CHILD: Final = "certbroker.notify.apprise_child"

# What a child needs of our environment: where programs are, the language, and who is trusted.
_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "TZ")


class AppriseKind:
    """Tells by the secret `url`, which may be several, separated by spaces."""

    name = "apprise"
    for_people = True

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed

    def check(self, settings: NotifierSettings) -> None:
        unknown = settings.settings.keys() | (settings.secrets.keys() - {"url"})
        if unknown:
            raise Invalid(f"An apprise channel has the secret url and nothing else; {min(unknown)[:64]!r} is given.")
        if "://" not in settings.secrets.get("url", ""):
            raise Invalid("secrets.url is missing: give a URL as Apprise documents it, such as slack://…")
        if not self._allowed:
            raise Invalid(
                "Apprise makes connections that the egress policy does not see, and is not allowed here: the operator "
                "may set egress.allow_apprise."
            )
        if find_spec("apprise") is None:
            raise Invalid("Apprise is not installed: the operator may run pip install 'certbroker[apprise]'.")

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> Notifier:
        self.check(settings)
        return _Apprise(settings.secrets["url"])


class _Apprise:
    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, notification: Notification) -> str:
        message = message_of(notification)
        request = {
            "urls": self._url.split(),
            "title": message.subject,
            "body": f"{message.as_text()}\n\n{message.link}",
            "warning": notification.event.type in WARNINGS,
        }
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            done = subprocess.run(  # noqa: S603  # Our own module, by our own interpreter.
                [sys.executable, "-m", _CHILD],
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotDelivered(f"The service did not answer within {_SECONDS} seconds.") from None
        match done.stdout.strip():
            case b"told":
                return ""
            case b"unknown":
                raise NotDelivered("Apprise does not know a service for the URL: set the channel anew.")
            case b"refused":
                raise NotDelivered("The service, or one of them, could not be reached or did not take it.")
            case _:
                raise NotDelivered("Apprise failed.")
