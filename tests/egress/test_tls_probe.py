"""Handshakes with real servers on this machine, and with what is no server at all."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from certbroker.egress import EgressPolicy, TLSProbe
from certbroker.ports.probe import Failure, NotPresented, Presented, Probe, StartTLS
from tests.support.certificates import Authority, Identity, der
from tests.support.tcp_server import Script, Server, context_of, says, serving, shaking

LOOPBACK = ipaddress.ip_address("127.0.0.1")
NETWORKS = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    servers: list[Server] = []

    def serve(script: Script) -> Server:
        servers.append(Server(script))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def probe() -> TLSProbe:
    probe = TLSProbe(EgressPolicy(NETWORKS))
    as_port: Probe = probe
    assert as_port
    return probe


def test_the_chain_is_seen_as_it_was_sent(serve: Callable[[Script], Server], probe: TLSProbe) -> None:
    below = Authority("Issuing CA", above=Authority("Root"))
    identity = below.issue()
    server = serve(serving(identity))

    seen = probe.look(LOOPBACK, server.port, "www.example.com")

    assert Presented(LOOPBACK, server.port, tuple(map(der, identity.chain)), "TLSv1.3") == seen


def test_the_server_is_asked_for_the_name(serve: Callable[[Script], Server], probe: TLSProbe) -> None:
    default, named = Authority().issue("default.example.com"), Authority().issue("named.example.com")
    context, other = context_of(default.pem()), context_of(named.pem())

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name == "named.example.com":
            connection.context = other

    context.sni_callback = choose
    server = serve(shaking(context))

    assert der(named.certificate) == probe.look(LOOPBACK, server.port, "named.example.com.").chain[0]
    assert der(default.certificate) == probe.look(LOOPBACK, server.port, None).chain[0]
    assert der(default.certificate) == probe.look(LOOPBACK, server.port, "127.0.0.1").chain[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_to_know_its_clients_is_seen_too(
    serve: Callable[[Script], Server], probe: TLSProbe, version: ssl.TLSVersion
) -> None:
    identity = Authority().issue()
    context = context_of(identity.pem())
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    server = serve(shaking(context))

    seen = probe.look(LOOPBACK, server.port, "www.example.com")

    assert der(identity.certificate) == seen.chain[0]
    assert (version is ssl.TLSVersion.TLSv1_2) == (seen.broken_off is not None)


def test_an_expired_certificate_is_seen_as_any_other(serve: Callable[[Script], Server], probe: TLSProbe) -> None:
    identity = Authority().issue(life=timedelta(days=-3))
    server = serve(serving(identity))

    assert der(identity.certificate) == probe.look(LOOPBACK, server.port, None).chain[0]


def _drip(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"\x16")
            time.sleep(0.05)


def _endless(connection: socket.socket) -> None:
    connection.recv(4096)
    with contextlib.suppress(OSError):
        while True:
            # A record of a handshake, whose message goes on in the next.
            connection.sendall(b"\x16\x03\x03\x40\x00\x0b\xff\xff\xff" + bytes(16380))


@pytest.mark.parametrize(
    ("script", "failure", "says"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "garbage", "HTTP/1.1 400"),
        (says(b"220 mail.example.com ESMTP\r\n"), "garbage", "220 mail"),
        (says(os.urandom(4096)), "garbage", "does not speak TLS"),
        (says(b"\x15\x03\x03\x00\x02\x02\x70"), "garbage", "unrecognized name"),
        (_endless, "garbage", "does not speak TLS"),
        (says(b""), "unreachable", "without a word"),
        (lambda connection: time.sleep(2), "unreachable", "did not finish"),
        (_drip, "garbage", "does not speak TLS"),
    ],
)
def test_what_is_no_tls_server_is_an_answer_of_its_own(
    serve: Callable[[Script], Server], probe: TLSProbe, script: Script, failure: str, says: str
) -> None:
    server = serve(script)
    start = time.monotonic()

    with pytest.raises(NotPresented) as refused:
        probe.look(LOOPBACK, server.port, "www.example.com", timeout=1)

    assert (failure, True) == (refused.value.failure, says in refused.value.message), refused.value.message
    assert time.monotonic() - start < 3
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_nobody_listens(probe: TLSProbe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    with pytest.raises(NotPresented) as refused:
        probe.look(LOOPBACK, port, None)

    assert (Failure.UNREACHABLE, f"No connection to 127.0.0.1:{port}: Connection refused.") == (
        refused.value.failure,
        refused.value.message,
    )


def test_a_chain_without_end_is_not_taken(serve: Callable[[Script], Server], probe: TLSProbe) -> None:
    authority = Authority()
    identity = authority.issue()
    long = Identity(identity.key, identity.certificate, tuple(authority.issue().certificate for _ in range(400)))
    server = serve(serving(long))

    with pytest.raises(NotPresented) as refused:
        probe.look(LOOPBACK, server.port, None)

    assert Failure.GARBAGE == refused.value.failure


def test_a_certificate_without_its_key_is_not_taken_for_presented(
    serve: Callable[[Script], Server], probe: TLSProbe
) -> None:
    """Who has no more than a copy of the certificate cannot pass for a server that serves it."""
    identity = Authority().issue()
    context = context_of(identity.pem())

    def altered(connection: socket.socket) -> None:
        """Stands between, and spoils what the server proves that it has the key with."""
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(connection.recv(16384))
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        flight = bytearray(outgoing.read())
        flight[-12] ^= 1  # In the signature of the key exchange; ServerHelloDone is the 9 bytes behind it.
        connection.sendall(flight)
        connection.recv(1024)

    server = serve(altered)

    with pytest.raises(NotPresented) as refused:
        probe.look(LOOPBACK, server.port, None)

    assert Failure.GARBAGE == refused.value.failure
    assert "signature" in refused.value.message


@pytest.mark.parametrize(
    ("starttls", "talk"),
    [
        ("smtp", ((b"220-a\r\n220 b\r\n", b"EHLO"), (b"250-a\r\n250 STARTTLS\r\n", b"STARTTLS"), (b"220 go\r\n", b""))),
        ("imap", ((b"* OK ready\r\n", b"p1 STARTTLS"), (b"* 3 EXISTS\r\np1 OK go\r\n", b""))),
        ("pop3", ((b"+OK ready\r\n", b"STLS"), (b"+OK go\r\n", b""))),
        ("ldap", ((b"", b"1.3.6.1.4.1.1466.20037"), (bytes.fromhex("300c02010178070a010004000400"), b""))),
        ("postgres", ((b"", b"\x04\xd2\x16\x2f"), (b"S", b""))),
    ],
)  # fmt: skip
def test_tls_is_asked_for_where_a_protocol_begins_without_it(
    serve: Callable[[Script], Server],
    probe: TLSProbe,
    starttls: str,
    talk: tuple[tuple[bytes, bytes], ...],
) -> None:
    identity = Authority().issue()
    shake = serving(identity)

    def script(connection: socket.socket) -> None:
        for said, awaited in talk:
            connection.sendall(said)
            if awaited:
                assert awaited in connection.recv(1024)
        shake(connection)

    server = serve(script)

    seen = probe.look(LOOPBACK, server.port, "mail.example.com", starttls=StartTLS(starttls))

    assert der(identity.certificate) == seen.chain[0]


@pytest.mark.parametrize("starttls", list(StartTLS))
@pytest.mark.parametrize("answer", [b"554 no\r\n" * 3, b"\x15\x03\x01\x00\x02\x02\x46", b"\0" * 4096])
def test_a_server_that_declines_is_quoted(
    serve: Callable[[Script], Server], probe: TLSProbe, starttls: StartTLS, answer: bytes
) -> None:
    server = serve(lambda connection: connection.sendall(answer))

    with pytest.raises(NotPresented) as refused:
        probe.look(LOOPBACK, server.port, None, starttls=starttls, timeout=2)

    assert Failure.GARBAGE == refused.value.failure
    assert refused.value.message.isprintable()


def test_the_policy_is_asked_about_names_and_addresses(probe: TLSProbe) -> None:
    strict = TLSProbe(EgressPolicy(NETWORKS, allowed_hosts=("localhost",)))

    assert LOOPBACK in strict.addresses("localhost", 443)
    for host in ("other.example.com", "127.0.0.1", "not a name", ""):
        with pytest.raises(NotPresented) as refused:
            strict.addresses(host, 443)
        assert Failure.REFUSED == refused.value.failure
    with pytest.raises(NotPresented) as refused:
        TLSProbe(EgressPolicy()).look(LOOPBACK, 443, "localhost")
    assert Failure.REFUSED == refused.value.failure
    with pytest.raises(NotPresented) as refused:
        probe.addresses("localhost", 0)
    assert Failure.REFUSED == refused.value.failure
