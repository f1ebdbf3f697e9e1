"""TLS handshakes that look at what a server presents, and trust nothing.

The standard library shows the chain that was sent only from Python 3.13 on, and ends a handshake that it cannot finish
without a word about the certificate. So this is pyOpenSSL on buffers of memory, which also lets each byte be counted.
"""

from __future__ import annotations

import socket
import time
from typing import Final

from OpenSSL import SSL, crypto

from certbroker.domain.one_line import one_line
from certbroker.egress.addresses import resolve
from certbroker.egress.policy import EgressPolicy
from certbroker.egress.starttls import Declined, start_tls
from certbroker.ports.egress import EgressFailed, EgressRefused
from certbroker.ports.probe import Failure, IPAddress, NotPresented, Presented, StartTLS

# A chain of sixteen large certificates with stapled answers is a third of this. OpenSSL itself takes 100 kB of
# certificates at most.
_MAX_RECEIVED: Final = 256 * 1024
_CHUNK: Final = 16 * 1024
# Names with more addresses than this are spread over the world by a DNS service, which answers others otherwise.
_MOST_ADDRESSES: Final = 32


class TLSProbe:
    """The `Probe` port. Connections go straight to the address; the egress policy's proxy has no part in them."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy

    def addresses(self, host: str, port: int, *, timeout: float = 5.0) -> tuple[IPAddress, ...]:
        try:
            self._policy.check_host(host, port)
            found = resolve(self._policy, host, port, timeout)
        except EgressRefused as error:
            raise NotPresented(Failure.REFUSED, str(error)) from None
        except EgressFailed as error:
            raise NotPresented(Failure.UNREACHABLE, one_line(str(error), 300)) from None
        if not found:
            raise NotPresented(Failure.UNREACHABLE, f"The name {host} has no address.")
        return tuple(found[:_MOST_ADDRESSES])

    def look(
        self,
        address: IPAddress,
        port: int,
        server_name: str | None,
        *,
        starttls: StartTLS | None = None,
        timeout: float = 10.0,
    ) -> Presented:
        try:
            self._policy.check_address(str(address), address)
        except EgressRefused as error:
            raise NotPresented(Failure.REFUSED, str(error)) from None
        try:
            with _Line(address, port, timeout) as line:
                if starttls is not None:
                    start_tls(starttls, line)
                return _shake(line, server_name)
        except Declined as error:
            what = "speak TLS" if starttls is None else f"start TLS as {starttls} does"
            raise NotPresented(
                Failure.GARBAGE, f"The server at {_place(address, port)} does not {what}: it sent {error}."
            ) from None
        except TimeoutError:
            raise NotPresented(
                Failure.UNREACHABLE,
                f"The server at {_place(address, port)} did not finish the handshake in {timeout:g} seconds.",
            ) from None
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise NotPresented(
                Failure.UNREACHABLE, one_line(f"No connection to {_place(address, port)}: {reason}.", 300)
            ) from None


class _Line:
    """A connection with a deadline and a limit on what is received. Raises OSError, TimeoutError and Declined."""

    def __init__(self, address: IPAddress, port: int, timeout: float) -> None:
        self.address = address
        self.port = port
        self._deadline = time.monotonic() + timeout
        self._received = 0
        self._socket = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect((str(address), port))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._wait()
        self._socket.sendall(data)

    def receive(self, count: int) -> bytes:
        whole = b""
        while len(whole) < count:
            part = self.receive_some(count - len(whole))
            if not part:
                raise Declined(f"{whole.decode('latin-1')!a} and closed the connection")
            whole += part
        return whole

    def receive_some(self, most: int = _CHUNK) -> bytes:
        """What there is, at least a byte; nothing at the end."""
        self._wait()
        data = self._socket.recv(most)
        self._received += len(data)
        if self._received > _MAX_RECEIVED:
            raise Declined(f"more than {_MAX_RECEIVED >> 10} KiB without coming to an end")
        return data

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)


def _shake(line: _Line, server_name: str | None) -> Presented:
    """The handshake. What has come of it is judged by what was received, so that a failure late in it is none."""
    connection = SSL.Connection(_context(), None)
    connection.set_connect_state()
    if server_name is not None and not _is_address(server_name):
        connection.set_tlsext_host_name(server_name.rstrip(".").encode("ascii", "replace"))
    first = b""
    while True:
        try:
            connection.do_handshake()
            return _presented(line, connection, None)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            reasons = _reasons(error)
            if not any("alert" in reason for reason in reasons) or not connection.get_peer_cert_chain():
                raise Declined(_said(first, reasons)) from None
            return _presented(line, connection, one_line(", ".join(reasons), 200))
        finally:
            _flush(line, connection)
        data = line.receive_some()
        if not data:
            if not first:
                raise ConnectionError("it was closed without a word")
            raise Declined(_said(first, ["the connection was closed"]))
        first = first or data[:40]
        connection.bio_write(data)


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)
    # An old server's certificate is to be seen too. Nothing is ever sent over these connections.
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def _flush(line: _Line, connection: SSL.Connection) -> None:
    """Send what OpenSSL has for the server."""
    while True:
        try:
            data = connection.bio_read(_CHUNK)
        except SSL.WantReadError:
            return
        line.send(data)


def _presented(line: _Line, connection: SSL.Connection, broken_off: str | None) -> Presented:
    chain = connection.get_peer_cert_chain()
    if not chain:
        raise Declined("a handshake without a certificate")
    encoded = tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain)
    return Presented(line.address, line.port, encoded, connection.get_protocol_version_name(), broken_off)


def _reasons(error: SSL.Error) -> list[str]:
    """What OpenSSL says of a failure, without where in its sources."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return [str(entry[-1]) for entry in entries] or [type(error).__name__]


def _said(first: bytes, reasons: list[str]) -> str:
    """What the server sent, for people: the start of a text, or what OpenSSL made of it."""
    text = first.decode("latin-1").partition("\n")[0].strip()
    if text and text.isascii() and text.isprintable():
        return repr(text)
    return one_line(f"what fails in the handshake ({', '.join(reasons)})", 200)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _place(address: IPAddress, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
