"""What TLS can be served with is read once and served; what would end the process is refused by name."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certbroker.web.served_certificate import UnusableCertificate, read_certificate
from certbroker.web.server import Listener, bind
from tests.support.certificates import AnyKey, Authority, pem, self_signed

_MAKERS: dict[str, Callable[[], AnyKey]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "P-256K": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA 2056": lambda: rsa.generate_private_key(65537, 2056),
    "RSA 2560": lambda: rsa.generate_private_key(65537, 2560),
    "RSA with 3": lambda: rsa.generate_private_key(3, 2048),
}
_CRITICAL = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a certificate that can be served."""
    identity = Authority().issue("localhost")
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    chain.write_text("".join(map(pem, identity.chain)))
    key.write_text(identity.key_pem())
    return chain, key


def _shown(port: int) -> bytes:
    """The certificate that is shown there, in DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as tls:
        return tls.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA 2048", "RSA 3072"])
def test_what_is_accepted_is_served_also_when_the_files_have_gone(tmp_path: Path, kind: str) -> None:
    identity = self_signed(_MAKERS[kind]())
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    chain.write_text(pem(identity.certificate))
    key.write_text(identity.key_pem())
    certificate = read_certificate(chain, key)
    chain.unlink()
    key.unlink()

    async def served() -> bytes:
        listener = Listener(bind("127.0.0.1", 0), _nothing, certificate)
        await listener.start()
        try:
            return await asyncio.to_thread(_shown, listener.port)
        finally:
            await listener.stop()

    assert identity.certificate == x509.load_der_x509_certificate(asyncio.run(served()))


@pytest.mark.parametrize("kind", ["P-521", "P-256K", "RSA 1024", "RSA 2056", "RSA 2560", "RSA with 3"])
def test_keys_that_the_server_does_not_take_are_refused(tmp_path: Path, kind: str) -> None:
    identity = self_signed(_MAKERS[kind]())
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    chain.write_text(pem(identity.certificate))
    key.write_text(identity.key_pem())

    with pytest.raises(UnusableCertificate, match=r"tls\.pem: TLS is served with keys on P-256") as refused:
        read_certificate(chain, key)
    assert "certificate" == refused.value.part


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "no private key"),
        (self_signed(_MAKERS["P-256"]()).key_pem().encode(), "not that of the first certificate"),
        (self_signed(_MAKERS["P-256"]()).key_pem("secret").encode(), "encrypted"),
        (self_signed(_MAKERS["P-521"]()).key_pem().encode(), "this is another key"),
    ],
    ids=["missing", "empty", "malformed", "another", "encrypted", "P-521"],
)
def test_a_key_that_cannot_be_used_is_refused(pair: tuple[Path, Path], content: bytes | None, problem: str) -> None:
    chain, key = pair
    key.unlink()
    if content is not None:
        key.write_bytes(content)

    with pytest.raises(UnusableCertificate, match=rf"tls\.key: .*{problem}") as refused:
        read_certificate(chain, key)
    assert "key" == refused.value.part


def test_certificates_that_the_server_does_not_take_are_refused(pair: tuple[Path, Path]) -> None:
    """Those of version 1, which OpenSSL makes of a request without extensions, are among them, but nobody makes them
    here."""
    chain, key = pair
    critical = Authority().issue("localhost", extensions=[(_CRITICAL, True)])
    key.write_text(critical.key_pem())
    chain.write_text(pem(critical.certificate))

    with pytest.raises(UnusableCertificate, match=r"critical extension 2\.5\.29\.32"):
        read_certificate(chain, key)
    chain.write_text("no certificate")
    with pytest.raises(UnusableCertificate, match="no certificate in PEM"):
        read_certificate(chain, key)


def test_what_has_not_changed_is_known_and_what_has_is_read(pair: tuple[Path, Path]) -> None:
    chain, key = pair
    first = read_certificate(chain, key)
    again = read_certificate(chain, key, first)
    other = Authority().issue("localhost")
    chain.write_text(pem(other.certificate))
    key.write_text(other.key_pem())

    assert first is again
    assert pem(other.certificate).encode() == read_certificate(chain, key, first).chain
    assert "PRIVATE" not in repr(first)


async def _nothing(scope: object, receive: object, send: object) -> None:
    """An application that is never asked."""
