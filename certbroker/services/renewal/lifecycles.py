"""How one certificate is looked after, for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certbroker.domain import operation as states
from certbroker.domain.lifecycle import Health, Lifecycle
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import AUTO_RENEW
from certbroker.domain.renewal import renewal_point
from certbroker.services.objects.naming import live
from certbroker.services.renewal.renewals import Renewals
from certbroker.store.database import SQLiteStore
from certbroker.store.lifecycles import Care


@dataclass(frozen=True, slots=True)
class LifecycleView:
    """A certificate's care. `point` is when the policy alone renews it, and by which rule; None where it does not."""

    name: str
    care: Care
    expires: datetime | None = None
    point: tuple[datetime, str] | None = None


class Lifecycles:
    """Shows lifecycles as the engine has left them, with what they are decided on."""

    def __init__(self, store: SQLiteStore, renewals: Renewals) -> None:
        self._store = store
        self._renewals = renewals

    def view(self, vault: Vault, name: str) -> LifecycleView:
        """How a certificate is. Raises NotFound."""
        with self._store.read() as transaction:
            head = live(transaction, vault.id, Kind.CERTIFICATE, name)
            care = transaction.lifecycles.get(vault.id, name)
            operation = transaction.operations.pending(vault.id, name)
            if care is None:
                return LifecycleView(
                    head.name, Care(vault.id, name.lower(), 0, _first(operation.state if operation else None))
                )
            facts = self._renewals.look([care])[0].facts
        if facts is None:
            return LifecycleView(head.name, care)
        renewed = not facts.manual and any(action.action == AUTO_RENEW for action in facts.policy.lifetime_actions)
        return LifecycleView(head.name, care, facts.not_after, renewal_point(facts) if renewed else None)


def _first(state: states.State | None) -> Lifecycle:
    """Of a certificate that the engine has had no reason to look at: its first version is on its way."""
    if isinstance(state, states.AwaitingMerge):
        return Lifecycle(health=Health.NEEDS_PERSON, reason="It waits for its signed certificate to be merged.")
    return Lifecycle(health=Health.RENEWING, reason="Its first version is being made.")
