"""Certificates that a quick CA signs on the event loop, in one transaction with what asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from certbroker.domain import operation as states
from certbroker.domain.authority import Issued
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation
from certbroker.services.pki.outside_requests import SignedRequest, SigningWish
from tests.private_ca.conftest import Site, names

T = TypeVar("T")

NAME = "www.corp.example"
POLICY = CertificatePolicy(KeySpec("EC", curve="P-256"), sans=names(dns_names=(NAME,)), issuer="ca")


def test_a_certificate_is_there_and_in_the_ledger_when_its_creation_is_acknowledged(site: Site) -> None:
    site.two()
    site.issuer()

    operation = _create(site)

    assert isinstance(operation.state, states.Prepared)
    assert isinstance(_state(site, operation), states.Completed)
    leaf, issuing = site.chain("www")
    leaf.verify_directly_issued_by(issuing)
    entry = site.core.broker.outside_requests.issued(site.vault, "issuing", f"{leaf.serial_number:x}")
    assert ("www", operation.version) == (entry.name, entry.version)
    assert not site.core.inbox.take()


@pytest.mark.parametrize("options", ["ca=issuing", "ca=issuing;over=other"], ids=["slow key", "cross-signed"])
def test_what_takes_longer_is_left_to_the_engine(site: Site, options: str) -> None:
    site.two("RSA-2048" if options == "ca=issuing" else "P-256")
    site.ca("other")
    site.issuer(options)

    operation = _create(site)

    assert isinstance(_state(site, operation), states.Prepared)
    assert [operation] == site.core.inbox.take()


def test_a_refusal_is_the_engines_to_tell(site: Site) -> None:
    site.two()
    site.issuer("ca=issuing;names=DNS:else.example")

    operation = _create(site)

    assert [operation] == site.core.inbox.take()
    site.core.broker.operations.work(operation)
    state = _state(site, operation)
    assert isinstance(state, states.Failed)
    assert "RefusedByCA" == state.problem.code


def test_a_small_request_is_signed_at_once_and_in_the_ledger(site: Site) -> None:
    site.two()

    signed = _sign(site, SigningWish(_request(), {"profile": "server"}))

    assert signed is not None
    entry = site.core.broker.outside_requests.issued(site.vault, "issuing", signed.entry.serial)
    assert replace(signed.entry, replies=None) == entry


def test_there_is_an_answer_about_a_certificate_before_anybody_has_it(site: Site) -> None:
    _, issuing = site.two()
    site.issuer()
    _create(site)
    signed = _sign(site, SigningWish(_request(), {"profile": "server"}))
    assert signed is not None

    serials = [entry.serial for entry in _ledger(site)]
    publications = site.core.broker.store.glance().publications
    replies = [publications.reply(issuing.id, serial) for serial in serials]

    assert 2 == len(replies)
    assert signed.entry.serial in serials
    now = site.core.broker.clock.now()
    for reply in replies:
        assert reply is not None
        assert now < reply.act_at < reply.next_update
        assert {"sha1", "sha256"} == set(reply.by_hash)


def test_the_engine_signs_the_answers_of_a_slow_key(site: Site) -> None:
    site.two("RSA-2048")
    wish = SigningWish(_request(), {"profile": "server"})
    signed = site.core.broker.outside_requests.sign(site.caller, site.vault, "issuing", wish)

    assert signed.entry.replies is None


@pytest.mark.parametrize("key", ["P-256", "RSA-2048"])
def test_a_large_request_and_a_slow_key_are_left_to_a_thread(site: Site, key: str) -> None:
    site.two(key)
    request = _request(100) if key == "P-256" else _request()

    assert _sign(site, SigningWish(request, {"profile": "server"})) is None


def _request(count: int = 1) -> bytes:
    sans = x509.SubjectAlternativeName([x509.DNSName(f"n{number:02}.corp.example") for number in range(count)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(sans, critical=True)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)


def _create(site: Site) -> Operation:
    certificates = site.core.broker.certificates
    return _run(site, certificates.create_soon(site.caller, site.vault, "www", lambda stored: POLICY, Changes()))


def _ledger(site: Site) -> list[Issued]:
    return list(site.core.broker.outside_requests.ledger(site.vault, "issuing", "", "", 10).items)


def _sign(site: Site, wish: SigningWish) -> SignedRequest | None:
    return _run(site, site.core.broker.outside_requests.sign_soon(site.caller, site.vault, "issuing", wish))


def _run(site: Site, asking: Coroutine[Any, Any, T]) -> T:
    async def on_a_loop() -> T:
        with site.core.broker.store.reading_on_this_loop():
            return await asking

    return asyncio.run(on_a_loop())


def _state(site: Site, operation: Operation) -> states.State:
    found = site.core.broker.store.glance().operations.get(operation.id)
    assert found is not None
    return found.state
