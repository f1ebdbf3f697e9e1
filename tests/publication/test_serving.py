"""Where it is published: real sockets, openssl as a client, caches that ask again, and who asks nonsense."""

from __future__ import annotations

import base64
import socket
import sqlite3
import urllib.parse
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from certbroker.services.server_certificate import ServerCertificate
from certbroker.web import publication
from certbroker.web.publication import PublicationApp
from tests.support.publishing_bench import (
    DAY,
    PublishingBench,
    certificate_of,
    openssl,
    request_for,
    served,
    write_pem,
)
from tests.support.serving import Installation


def test_openssl_asks_in_every_way_and_believes_the_answer(bench: PublishingBench, tmp_path: Path) -> None:
    ca = bench.ca("ca")
    good, bad = bench.issue(ca), bench.issue(ca)
    bench.revoke(ca, bad, 4)
    bench.publish()
    issuer = write_pem(tmp_path / "ca.pem", certificate_of(ca))
    leaves = [write_pem(tmp_path / f"{name}.pem", leaf) for name, leaf in (("good", good), ("bad", bad))]
    with served(bench) as url:
        ask = ("ocsp", "-url", f"{url}/ocsp/{ca.id}", "-issuer", issuer, "-CAfile", issuer, "-timeout", "10")
        fine = openssl(*ask, "-cert", leaves[0], "-no_nonce")
        hashed = openssl(*ask, "-sha256", "-cert", leaves[0])
        revoked = openssl(*ask, "-cert", leaves[1], "-no_nonce")
        whole = httpx.get(f"{url}/ocsp/{ca.id}/{encoded(request_for(ca, bad))}").content
        fetched = httpx.get(f"{url}/crl/{ca.id}.crl").content
        own = httpx.get(f"{url}/ca/{ca.id}.cer").content
    (tmp_path / "reply.der").write_bytes(whole)
    read = openssl("ocsp", "-respin", tmp_path / "reply.der", "-issuer", issuer, "-cert", leaves[1], "-CAfile", issuer)
    (tmp_path / "crl.der").write_bytes(fetched)
    listed = openssl("crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-CAfile", issuer, "-text", "-noout")

    assert "Response verify OK" in fine
    assert ": good" in fine
    assert ": good" in hashed
    # It asks with a nonce unless told otherwise, and what was signed before has none.
    assert "no nonce in response" in hashed
    for said in (revoked, read):
        assert "Response verify OK" in said
        assert ": revoked" in said
        assert "Reason: superseded" in said
    assert "verify OK" in listed
    assert f"{bad.serial_number:X}" in listed
    assert certificate_of(ca).public_bytes(Encoding.DER) == own


def test_our_reading_understands_what_openssl_asks_and_signs(bench: PublishingBench, tmp_path: Path) -> None:
    """The other direction: a request that openssl has written, and a CRL of ours that it writes again in PEM."""
    ca = bench.ca("ca", "RSA-2048")
    leaf = bench.issue(ca)
    bench.publish()
    issuer, cert = write_pem(tmp_path / "ca.pem", certificate_of(ca)), write_pem(tmp_path / "leaf.pem", leaf)
    for options in (("-no_nonce",), (), ("-sha256",)):
        openssl("ocsp", "-issuer", issuer, *options, "-cert", cert, "-reqout", tmp_path / "asked.der")
        reply = bench.ask("POST", f"/ocsp/{ca.id}", (tmp_path / "asked.der").read_bytes())

        assert leaf.serial_number == ocsp.load_der_ocsp_response(reply.content).serial_number


