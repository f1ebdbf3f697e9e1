"""Revoking certificates of the scripted issuer, and what is known of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.errors import Invalid
from certbroker.domain.events import EventType
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes, Kind, Vault
from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Version
from certbroker.domain.renewal import Wish
from certbroker.domain.revocation import Reason, Revocation
from certbroker.ports.issuer import IssuerUnavailable
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.objects.foreign import take_apart
from certbroker.services.revocation.revocations import RevocationWish
from tests.support.certificates import Identity
from tests.support.issuer_bench import Bench

DOWN = IssuerUnavailable(Problem("Down", "The CA is down."))
NO = Invalid("The CA refused the revocation: no such thing.")
HOUR = timedelta(hours=1)


def listening(core: Core, caller: Caller, vault: Vault) -> Bench:
    """A bench with a channel that is told everything."""
    channel = Channel(vault.id, "all", "test", events=("*",))
    core.broker.store.write(lambda transaction: transaction.channels.add(channel))
    return Bench(core, caller, vault)


def issued(bench: Bench, **policy: Any) -> Version:
    bench.ask(bench.issued_for(90), **policy)
    bench.turn()
    bench.until(bench.clock.now() + timedelta(minutes=1))
    return bench.current()


def revoke(
    bench: Bench,
    version: Version,
    reason: Reason = Reason.SUPERSEDED,
    issuer: str | None = None,
    renew: bool | None = None,
) -> Revocation:
    wish = RevocationWish(reason, issuer, renew)
    return bench.revocations.revoke(bench.caller, bench.vault, version.name, version.version, wish)


def go_on(bench: Bench) -> int:
    claimed = bench.revocations.claim(10)
    for each in claimed:
        bench.revocations.go_on(each)
    return len(claimed)


def known(bench: Bench, version: Version) -> Revocation:
    assert version.certificate is not None
    found = bench.store.glance().revocations.get(version.certificate.sha256, bench.vault.id, version.name)
    assert found is not None
    return found


def told(bench: Bench, kind: EventType) -> int:
    cursor = bench.store.glance().outbox._cursor
    cursor.execute(
        "SELECT count(*) FROM outbox WHERE json_extract(event, '$.type') = ? AND vault_id = ?",
        (str(kind), bench.vault.id),
    )
    return int(cursor.fetchone()[0])


def in_another_vault(bench: Bench) -> Vault:
    """The same certificate in a vault with an issuer at the same CA by another name."""
    other = bench.core.broker.vaults.create(bench.caller, "other")
    channel = Channel(other.id, "all", "test", events=("*",))
    bench.store.write(lambda transaction: transaction.channels.add(channel))
    backups = bench.core.broker.backups
    backups.restore(
        bench.caller, other, Kind.CERTIFICATE, backups.backup(bench.caller, bench.vault, Kind.CERTIFICATE, "c")
    )
    bench.issuers.set(bench.caller, other, "theirs", IssuerChanges(provider="Scripted"))
    return other


def seen(bench: Bench, vault: Vault, name: str = "c") -> Revocation | None:
    return bench.certificates.get(vault, name, "").revocation


def wish(bench: Bench, vault: Vault) -> Wish | None:
    care = bench.store.glance().lifecycles.get(vault.id, "c")
    assert care is not None
    return care.lifecycle.wish


def public_of(bench: Bench, version: Version) -> bytes:
    key = bench.store.glance().objects.get(bench.vault.id, Kind.KEY, version.name, version.version)
    assert key is not None
    assert key.key is not None
    return key.key.public


def take_over(bench: Bench, name: str, identity: Identity) -> Version:
    imported = take_apart(identity.pem().encode(), None)
    view = bench.certificates.import_(
        bench.caller, bench.vault, name, imported, lambda stored: stored or CertificatePolicy(KeySpec("EC")), Changes()
    )
    return view.version
