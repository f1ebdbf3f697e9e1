"""Requests to real servers on this machine."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.egress import addresses as addresses_module
from certbroker.ports.egress import EgressFailed, EgressRefused
from pebble.tls import write_endpoint_certificate
from tests.support.scripted_server import LOOPBACK, OK, Peer, answer, last


def test_a_request_and_its_answer(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(b"HTTP/1.1 418 Teapot\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 4\r\n\r\nbody"))

    response = egress.request("POST", peer.url + "a?b#c", headers={"X-Mine": "yes"}, content=b"sent")

    assert (418, b"body", peer.url + "a?b") == (response.status, response.body, response.url)
    assert "1, 2" == response.headers["x-one"]
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = {line.lower() for line in head.decode().split("\r\n")}
    assert "post /a?b http/1.1" in lines
    assert f"host: 127.0.0.1:{peer.port}" in lines
    assert "x-mine: yes" in lines
    assert f"user-agent: {egress.policy.user_agent}" in lines
    assert "accept-encoding: identity" in lines
    assert b"sent" == body


def test_the_caller_cannot_hide_who_we_are(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(OK))

    egress.request("GET", peer.url, headers={"User-Agent": "curl", "Host": "other.example"})

    assert b"curl" not in peer.requests[0]
    assert b"other.example" not in peer.requests[0]


def test_redirects_are_answers(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"))

    assert 302 == egress.request("GET", peer.url).status
    assert 1 == len(peer.requests)


def test_nothing_is_remembered_between_requests(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"))

    for _ in range(2):
        egress.request("GET", peer.url)

    assert b"cookie" not in peer.requests[1].lower()
    assert 1 == peer.connections


def test_a_deadline_that_passed_for_one_request_does_not_hurt_the_next(
    serve: Callable[..., Peer], egress: HTTPEgress
) -> None:
    peer = serve(answer(OK))
    with pytest.raises(EgressFailed):
        egress.request("GET", serve(lambda connection, request: time.sleep(1)).url, timeout=0.1)

    assert 200 == egress.request("GET", peer.url).status


def test_a_closed_port_is_certain_not_to_have_seen_the_request(egress: HTTPEgress) -> None:
    with pytest.raises(EgressFailed) as caught:
        egress.request("GET", "http://127.0.0.1:9/")

    assert not caught.value.sent


def test_a_name_that_does_not_resolve_is_certain_not_to_have_seen_the_request(
    egress: HTTPEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves(monkeypatch, {})

    with pytest.raises(EgressFailed, match="cannot be resolved") as caught:
        egress.request("GET", "http://nowhere.test/")

    assert not caught.value.sent


def test_a_resolver_that_hangs_cannot_stretch_the_deadline(egress: HTTPEgress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses_module.socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    began = time.monotonic()

    with pytest.raises(EgressFailed, match="not resolved in time") as caught:
        egress.request("GET", "http://slow.test/", timeout=0.2)

    assert time.monotonic() - began < 2
    assert not caught.value.sent


def _resolves(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Let names resolve to these addresses; what is returned is asked for, as it comes."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *how: int, **_: object) -> list[tuple[object, ...]]:
        if how:  # socket.create_connection, which turns an address into itself.
            return [*real(host, port, *how)]
        asked.append(host)
        if host not in names:
            raise socket.gaierror("Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr(addresses_module.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_one_private_address_among_public_ones_refuses_the_name(
    egress: HTTPEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolves(monkeypatch, {"mixed.test": ["127.0.0.1", "10.0.0.1"]})

    with pytest.raises(EgressRefused, match=r"mixed\.test has the address 10\.0\.0\.1"):
        egress.request("GET", "http://mixed.test/")


def test_a_name_is_resolved_once_and_the_next_address_is_tried(
    serve: Callable[..., Peer], egress: HTTPEgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = serve(answer(OK))
    asked = _resolves(monkeypatch, {"many.test": ["127.0.0.9", "127.0.0.1"]})

    assert 200 == egress.request("GET", f"http://many.test:{peer.port}/").status
    assert ["many.test"] == asked
    assert f"host: many.test:{peer.port}".encode() in peer.requests[0].lower()


def test_headers_cannot_be_injected(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(OK))
    for value in ("a\r\nX-Evil: 1", "\u00e9"):
        with pytest.raises(EgressRefused):
            egress.request("GET", peer.url, headers={"X-Mine": value})

    assert [] == peer.requests


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    ca, certificate, key = write_endpoint_certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, ca


def test_tls_checks_the_name_and_not_the_address(
    serve: Callable[..., Peer], tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, ca = tls
    peer = serve(answer(OK), context)
    _resolves(monkeypatch, {"localhost": ["127.0.0.1"], "wrong.test": ["127.0.0.1"]})
    egress = HTTPEgress(EgressPolicy(LOOPBACK, trust=(str(ca),)))

    assert 200 == egress.request("GET", f"https://localhost:{peer.port}/").status
    with pytest.raises(EgressFailed, match=r"(?i)hostname|certificate") as caught:
        egress.request("GET", f"https://wrong.test:{peer.port}/")
    egress.close()

    assert not caught.value.sent
    assert 1 == len(peer.requests)


def test_a_ca_that_is_not_trusted_fails_before_anything_is_sent(
    serve: Callable[..., Peer], tls: tuple[ssl.SSLContext, Path]
) -> None:
    peer = serve(answer(OK), tls[0])
    egress = HTTPEgress(EgressPolicy(LOOPBACK))

    with pytest.raises(EgressFailed, match="certificate verify failed") as caught:
        egress.request("POST", peer.url, content=b"secret")
    egress.close()

    assert not caught.value.sent
    assert [] == peer.requests


def test_a_bundle_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ValueError, match=name):
            HTTPEgress(EgressPolicy(trust=(str(tmp_path / name),)))


def test_a_hundred_requests_from_many_threads_share_connections(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(OK))
    statuses: list[int] = []

    def work() -> None:
        statuses.extend(egress.request("GET", peer.url).status for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [200] * 640 == statuses
    assert peer.connections <= 64


def test_one_slow_server_does_not_hold_the_others(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    slow = serve(lambda connection, request: time.sleep(2.5))
    quick = serve(answer(OK))

    def ask() -> None:
        with contextlib.suppress(EgressFailed):
            egress.request("GET", slow.url, timeout=2)

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    began = time.monotonic()

    assert 200 == egress.request("GET", quick.url).status

    assert time.monotonic() - began < 1.5
    for thread in threads:
        thread.join()


def test_a_proxy_is_given_the_name(serve: Callable[..., Peer]) -> None:
    proxy = serve(last(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
    egress = HTTPEgress(EgressPolicy(proxy=f"http://user:word@127.0.0.1:{proxy.port}"))

    with pytest.raises(EgressFailed):
        egress.request("GET", "https://ca.example/")
    with pytest.raises(EgressRefused, match="not public"):
        egress.request("GET", "https://10.0.0.1/")
    egress.close()

    assert proxy.requests[0].startswith(b"CONNECT ca.example:443 ")
    assert b"Basic dXNlcjp3b3Jk" in proxy.requests[0]
    assert "word" not in repr(egress.policy)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://proxy.example", "proxy.example:3128"])
def test_other_kinds_of_proxies_are_refused(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy"):
        HTTPEgress(EgressPolicy(proxy=proxy))
