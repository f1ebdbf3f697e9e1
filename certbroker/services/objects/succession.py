"""What follows when another version of a certificate or key is in use, or one that was deleted is live again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from certbroker.domain.objects import Kind
from certbroker.domain.policy import UNKNOWN, CertificatePolicy
from certbroker.domain.records import Version
from certbroker.domain.rotation import DEFAULT, next_due
from certbroker.store.rotations import Rotation
from certbroker.store.transaction import SQLTransaction

# Before the endpoints are looked at for the first time, so that a deployment that is quick is not found missing.
_FIRST_LOOK: Final = timedelta(seconds=5)


def follow(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Have the version in use deployed now, and its endpoints looked at soon."""
    transaction.deployments.disturb(vault_id, name, now)
    transaction.endpoints.disturb(vault_id, name, now + _FIRST_LOOK)


def follow_key(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Plan when the key is looked at next: for its rotation, or to tell people of its end."""
    stored = transaction.rotations.get(vault_id, name)
    current = transaction.objects.get(vault_id, Kind.KEY, name)
    due = None
    if current is not None and not current.managed:
        rotation = stored or Rotation(vault_id, name)
        due = next_due(rotation.policy or DEFAULT, current.attributes, rotation.told_of(current.version), now)
    if stored is not None or due is not None:
        transaction.rotations.put(stored or Rotation(vault_id, name), None if due is None else due.at)


def resume(transaction: SQLTransaction, vault_id: int, name: str, now: datetime) -> None:
    """Look after a certificate that was recovered or restored: its lifecycle was forgotten, or there never was one."""
    current = transaction.objects.get(vault_id, Kind.CERTIFICATE, name)
    policy = transaction.objects.policy(vault_id, name)
    transaction.lifecycles.made(vault_id, name, _made_by(current, policy), now)
    if current is not None and policy is not None:
        _rest_again(transaction, vault_id, current, policy, now)
    follow(transaction, vault_id, name, now)


def _rest_again(
    transaction: SQLTransaction, vault_id: int, current: Version, policy: CertificatePolicy, now: datetime
) -> None:
    """Let a version go on resting that had not become the current one yet.

    That was forgotten with the lifecycle, but each secret names the version that was in use when it was made. When they
    were made says less: in the same second, or by a clock that was wrong.
    """
    secrets = transaction.objects.all_versions(vault_id, Kind.SECRET, current.name)
    after = [each.version for each in secrets if each.previous == current.version]
    newer = transaction.objects.get(vault_id, Kind.CERTIFICATE, current.name, after[-1]) if after else None
    if newer is None:
        return
    made, ends = (
        datetime.fromtimestamp(seconds or 0, now.tzinfo)
        for seconds in (newer.attributes.created, current.attributes.expires)
    )
    rest = min(timedelta(hours=policy.activation_delay_hours), max(ends - made, timedelta(0)) / 2)
    issuer = _made_by(newer, policy)
    transaction.lifecycles.stage(vault_id, current.name, issuer, newer.version, max(now, made + rest), now)


def _made_by(version: Version | None, policy: CertificatePolicy | None) -> str | None:
    """The issuer that has made a version; where that is not on record, the one that would make the next."""
    facts = version.certificate if version else None
    if facts is None or policy is None:
        return None
    if facts.made_by is not None:
        return facts.made_by or None
    return None if policy.issuer.lower() == UNKNOWN.lower() else policy.issuer
