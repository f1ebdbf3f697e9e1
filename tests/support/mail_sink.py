"""A real mail server on loopback that keeps what it takes: STARTTLS or TLS at once, and signing in."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from certbroker.egress.client import trust_context
from certbroker.notify.mail import MailServer
from pebble.loopback import free_ports
from tests.support.certificates import Authority, pem

USER, PASSWORD = "certbroker", "open sesame"  # A test's.


class MailSink:
    """The server, from construction to `close`. `refuse` says of an address with which answer it is refused."""

    def __init__(self, folder: Path, *, implicit: bool = False, host: str = "localhost") -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuse: Callable[[str], str | None] = lambda address: None
        self.answer = "250 OK"
        self.implicit = implicit
        authority = Authority("Mail CA")
        self.trust = folder / "mail-ca.pem"
        self.trust.write_text(pem(authority.certificate))
        chain = folder / "mail.pem"
        chain.write_text(authority.issue(host).pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.port = free_ports(1)[0]
        options: dict[str, Any] = {"ssl_context": context} if implicit else {"tls_context": context}
        self._controller = Controller(
            self,
            "127.0.0.1",
            port=self.port,
            authenticator=self._authenticate,
            auth_required=True,
            auth_require_tls=not implicit,
            require_starttls=not implicit,
            **options,
        )
        self._controller.start()

    def server(self, **changes: Any) -> MailServer:
        """What a client has to know."""
        values: dict[str, Any] = {
            "host": "localhost",
            "port": self.port,
            "security": "tls" if self.implicit else "starttls",
            "sender": "broker@example.com",
            "trust": trust_context([str(self.trust)]),
            "username": USER,
            "password": PASSWORD,
        }
        return MailServer(**(values | changes))

    @property
    def environment(self) -> dict[str, str]:
        """The same for the configuration of a process."""
        return {
            "CERTBROKER_MAIL__HOST": "localhost",
            "CERTBROKER_MAIL__PORT": str(self.port),
            "CERTBROKER_MAIL__SECURITY": "tls" if self.implicit else "starttls",
            "CERTBROKER_MAIL__SENDER": "broker@example.com",
            "CERTBROKER_MAIL__USERNAME": USER,
            "CERTBROKER_MAIL__PASSWORD": PASSWORD,
        }

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refused = self.refuse(address)
        if refused is None:
            envelope.rcpt_tos.append(address)
        return refused or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
            self.recipients.append(envelope.rcpt_tos)
        return self.answer

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=known)

    def close(self) -> None:
        self._controller.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
