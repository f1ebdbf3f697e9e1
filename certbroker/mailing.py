"""From the configuration's `[mail]` to a mail server that can be used."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from certbroker.config import ConfigurationError, EgressSection, MailSection
from certbroker.domain.errors import Invalid
from certbroker.egress.client import trust_context
from certbroker.notify.mail import MailServer, check_address

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


def mail_server(section: MailSection | None, egress: EgressSection) -> MailServer | None:
    """The server, or None where none is configured. Raises ConfigurationError."""
    if section is None:
        return None
    for key, address in (("sender", section.sender), ("reply_to", section.reply_to)):
        try:
            if address is not None:
                check_address(address)
        except Invalid as refusal:
            raise ConfigurationError(f"mail.{key}: {refusal.message}") from None
    return MailServer(
        section.host,
        section.port or _PORTS[section.security],
        section.security,
        section.sender,
        trust_context(str(path) for path in egress.trust),
        section.username,
        _password(section),
        section.reply_to,
    )


def _password(section: MailSection) -> str | None:
    if section.username is None:
        return None
    if section.password is not None:
        return section.password.get_secret_value()
    credentials = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
    path = section.password_file or credentials / str(section.credential)
    where = f"mail.password_file: {path}" if section.password_file else f"mail.credential: {section.credential}"
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            password = file.readline(1024).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} cannot be read: {type(error).__name__}.") from None
    if section.password_file is not None and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"{where} is open to others; run: chmod 600 {path}")
    return password
