"""The test CA really issues: the plain `acme` client against it, with nothing of certbroker in between."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import josepy
import pytest
from acme import challenges, client, crypto_util, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pebble import Pebble
from tests.support.peers import require_pebble

pytestmark = pytest.mark.xdist_group("peers")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    require_pebble(recent=True)
    # No lost nonces and no reuse: this client gives up sooner than ours.
    with Pebble(tmp_path_factory.mktemp("pebble"), nonce_reject=0, authz_reuse=0) as running:
        yield running


@pytest.fixture(scope="module")
def acme(ca: Pebble) -> Iterator[client.ClientV2]:
    key = ec.generate_private_key(ec.SECP256R1())
    account_key = josepy.JWKEC(key=josepy.ComparableECKey(key))
    network = client.ClientNetwork(account_key, alg=josepy.ES256, verify_ssl=str(ca.ca_path))
    network.session.trust_env = False  # A proxy from the environment would not reach this machine's loopback.
    acme = client.ClientV2(client.ClientV2.get_directory(ca.directory_url, network), network)
    acme.new_account(messages.NewRegistration.from_data(terms_of_service_agreed=True))
    yield acme
    network.session.close()


def order(acme: client.ClientV2, name: str) -> messages.OrderResource:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return acme.new_order(crypto_util.make_csr(pem, [name]))


def challenge(
    order: messages.OrderResource, kind: type[challenges.KeyAuthorizationChallenge]
) -> messages.ChallengeBody:
    found: messages.ChallengeBody = next(
        c for c in order.authorizations[0].body.challenges if isinstance(c.chall, kind)
    )
    return found


def finish(acme: client.ClientV2, order: messages.OrderResource) -> x509.Certificate:
    # The deadlines of this client are naive local time.
    finished = acme.poll_and_finalize(order, datetime.now() + timedelta(seconds=20))  # noqa: DTZ005 # see above
    return x509.load_pem_x509_certificate(finished.fullchain_pem.encode())


def test_dns_01_is_answered_by_the_dns_server_and_the_ca_knows_the_certificate(
    ca: Pebble, acme: client.ClientV2
) -> None:
    pending = order(acme, "dns.example")
    dns_01 = challenge(pending, challenges.DNS01)
    response, value = dns_01.chall.response_and_validation(acme.net.key)
    ca.dns.set_txt("_acme-challenge.dns.example", value)
    acme.answer_challenge(dns_01, response)

    certificate = finish(acme, pending)

    status = ca.management.certificate_status(certificate.serial_number)
    assert status is not None
    assert "Valid" == status.status
    assert x509.load_pem_x509_certificate(status.certificate.encode()) == certificate
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.management.intermediate()))
    assert timedelta(days=89) < certificate.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=90)


def test_http_01_is_looked_for_at_http_port_under_any_name(ca: Pebble, acme: client.ClientV2) -> None:
    pending = order(acme, "http.example")
    http_01 = challenge(pending, challenges.HTTP01)
    response, value = http_01.chall.response_and_validation(acme.net.key)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(value.encode() if self.path == http_01.chall.path else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name in the standard library
            pass

    with HTTPServer(("127.0.0.1", ca.http_port), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            acme.answer_challenge(http_01, response)

            assert finish(acme, pending)
        finally:
            server.shutdown()
            thread.join()


def test_renewal_information_and_revocation_can_be_set_and_seen(ca: Pebble, acme: client.ClientV2) -> None:
    pending = order(acme, "renewed.example")
    dns_01 = challenge(pending, challenges.DNS01)
    response, value = dns_01.chall.response_and_validation(acme.net.key)
    ca.dns.set_txt("_acme-challenge.renewed.example", value)
    acme.answer_challenge(dns_01, response)
    certificate = finish(acme, pending)
    window = {"start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z"}

    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    ca.management.set_renewal_info(pem, json.dumps({"suggestedWindow": window}))

    at, _ = acme.renewal_time(pem.encode())
    assert at is not None
    assert 2030 == at.year

    acme.revoke(certificate, 4)

    status = ca.management.certificate_status(certificate.serial_number)
    assert status is not None
    assert ("Revoked", 4) == (status.status, status.reason)
    assert status.revoked_at