def test_caches_are_told_for_how_long_and_ask_again_for_nothing(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.publish()
    status = f"/ocsp/{ca.id}/{encoded(request_for(ca, leaf))}"
    for path, kind in (
        (f"/crl/{ca.id}.crl", "application/pkix-crl"),
        (status, "application/ocsp-response"),
        (f"/ca/{ca.id}.cer", "application/pkix-cert"),
    ):
        first = bench.ask("GET", path)
        head = bench.ask("HEAD", path)
        same = bench.ask("GET", path, headers={"if-none-match": f'"x", {first.headers["etag"]}'})
        other = bench.ask(
            "GET", path, headers={"if-none-match": '"x"', "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}
        )
        odd = bench.ask("GET", path, headers={"if-modified-since": "yesterday"})

        assert (200, kind) == (first.status_code, first.headers["content-type"])
        assert (200, b"") == (head.status_code, head.content)
        assert dict(first.headers) == dict(head.headers)
        assert (304, b"") == (same.status_code, same.content)
        assert first.headers["etag"] == same.headers["etag"]
        assert [200, 200] == [other.status_code, odd.status_code]
    reply = bench.ask("GET", status)
    modified = bench.ask("GET", status, headers={"if-modified-since": reply.headers["last-modified"]})
    assert 304 == modified.status_code
    assert "max-age=3600, public, no-transform, must-revalidate" == reply.headers["cache-control"]
    bench.clock.forward(4 * DAY - timedelta(minutes=1))
    assert (
        bench.ask("GET", status).headers["cache-control"].startswith("max-age=59")
    )  # Nothing was published meanwhile.


def test_a_list_that_is_over_goes_on_being_served_for_whoever_takes_it(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    bench.publish()
    bench.clock.forward(8 * DAY)
    reply = bench.ask("GET", f"/crl/{ca.id}.crl")

    assert 200 == reply.status_code
    assert reply.headers["cache-control"].startswith("max-age=0")


def test_nothing_else_is_there(bench: PublishingBench) -> None:
    ca = bench.ca("ca")
    other = "0" * 32
    asked = [
        ("GET", "/", 404),
        ("GET", f"/crl/{ca.id}.crl", 404),
        ("GET", f"/crl/{other}.crl", 404),
        ("GET", f"/crl/{ca.id}/1.crl", 404),
        ("GET", f"/crl/{ca.id}/00.crl", 404),
        ("GET", f"/crl/{ca.id}/../{ca.id}.crl", 404),
        ("GET", f"/crl/{ca.id.upper()}.crl", 404),
        ("GET", f"/ca/{other}.cer", 404),
        ("GET", "/published/x", 404),
        ("GET", "/%00%ff", 404),
        ("GET", f"/ocsp/{ca.id}/" + "A" * 9000, 414),
        ("POST", f"/crl/{ca.id}.crl", 405),
        ("DELETE", f"/ocsp/{ca.id}", 405),
        ("GET", f"/ocsp/{ca.id}", 405),
        ("GET", f"/ocsp/{ca.id}/%%%", 200),
        ("GET", f"/ocsp/{ca.id}/%ff%00", 200),
        ("POST", f"/ocsp/{other}", 200),
    ]
    for method, path, expected in asked:
        reply = bench.ask(method, path)
        assert expected == reply.status_code, path
        assert len(reply.content) < 200, path
    long = bench.ask("POST", f"/ocsp/{ca.id}", b"\x30" * 5000)
    assert 413 == long.status_code


def test_a_database_that_cannot_be_read_is_a_refusal_and_no_crash(
    bench: PublishingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = bench.ca("ca")
    bench.publish()

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(bench.app, "_list", broken)
    reply = bench.ask("GET", f"/crl/{ca.id}.crl")

    assert (503, "30") == (reply.status_code, reply.headers["retry-after"])
    assert "disk" not in reply.text


def test_a_long_list_is_sent_in_pieces_and_whole(bench: PublishingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "_SMALL", 100)
    monkeypatch.setattr(publication, "_CHUNK", 1000)
    ca = bench.ca("ca")
    for _ in range(100):
        bench.revoke(ca, bench.issue(ca))
    bench.publish()
    with served(bench) as url:
        content = httpx.get(f"{url}/crl/{ca.id}.crl").content
        bench.revoke(ca, bench.issue(ca))
        bench.publish()
        next_one = httpx.get(f"{url}/crl/{ca.id}.crl").content
    (old, new) = sorted(bench.directory.iterdir(), key=lambda path: path.stat().st_size)

    assert (old.read_bytes(), new.read_bytes()) == (content, next_one)
    assert 100 == len(list(bench.crl(ca))) - 1


def test_a_body_that_never_comes_is_not_waited_for(bench: PublishingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certbroker.web.http.BODY_SECONDS", 0.2)
    ca = bench.ca("ca")
    with served(bench) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as connection:
        connection.sendall(f"POST /ocsp/{ca.id} HTTP/1.1\r\nHost: x\r\nContent-Length: 80\r\n\r\n0".encode())
        reply = connection.recv(1000)

    assert reply.startswith(b"HTTP/1.1 408"), reply


@pytest.mark.parametrize("prefix", ["", "/pki"])
def test_the_path_of_the_url_may_be_taken_away_by_a_proxy(bench: PublishingBench, prefix: str) -> None:
    ca = bench.ca("ca")
    bench.publish()
    bench.app = PublicationApp(bench.app._publications, bench.clock, "/pki")

    assert 200 == bench.ask("GET", f"{prefix}/crl/{ca.id}.crl").status_code
    assert 404 == bench.ask("GET", f"/pki{prefix}x/crl/{ca.id}.crl").status_code


def test_a_sealed_broker_goes_on_publishing(tmp_path: Path, empty_database: Path) -> None:
    installation = Installation(tmp_path)
    (installation.data / "certbroker.db").write_bytes(empty_database.read_bytes())
    bench = PublishingBench(installation.data)
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.revoke(ca, leaf)
    bench.publish()
    # What it needs to say over TLS that it is sealed.
    ServerCertificate(bench.store, bench.seal, bench.clock, installation.data, ("localhost",)).refresh()
    bench.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    installation.configure(f'[pki]\nlisten = "127.0.0.1:{port}"\nurl = "http://127.0.0.1:{{port}}"')
    (installation.data / "seal.key").rename(tmp_path / "elsewhere")
    with installation.serve() as broker:
        broker.wait("sealed")
        crl = httpx.get(f"http://127.0.0.1:{port}/crl/{ca.id}.crl")
        status = httpx.post(f"http://127.0.0.1:{port}/ocsp/{ca.id}", content=request_for(ca, leaf, hashes.SHA256()))
        assert 0 == broker.stop()

    assert (200, "application/pkix-crl") == (crl.status_code, crl.headers["content-type"])
    assert ocsp.OCSPCertStatus.REVOKED is ocsp.load_der_ocsp_response(status.content).certificate_status


def encoded(request: bytes) -> str:
    return urllib.parse.quote(base64.b64encode(request).decode(), safe="")
