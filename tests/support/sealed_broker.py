"""A broker with a sealed value in every table that can hold one, opened in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.objects import Attributes, Changes, Kind, Vault
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Version
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.issuers.resources import Memory
from certbroker.services.pki.authorities import NewAuthority
from certbroker.services.pki.signers import key_identity
from certbroker.store.sealing import TABLES
from certbroker.store.transaction import SQLTransaction

CALLER = Caller("tester", "Test")
SEALED_TABLES = {table.name for table in TABLES}


def open_broker(directory: Path, **seal: Any) -> Core:
    """Raises Sealed."""
    return open_core(build({"data": {"directory": directory}, "seal": seal}))


def fill(core: Core, versions: int = 5) -> None:
    """Make a vault named demo with something in every table."""
    broker = core.broker
    broker.vaults.create(CALLER, "empty")
    vault = broker.vaults.create(CALLER, "demo")
    made = [_version(core, vault, f"s{number}") for number in range(versions)]

    def store(transaction: SQLTransaction) -> None:
        for version in made:
            transaction.objects.add(vault.id, version)

    broker.store.write(store)
    broker.issuers.set(
        CALLER, vault, "CA", IssuerChanges(provider="Nobody", account_id="a", password="issuer password")
    )
    Memory(broker.store, core.seal, vault.id, "CA").save("account key", b"remembered")
    broker.authorities.create(CALLER, vault, "root", NewAuthority("CN=Root", key="Ed25519"))
    policy = CertificatePolicy(subject="CN=a.example")
    broker.certificates.create(CALLER, vault, "waiting", lambda current: policy, Changes())
    for operation in broker.operations.claim(broker.operations.due(10)):
        broker.operations.work(operation)


def _version(core: Core, vault: Vault, name: str) -> Version:
    attributes = Attributes(1, 1, True)
    version = Version(Kind.SECRET, name, "0" * 32, attributes)
    sealed = core.seal.close(version.identity(vault.id), f"value of {name}".encode())
    return Version(Kind.SECRET, name, "0" * 32, attributes, sealed=sealed)


def read_all(core: Core) -> dict[str, object]:
    """Every value that `fill` has stored, by the way that its own service reads it. Raises Sealed."""
    broker = core.broker
    vault = broker.vaults.find("demo")
    found: dict[str, object] = {}
    with broker.store.read() as transaction:
        names = [each.name for each in transaction.objects.listing(vault.id, Kind.SECRET, "", 10_000)]
        operation = transaction.operations.pending(vault.id, "waiting")
        issuer = transaction.issuers.get(vault.id, "CA")
        authority = transaction.authorities.active(vault.id, "root")
        settings = {
            name: transaction.vaults.sealed_setting(name)
            for name in ("token signing key", "server certification authority")
        }
    for name in names:
        found[name] = broker.secrets.reveal(vault, broker.secrets.find(vault, name, ""))
    assert operation is not None
    assert operation.sealed_key is not None
    assert issuer is not None
    assert issuer.sealed_password is not None
    assert authority is not None
    assert authority.sealed_key is not None
    found["authority"] = core.seal.open(key_identity(authority), authority.sealed_key)
    found["operation"] = core.seal.open(operation.key_identity, operation.sealed_key)
    found["password"] = broker.issuers._password(vault.id, "CA", issuer.sealed_password)
    found["memory"] = Memory(broker.store, core.seal, vault.id, "CA").load("account key")
    found["token key"] = broker.tokens._load_key().thumbprint()
    assert settings["token signing key"] is not None
    return found


def keks_in_use(core: Core) -> set[int]:
    """The key-encryption keys that rows are under."""
    with core.broker.store.read() as transaction:
        keks = transaction.vaults.keks()
        return {kek.id for kek in keks if transaction.vaults.sealed_rows.under(kek.id, 1)}


def kek_ids(core: Core) -> set[int]:
    """All key-encryption keys."""
    return {kek.id for kek in core.broker.store.glance().vaults.keks()}
