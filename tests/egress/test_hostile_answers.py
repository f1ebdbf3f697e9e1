"""Servers that answer too much, too slowly, or what nobody can read."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Callable

import pytest

from certbroker.egress import HTTPEgress
from certbroker.ports.egress import EgressFailed
from tests.support.scripted_server import OK, Peer, answer, last


def test_a_body_larger_than_allowed_is_refused_by_its_length(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"))

    with pytest.raises(EgressFailed, match="larger than 1000"):
        egress.request("GET", peer.url, max_bytes=1000, timeout=5)


def test_a_body_larger_than_allowed_is_refused_as_it_comes(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    def endless(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    peer = serve(endless)

    with pytest.raises(EgressFailed, match="larger than 1000000"):
        egress.request("GET", peer.url, max_bytes=1_000_000, timeout=5)


def test_a_body_of_just_the_allowed_size_is_fine(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    peer = serve(answer(OK))

    assert b"ok" == egress.request("GET", peer.url, max_bytes=2).body


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_body_that_nobody_asked_for_is_unpacked(
    serve: Callable[..., Peer], egress: HTTPEgress, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(b"hello" * 100)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    peer = serve(answer(head + packed))

    assert b"hello" * 100 == egress.request("GET", peer.url).body


def test_a_bomb_does_not_unpack(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    packed = gzip.compress(b"\0" * 200_000_000, 1)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    peer = serve(answer(head + packed))

    with pytest.raises(EgressFailed, match="larger than"):
        egress.request("GET", peer.url, max_bytes=2_000_000)


@pytest.mark.parametrize("coding", [b"br", b"gzip, gzip", b"x" * 100])
def test_encodings_that_are_not_known_fail(serve: Callable[..., Peer], egress: HTTPEgress, coding: bytes) -> None:
    peer = serve(answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\nContent-Length: 2\r\n\r\nok"))

    with pytest.raises(EgressFailed, match="not asked for"):
        egress.request("GET", peer.url)


def test_too_many_headers_fail(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 90) for number in range(900))
    peer = serve(last(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n"))

    with pytest.raises(EgressFailed):
        egress.request("GET", peer.url)


def test_an_endless_header_fails(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    def endless(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        while True:
            connection.sendall(b"x" * 65536)

    with pytest.raises(EgressFailed):
        egress.request("GET", serve(endless).url, timeout=5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01",
    ],
)
def test_broken_answers_fail_as_sent(serve: Callable[..., Peer], egress: HTTPEgress, data: bytes) -> None:
    with pytest.raises(EgressFailed) as caught:
        egress.request("GET", serve(last(data)).url)

    assert caught.value.sent


def test_a_server_that_drips_cannot_stretch_the_deadline(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    def drip(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    began = time.monotonic()

    with pytest.raises(EgressFailed) as caught:
        egress.request("GET", serve(drip).url, timeout=0.5)

    assert 0.4 < time.monotonic() - began < 3
    assert caught.value.sent


def test_a_server_that_drips_headers_cannot_either(serve: Callable[..., Peer], egress: HTTPEgress) -> None:
    def drip(connection: socket.socket, request: bytes) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.05)

    began = time.monotonic()

    with pytest.raises(EgressFailed):
        egress.request("GET", serve(drip).url, timeout=0.5)

    assert time.monotonic() - began < 3
