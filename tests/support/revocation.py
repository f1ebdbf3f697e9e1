"""Who says whether certificates are revoked: lists and replies made on the spot, and openssl as an independent CA."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from pebble.launcher import Pebble
from pebble.loopback import HOST, free_ports
from tests.support.certificates import Authority, Key, pem

Entry = tuple[int, x509.ReasonFlags | None]
Entries = Iterable[Entry]
Extensions = Iterable[tuple[x509.ExtensionType, bool]]


def crl(
    issuer: x509.Certificate,
    key: Key,
    entries: Entries = (),
    *,
    number: int | None = 1,
    now: datetime | None = None,
    made: timedelta = timedelta(0),
    life: timedelta = timedelta(days=7),
    extensions: Extensions = (),
) -> bytes:
    """A CRL in DER; `made` is when, from now."""
    at = (now or datetime.now(UTC)).replace(microsecond=0) + made
    listed = []
    for serial, reason in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at - timedelta(minutes=1))
        listed.append((entry if reason is None else entry.add_extension(x509.CRLReason(reason), False)).build())
    builder = x509.CertificateRevocationListBuilder(issuer.subject, at, at + life, revoked_certificates=listed)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def distribution_point(*urls: str, **only: bool) -> tuple[x509.IssuingDistributionPoint, bool]:
    """The critical extension by which a CRL says what it is about."""
    flags = {
        name: only.get(name, False)
        for name in (
            "only_contains_user_certs",
            "only_contains_ca_certs",
            "indirect_crl",
            "only_contains_attribute_certs",
        )
    }
    names = [x509.UniformResourceIdentifier(url) for url in urls] or None
    return x509.IssuingDistributionPoint(names, None, only_some_reasons=None, **flags), True


def points_at(
    crl: str | None = None, ocsp: str | None = None, issuer: str | None = None
) -> list[tuple[x509.ExtensionType, bool]]:
    """The extensions by which a certificate says who tells of its revocation."""
    found: list[tuple[x509.ExtensionType, bool]] = []
    if crl is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl)], None, None, None)
        found.append((x509.CRLDistributionPoints([point]), False))
    access = [(AuthorityInformationAccessOID.OCSP, ocsp), (AuthorityInformationAccessOID.CA_ISSUERS, issuer)]
    described = [x509.AccessDescription(oid, x509.UniformResourceIdentifier(url)) for oid, url in access if url]
    if described:
        found.append((x509.AuthorityInformationAccess(described), False))
    return found


def ocsp_reply(
    authority: Authority,
    leaf: x509.Certificate,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    made: timedelta = timedelta(0),
    life: timedelta = timedelta(hours=1),
    responder: tuple[x509.Certificate, Key] | None = None,
    nonce: bytes | None = None,
    issuer: x509.Certificate | None = None,
    now: datetime | None = None,
) -> bytes:
    """A signed OCSP reply in DER."""
    at = (now or datetime.now(UTC)).replace(microsecond=0) + made
    signer, key = responder or (authority.certificate, authority.key)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        leaf,
        issuer or authority.certificate,
        hashes.SHA1(),
        status,
        at,
        at + life,
        at - timedelta(minutes=1) if revoked else None,
        x509.ReasonFlags.key_compromise if revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
    if responder is not None:
        builder = builder.certificates([signer])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class Page:
    """What is at a path: bytes that may be there or not, and how they come."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    endless: bool = False
    answer: Callable[[bytes], bytes] | None = None


