"""Mail by SMTP: what people read, in plain text and in HTML."""

from __future__ import annotations

import hashlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from typing import Final, Literal

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from certbroker.domain.errors import Invalid
from certbroker.domain.mail_address import MOST_RECIPIENTS, is_mail_address
from certbroker.domain.one_line import one_line
from certbroker.notify.wording import message_of
from certbroker.ports.clock import Clock
from certbroker.ports.notifier import (
    NotDelivered,
    Notification,
    Notifier,
    NotifierResources,
    NotifierSettings,
    Undeliverable,
)

_SECONDS: Final = 20.0
_log = structlog.get_logger("certbroker.notify")


@dataclass(frozen=True, slots=True)
class MailServer:
    """The mail server of the configuration. `trust` verifies its certificate."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    trust: ssl.SSLContext = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    reply_to: str | None = None


class MailKind:
    """Mail to the addresses in the setting `to`, separated by commas."""

    name = "mail"
    for_people = True

    def __init__(self, server: MailServer | None) -> None:
        self._server = server

    def check(self, settings: NotifierSettings) -> None:
        unknown = (settings.settings.keys() - {"to"}) | settings.secrets.keys()
        if unknown:
            raise Invalid(f"A mail channel has the setting to and nothing else; {min(unknown)[:64]!r} is given.")
        _recipients(settings.settings.get("to", ""))

    def open(self, settings: NotifierSettings, resources: NotifierResources) -> Notifier:
        if self._server is None:
            raise Invalid("No mail can be sent: the broker's configuration has no [mail] section.")
        recipients, left_out = _usable(settings.settings.get("to", ""))
        if left_out:
            _log.warning("mail addresses are left out", channel=settings.channel, reason=left_out)
        return _Mail(self._server, recipients, left_out, resources.clock)


class _Mail:
    def __init__(self, server: MailServer, recipients: tuple[str, ...], left_out: str, clock: Clock) -> None:
        self._server = server
        self._recipients = recipients
        self._left_out = left_out
        self._clock = clock

    def deliver(self, notification: Notification) -> str:
        message = compose(notification, self._server, self._recipients, self._clock.now())
        try:
            with _used(self._server), _session(self._server) as session:
                refused = session.send_message(message, self._server.sender, list(self._recipients))
        except smtplib.SMTPRecipientsRefused as error:
            reason = _refusals(error.recipients)
            if all(code >= 500 for code, _ in error.recipients.values()):
                raise Undeliverable(reason) from None
            raise NotDelivered(reason) from None
        except smtplib.SMTPDataError as error:
            reason = f"The mail server refused the mail: {_answer(error.smtp_code, error.smtp_error)}."
            raise (Undeliverable if error.smtp_code >= 500 else NotDelivered)(reason) from None
        except smtplib.SMTPSenderRefused as error:
            raise NotDelivered(
                f"The mail server refused mail.sender: {_answer(error.smtp_code, error.smtp_error)}."
            ) from None
        notes = [self._left_out, f"Some addresses were refused. {_refusals(refused)}" if refused else ""]
        return " ".join(filter(None, notes))


def try_out(server: MailServer) -> None:
    """Sign in at the mail server, and send nothing. Raises NotDelivered, which says what to correct."""
    with _used(server), _session(server) as session:
        session.noop()


@contextmanager
def _used(server: MailServer) -> Iterator[None]:
    """What goes wrong with the server, and not with one mail, becomes NotDelivered."""
    try:
        yield
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPSenderRefused):
        raise  # About one mail: whoever sends it judges them.
    except smtplib.SMTPAuthenticationError as error:
        raise NotDelivered(
            f"The mail server refused mail.username and mail.password with the code {error.smtp_code}."
        ) from None
    except smtplib.SMTPNotSupportedError as error:
        raise NotDelivered(f"The mail server cannot do what the configuration asks for: {error}") from None
    except ssl.SSLCertVerificationError as error:
        raise NotDelivered(
            f"The certificate of {server.host} is not trusted: {error.verify_message}. Add its CA to "
            "egress.trust, or correct mail.host."
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        raise NotDelivered(
            f"The mail server {server.host} could not be used: {one_line(str(error), 200) or 'it hung up'}."
        ) from None


def compose(notification: Notification, server: MailServer, recipients: tuple[str, ...], now: datetime) -> EmailMessage:
    """The mail about an event. The same event has the same Message-ID, so that a second delivery can be recognised."""
    message = message_of(notification)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("certbroker", addr_spec=server.sender)
    mail["To"] = tuple(Address(addr_spec=recipient) for recipient in recipients)
    if server.reply_to:
        mail["Reply-To"] = Address(addr_spec=server.reply_to)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message_id(notification, recipients)}@{server.sender.rpartition('@')[2]}>"
    # No vacation notices in return (RFC 3834 section 5).
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_templates().get_template("mail.txt.j2").render(message=message))
    mail.add_alternative(_templates().get_template("mail.html.j2").render(message=message), subtype="html")
    return mail


def message_id(notification: Notification, recipients: tuple[str, ...]) -> str:
    """What is left of the @ in the Message-ID: the same for the same event and recipients."""
    said = "\0".join((str(notification.event.vault_id), notification.event.id, *sorted(recipients)))
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def check_address(text: str) -> str:
    """The address, or Invalid."""
    if not _can_be_written(text):
        raise Invalid(f"{one_line(text, 64)!r} is not an e-mail address.")
    return text


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("certbroker.notify"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Watch:
    """Ends a connection when its time is over: a limit on each wait would not stop a server that drips."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(_SECONDS, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def over(self, connection: socket.socket) -> None:
        """Watch over this one, whoever takes it over meanwhile, as TLS does."""
        self._connection = connection.dup()
        if not self._timer.is_alive():
            self._hang_up()

    def end(self) -> None:
        self._timer.cancel()
        if self._connection is not None:
            self._connection.close()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):  # It is closed already.
                self._connection.shutdown(socket.SHUT_RDWR)


