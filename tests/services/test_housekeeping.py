"""What the engine does now and then, on a broker in which nothing happens."""

from __future__ import annotations

from certbroker.app import Core
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Channel
from certbroker.domain.objects import Vault


def test_chores_write_nothing_where_there_is_nothing_to_do(core: Core, caller: Caller, vault: Vault) -> None:
    broker, store = core.broker, core.broker.store
    store.write(lambda transaction: transaction.channels.add(Channel(vault.id, "all", "webhook")))
    chores = (
        broker.deletions.purge_due,
        broker.housekeeping.forget_old_operations,
        broker.housekeeping.forget_expired_entries,
        broker.governor.tidy,
        broker.operations.bring_forward,
        broker.secret_expiry.tell,
        broker.digests.publish_due,
        broker.rotation.resume,
    )

    def commits_of_chores() -> int:
        before = store._writer.changes
        for chore in chores:
            chore()
        return store._writer.changes - before

    first = commits_of_chores()

    assert first > 0  # The time from which secrets are told of.
    assert 0 == commits_of_chores()


def test_all_vaults_share_a_commit_when_old_deliveries_are_forgotten(core: Core, caller: Caller) -> None:
    store = core.broker.store
    vaults = [core.broker.vaults.create(caller, f"vault-{number}") for number in range(8)]
    for vault in vaults:
        channel = Channel(vault.id, "all", "webhook")
        store.write(lambda transaction, channel=channel: transaction.channels.add(channel))
    before = store._writer.changes
    core.broker.deliveries.prune()

    assert store._writer.changes - before < len(vaults)
