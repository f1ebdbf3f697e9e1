"""Certificates that are made where they are asked for, in one transaction with their operation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from cryptography import x509

from certbroker.app import Core
from certbroker.domain import operation as states
from certbroker.domain.audit import Caller
from certbroker.domain.chain import facts_of
from certbroker.domain.errors import OperationInProgress
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Operation
from certbroker.services.issuance.creation import Creation

T = TypeVar("T")

P256 = CertificatePolicy(KeySpec("EC", curve="P-256"), subject="CN=www.example.com", issuer="Self")


@pytest.fixture
def bench(core: Core, caller: Caller, vault: Vault) -> Bench:
    return Bench(core, caller, vault)


class Bench:
    """A broker whose engine stands still."""

    def __init__(self, core: Core, caller: Caller, vault: Vault) -> None:
        self.core, self.caller, self.vault = core, caller, vault
        self.store, self.certificates = core.broker.store, core.broker.certificates

    def ask(self, policy: CertificatePolicy = P256, name: str = "C", **changes: Any) -> Operation:
        return self.run(
            self.certificates.create_soon(self.caller, self.vault, name, lambda stored: policy, Changes(**changes))
        )

    def run(self, asking: Coroutine[Any, Any, T]) -> T:
        async def on_a_loop() -> T:
            with self.store.reading_on_this_loop():
                return await asking

        return asyncio.run(on_a_loop())

    def creation(self, policy: CertificatePolicy = P256) -> Creation:
        now = self.core.broker.clock.now()
        operations = self.core.broker.operations
        return Creation(operations, self.caller, self.vault, "C", lambda stored: policy, Changes(), False, now)

    def state(self, operation: Operation) -> states.State:
        found = self.store.glance().operations.get(operation.id)
        assert found is not None
        return found.state

    def records(self) -> list[str]:
        """What is in the audit log, in order."""
        with self.core.broker.store.read() as transaction:
            cursor = transaction.operations._cursor
            rows = cursor.execute("SELECT record FROM audit ORDER BY seq").fetchall()
        return [row[0].decode() for row in rows]


def test_a_self_signed_certificate_is_there_when_its_creation_is_acknowledged(bench: Bench) -> None:
    operation = bench.ask(tags={"a": "b"})

    assert isinstance(operation.state, states.Prepared)
    assert isinstance(bench.state(operation), states.Completed)
    for kind in Kind:
        version = bench.store.glance().objects.get(bench.vault.id, kind, "c")
        assert version is not None
        assert (operation.version, {"a": "b"}) == (version.version, version.tags)
    assert bench.store.glance().lifecycles.get(bench.vault.id, "c") is not None
    assert not bench.core.inbox.take()


def test_what_is_stored_of_it_is_what_it_says(bench: Bench) -> None:
    bench.ask()

    version = bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c")
    assert version is not None
    assert version.certificate is not None
    leaf = x509.load_der_x509_certificate(version.certificate.leaf)
    assert facts_of([leaf], exportable=True, made_by="Self") == version.certificate
    shown = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert shown is not None
    assert isinstance(shown.state, states.Completed)
    assert x509.load_der_x509_csr(shown.state.csr).public_key() == leaf.public_key()


def test_both_that_it_was_asked_for_and_that_it_was_made_are_on_record(bench: Bench) -> None:
    operation = bench.ask()

    *_, asked, made = bench.records()
    assert "/certificates/C/pending" in asked
    assert bench.caller.principal in asked
    assert f"/certificates/C/{operation.version}" in made
    assert "CertificateIssue" in made


def test_a_second_version_takes_the_place_of_the_first(bench: Bench) -> None:
    first, second = bench.ask(), bench.ask(name="c")

    secret = bench.store.glance().objects.get(bench.vault.id, Kind.SECRET, "c")
    assert secret is not None
    assert (second.version, first.version) == (secret.version, secret.previous)
    shown = bench.store.glance().operations.pending(bench.vault.id, "c")
    assert shown is not None
    assert (second.id, "C") == (shown.id, second.name)


@pytest.mark.parametrize("spec", [KeySpec("RSA", 2048), KeySpec("EC", curve="P-521")])
def test_what_takes_longer_is_left_to_the_engine(bench: Bench, spec: KeySpec) -> None:
    operation = bench.ask(CertificatePolicy(spec, subject="CN=www.example.com", issuer="Self"))

    assert isinstance(bench.state(operation), states.Prepared)
    assert [operation] == bench.core.inbox.take()


def test_a_certificate_that_cannot_be_made_at_once_is_left_to_the_engine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.core.broker.issuers, "open", fail)
    operation = bench.ask()

    assert isinstance(bench.state(operation), states.Prepared)
    assert [operation] == bench.core.inbox.take()


def test_what_was_made_is_thrown_away_when_somebody_was_quicker(bench: Bench) -> None:
    with bench.store.read() as seen:
        work = bench.creation().at_once(seen)
    assert work is not None
    quicker = bench.ask()
    settlement = bench.store.write(work)

    assert settlement is None
    current = bench.store.glance().objects.get(bench.vault.id, Kind.CERTIFICATE, "c")
    assert current is not None
    assert quicker.version == current.version


def test_an_unfinished_operation_stands_in_the_way(bench: Bench) -> None:
    bench.ask(CertificatePolicy(KeySpec("RSA", 2048), subject="CN=www.example.com", issuer="Self"))

    with pytest.raises(OperationInProgress):
        bench.ask()


def test_many_that_are_asked_for_at_once_share_commits(bench: Bench) -> None:
    async def many() -> list[Operation]:
        asking = [
            bench.certificates.create_soon(bench.caller, bench.vault, f"c{n}", lambda stored: P256, Changes())
            for n in range(40)
        ]
        return await asyncio.gather(*asking)

    before = bench.store._writer.changes
    made = bench.run(many())

    assert bench.store._writer.changes - before <= 4
    assert all(isinstance(bench.state(operation), states.Completed) for operation in made)