class Publisher:
    """Serves CRLs and the like on loopback, and remembers what was asked. A context manager."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._ending = threading.Event()
        publisher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                publisher._answer(self, b"")

            def do_POST(self) -> None:
                publisher._answer(self, self.rfile.read(int(self.headers.get("content-length", "0"))))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it.
                pass

        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}{path}"

    def put(self, path: str, body: bytes = b"", **how: object) -> str:
        """Publish something, and return its URL."""
        self.pages[path] = Page(body, **how)  # type: ignore[arg-type]  # named as the fields
        return self.url(path)

    def asked_for(self, path: str) -> int:
        return sum(asked == path for _, asked, _ in self.asked)

    def _answer(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = next((each for each in self.pages if request.path == each or request.path.startswith(f"{each}/")), "")
        self.asked.append((request.command, path or request.path, headers))
        page = self.pages.get(path, Page(status=404))
        if page.seconds:
            self._ending.wait(page.seconds)
        content = page.body if page.answer is None else page.answer(body or request.path[len(path) + 1 :].encode())
        known = page.headers.get("etag")
        fresh = known is not None and headers.get("if-none-match") == known
        request.send_response(304 if fresh else page.status)
        for name, value in page.headers.items():
            request.send_header(name, value)
        if page.endless:
            request.end_headers()
            with_end = time.monotonic() + 30
            try:
                while time.monotonic() < with_end and not self._ending.is_set():
                    request.wfile.write(bytes(65536))
            except OSError:
                pass
            request.close_connection = True
            return
        if "content-length" not in page.headers:
            request.send_header("content-length", "0" if fresh else str(len(content)))
        request.end_headers()
        if not fresh:
            request.wfile.write(content)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class OpenSSLCA:
    """A CA that openssl runs, on an authority's key: it makes CRLs and answers OCSP by a database of its own."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lines: list[str] = []
        self._responder: subprocess.Popen[bytes] | None = None
        (directory / "ca.pem").write_text(pem(authority.certificate))
        key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "ca.key").write_bytes(key)
        (directory / "crlnumber").write_text("01\n")
        (directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca = this\n[this]\n"
            f"database = {directory}/index.txt\ncrlnumber = {directory}/crlnumber\ncertificate = {directory}/ca.pem\n"
            f"private_key = {directory}/ca.key\ndefault_md = sha256\ndefault_crl_days = 7\ncrl_extensions = ext\n"
            "[ext]\nauthorityKeyIdentifier = issuer:always\n"
        )
        self._write()

    def know(self, leaf: x509.Certificate, reason: str | None = None) -> None:
        """Put a certificate into the database, revoked where there is a reason."""
        stamp = "%y%m%d%H%M%SZ"
        revoked = f"{datetime.now(UTC):{stamp}},{reason}" if reason else ""
        serial = f"{leaf.serial_number:X}"
        serial = serial.zfill(len(serial) + len(serial) % 2)
        line = f"{'R' if reason else 'V'}\t{leaf.not_valid_after_utc:{stamp}}\t{revoked}\t{serial}\tunknown\t/CN=x\n"
        self._lines.append(line)
        self._write()

    def crl(self, digest: str = "sha256") -> bytes:
        """The list in DER."""
        out = self._directory / "crl.pem"
        self._run("ca", "-gencrl", "-config", str(self._directory / "ca.cnf"), "-md", digest, "-out", str(out))
        return x509.load_pem_x509_crl(out.read_bytes()).public_bytes(Encoding.DER)

    def respond(self, port: int = 0) -> str:
        """Answer OCSP from now on, by the database as it is now; the URL."""
        port = port or free_ports(1)[0]
        files = [str(self._directory / name) for name in ("index.txt", "ca.pem", "ca.key")]
        command = ["openssl", "ocsp", "-port", str(port), "-index", files[0], "-CA", files[1], "-rsigner", files[1]]
        command += ["-rkey", files[2], "-ndays", "1"]
        with (self._directory / "ocsp.log").open("wb") as log:
            self._responder = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while b"waiting" not in (self._directory / "ocsp.log").read_bytes():
            assert time.monotonic() < deadline, "openssl ocsp does not answer"
            time.sleep(0.02)
        return f"http://{HOST}:{port}/"

    def stop(self) -> None:
        if self._responder is not None:
            self._responder.terminate()
            self._responder.wait()

    def verifies(self, leaf: x509.Certificate, listed: bytes) -> str:
        """What `openssl verify` says of a certificate with a CRL in DER."""
        (self._directory / "leaf.pem").write_text(pem(leaf))
        (self._directory / "given.pem").write_bytes(x509.load_der_x509_crl(listed).public_bytes(Encoding.PEM))
        done = subprocess.run(
            ["openssl", "verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "given.pem", "leaf.pem"],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    def _write(self) -> None:
        (self._directory / "index.txt").write_text("".join(self._lines))

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def pebble_crl(pebble: Pebble, *entries: Entry, number: int) -> bytes:
    """A CRL that the test CA's own intermediate has signed."""
    issuer = x509.load_pem_x509_certificate(pebble.management.intermediate())
    key = load_pem_private_key(pebble.management.intermediate_key(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return crl(issuer, key, entries, number=number)
