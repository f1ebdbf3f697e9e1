"""One broker in this process for each module, a vault of its own for each test, and a CA in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.authority import Authority
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Vault
from certbroker.domain.operation import Completed, Failed
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.domain.records import Operation
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.pki.authorities import NewAuthority

PUBLISHED = "http://pki.example"


@dataclass
class Site:
    """A vault, and what is asked of it."""

    core: Core
    caller: Caller
    vault: Vault

    def ca(self, name: str, subject: str = "", **wanted: Any) -> Authority:
        new = NewAuthority(subject or f"CN=Example {name},O=Example", **wanted)
        return self.core.broker.authorities.create(self.caller, self.vault, name, new)

    def two(self, key: str = "P-256", **issuing: Any) -> tuple[Authority, Authority]:
        """A root, and an issuing CA below it."""
        return self.ca("root", key=key), self.ca("issuing", key=key, days=1826, parent="root", **issuing)

    def issuer(self, options: str = "ca=issuing", name: str = "ca") -> None:
        changes = IssuerChanges(provider="PrivateCA", organization_id=options)
        self.core.broker.issuers.set(self.caller, self.vault, name, changes)

    def ask(self, name: str = "www", **policy: Any) -> Operation:
        """Ask for a certificate, have the engine's step done, and return the operation as it is then."""
        given = {"subject": "CN=www.corp.example", "sans": names(dns_names=("www.corp.example",)), "issuer": "ca"}
        wanted = CertificatePolicy(**({"key": KeySpec("EC")} | given | policy))
        broker = self.core.broker
        operation = broker.certificates.create(self.caller, self.vault, name, lambda stored: wanted, Changes())
        self.core.inbox.take()
        broker.operations.work(operation)
        found = broker.store.glance().operations.get(operation.id)
        assert found is not None
        return found

    def issue(self, name: str = "www", **policy: Any) -> list[x509.Certificate]:
        """The certificate with its chain."""
        operation = self.ask(name, **policy)
        assert isinstance(operation.state, Completed), operation.state
        return self.chain(name)

    def chain(self, name: str) -> list[x509.Certificate]:
        facts = self.core.broker.certificates.get(self.vault, name, "").version.certificate
        assert facts is not None
        return [x509.load_der_x509_certificate(each) for each in facts.chain]

    def refusal(self, **policy: Any) -> str:
        """Why a certificate is not issued."""
        state = self.ask(f"n{secrets.token_hex(4)}", **policy).state
        assert isinstance(state, Failed), state
        assert state.problem.code == "RefusedByCA", state
        return state.problem.message


def names(**given: tuple[str, ...]) -> SubjectAlternativeNames:
    return SubjectAlternativeNames(**given)


def certificate(authority: Authority) -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.certificate)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    pki = {"listen": "127.0.0.1:8080", "url": PUBLISHED}
    core = open_core(build({"data": {"directory": tmp_path_factory.mktemp("private-ca")}, "pki": pki}))
    yield core
    core.close()


@pytest.fixture
def site(core: Core) -> Site:
    caller = Caller("operator", "Test")
    return Site(core, caller, core.broker.vaults.create(caller, f"v{secrets.token_hex(6)}"))