class _Session(smtplib.SMTP):
    """Is watched from before the first byte: neither the greeting nor the beginning of TLS may drip."""

    def __init__(self, server: MailServer, watch: _Watch) -> None:
        self._server = server
        self._watch = watch
        super().__init__(server.host, server.port, server.sender.rpartition("@")[2], timeout=_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """What smtplib connects by, and the only place before it waits for the greeting."""
        connection = socket.create_connection((host, port), timeout)
        self._watch.over(connection)
        if self._server.security == "tls":
            return self._server.trust.wrap_socket(connection, server_hostname=host)
        return connection


@contextmanager
def _session(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A session that is over in time, whatever the server does."""
    watch = _Watch()
    try:
        session = _Session(server, watch)
        try:
            if server.security == "starttls":
                session.starttls(context=server.trust)
            if server.username is not None:
                session.login(server.username, server.password or "")
            yield session
            with suppress(smtplib.SMTPException, OSError):  # The mail has been taken.
                session.quit()
        finally:
            session.close()
    finally:
        watch.end()


def _can_be_written(text: str) -> bool:
    """Whether it is an address, and one that the library puts into a header too: else no mail would be composed."""
    try:
        return is_mail_address(text) and Address(addr_spec=text).addr_spec == text
    except (ValueError, MessageError, IndexError):
        return False


def _usable(text: str) -> tuple[tuple[str, ...], str]:
    """The addresses in a setting, and what is to be said of those that are none. Raises Invalid when all are.

    They were checked when they were stored, perhaps by a version that took more. One of them must not be what keeps the
    others from being told.
    """
    found = [each.strip() for each in text.split(",") if each.strip()]
    wrong = [each for each in found if not _can_be_written(each)]
    told = f"Nothing is sent to what is not an e-mail address: {', '.join(repr(one_line(each, 64)) for each in wrong)}."
    if wrong and len(wrong) == len(found):
        raise Invalid(told)
    return _recipients(",".join(each for each in found if each not in wrong)), told if wrong else ""


def _recipients(text: str) -> tuple[str, ...]:
    """The addresses in a setting. Raises Invalid."""
    found = tuple(dict.fromkeys(check_address(each.strip()) for each in text.split(",") if each.strip()))
    if not found:
        raise Invalid("settings.to is missing: give one or several e-mail addresses, separated by commas.")
    if len(found) > MOST_RECIPIENTS:
        raise Invalid(f"settings.to has more than {MOST_RECIPIENTS} addresses: use a distribution list.")
    return found


def _refusals(recipients: dict[str, tuple[int, bytes]]) -> str:
    told = (f"{address}: {_answer(code, answer)}" for address, (code, answer) in recipients.items())
    return f"The mail server refused {'; '.join(told)}."


def _answer(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return one_line(f"{code} {text}", 200).rstrip(".")
