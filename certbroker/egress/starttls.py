"""Asking for TLS in protocols that begin without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from certbroker.ports.probe import StartTLS

_LONGEST_LINE: Final = 2048
_MOST_LINES: Final = 64

# The request in full (RFC 4511 section 4.14.1): message 1, extended operation 1.3.6.1.4.1.1466.20037.
_LDAP_REQUEST: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
# resultCode success, the first element of the extended response to message 1.
_LDAP_ACCEPTED: Final = b"\x02\x01\x01\x78"
_LDAP_SUCCESS: Final = b"\x0a\x01\x00"
_POSTGRES_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Declined(Exception):
    """The server does not speak the protocol, or does not start TLS. The text quotes what it said, unchecked."""


class Plain(Protocol):
    """A connection before TLS. Both methods raise what the caller made them raise when time is over."""

    def send(self, data: bytes) -> None: ...

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes. Raises Declined when the connection ends before."""
        ...


def start_tls(protocol: StartTLS, connection: Plain) -> None:
    """Have the server await a TLS handshake next. Raises Declined."""
    _STARTS[protocol](connection)


def _smtp(connection: Plain) -> None:
    _smtp_reply(connection, b"220")
    # RFC 5321 section 4.1.1.1 wants a name; one that cannot be anybody's passes for a client without a domain.
    connection.send(b"EHLO probe.invalid\r\n")
    _smtp_reply(connection, b"250")
    connection.send(b"STARTTLS\r\n")
    _smtp_reply(connection, b"220")


def _smtp_reply(connection: Plain, code: bytes) -> None:
    """One reply of possibly several lines (RFC 5321 section 4.2.1)."""
    for _ in range(_MOST_LINES):
        line = _line(connection)
        if not line.startswith(code):
            raise _unexpected(line)
        if line[3:4] != b"-":
            return
    raise Declined("more lines than any server has to say")


def _imap(connection: Plain) -> None:
    greeting = _line(connection)
    if not greeting.upper().startswith(b"* OK"):
        raise _unexpected(greeting)
    connection.send(b"p1 STARTTLS\r\n")
    for _ in range(_MOST_LINES):
        line = _line(connection)
        if line.upper().startswith(b"P1 OK"):
            return
        if not line.startswith(b"*"):
            raise _unexpected(line)
    raise Declined("more lines than any server has to say")


def _pop3(connection: Plain) -> None:
    for command in (b"", b"STLS\r\n"):
        if command:
            connection.send(command)
        line = _line(connection)
        if not line.startswith(b"+OK"):
            raise _unexpected(line)


def _ldap(connection: Plain) -> None:
    connection.send(_LDAP_REQUEST)
    head = connection.receive(2)
    length = head[1]
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 2:
            raise _unexpected(head)
        length = int.from_bytes(connection.receive(size))
    if head[0] != 0x30 or length > _LONGEST_LINE:
        raise _unexpected(head)
    answer = connection.receive(length)
    # Behind the tag stands a length of one or more bytes.
    if not answer.startswith(_LDAP_ACCEPTED) or _LDAP_SUCCESS not in answer[5:12]:
        raise _unexpected(answer)


def _postgres(connection: Plain) -> None:
    connection.send(_POSTGRES_REQUEST)
    answer = connection.receive(1)
    if answer != b"S":
        raise _unexpected(answer)


def _line(connection: Plain) -> bytes:
    """A line without its end. It is read byte by byte, so that nothing of the handshake that follows is taken."""
    line = bytearray()
    while (byte := connection.receive(1)) != b"\n":
        line += byte
        if len(line) > _LONGEST_LINE:
            raise _unexpected(bytes(line))
    return bytes(line).rstrip(b"\r")


def _unexpected(said: bytes) -> Declined:
    return Declined(ascii(said[:80].decode("latin-1")))


_STARTS: Final[dict[StartTLS, Callable[[Plain], None]]] = {
    StartTLS.SMTP: _smtp,
    StartTLS.IMAP: _imap,
    StartTLS.POP3: _pop3,
    StartTLS.LDAP: _ldap,
    StartTLS.POSTGRES: _postgres,
}
