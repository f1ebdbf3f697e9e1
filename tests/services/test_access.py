"""Access is taken away at once, whatever happens at the same time."""

from __future__ import annotations

import pytest

from certbroker.app import Core
from certbroker.domain.access import Assignment
from certbroker.domain.audit import Caller
from certbroker.domain.errors import AccessDenied, Invalid, NotFound, Unauthenticated
from certbroker.services.identity.access import Access
from certbroker.services.identity.tokens import BadCredentials, Principal, Tokens


def test_a_role_taken_away_while_roles_are_read_is_not_remembered(core: Core, caller: Caller) -> None:
    class Reading(Access):
        """Somebody takes a role away just when the roles have been read."""

        taken: Assignment | None = None

        def assignments(self) -> list[Assignment]:
            found = super().assignments()
            if self.taken is not None:
                self.unassign(caller, self.taken.id)
                self.taken = None
            return found

    access = Reading(core.broker.store, core.broker.clock)
    access.taken = access.assign(caller, "somebody", "Key Vault Reader", "/")

    access.authorize("somebody", "keys/read", "/vaults/v")
    with pytest.raises(AccessDenied, match="keys/read"):
        access.authorize("somebody", "keys/read", "/vaults/v")


def test_an_application_switched_off_while_its_token_is_verified_is_out(core: Core, caller: Caller) -> None:
    broker = core.broker
    application = broker.access.create_application(caller, "app")
    _, secret = broker.access.add_secret(caller, application.id)

    class Verifying(Tokens):
        """Somebody switches the application off just when its token has been verified."""

        def _verify(self, token: str, now: int) -> Principal:
            found = super()._verify(token, now)
            broker.access.enable_application(caller, application.id, enabled=False)
            self.forget()
            return found

    tokens = Verifying(broker.store, core.seal, broker.clock, core.tenant)
    token = tokens.issue(application.id, secret, "https://vault.example", "https://login.example")

    assert application.object_id == tokens.verify(token).object_id
    with pytest.raises(Unauthenticated, match="disabled"):
        tokens.verify(token)
    with pytest.raises(BadCredentials):
        tokens.issue(application.id, secret, "https://vault.example", "https://login.example")


def test_an_application_goes_with_its_secrets_and_roles(core: Core, caller: Caller) -> None:
    access = core.broker.access
    application = access.create_application(caller, "app")
    _, secret = access.add_secret(caller, "app")
    access.assign(caller, application.object_id, "Key Vault Reader", "/")
    access.delete_application(caller, application.object_id)

    assert [] == access.assignments()
    with pytest.raises(NotFound):
        access.secrets_of("app")
    with pytest.raises(BadCredentials):
        core.broker.tokens.issue(application.id, secret, "https://vault.example", "https://login.example")


def test_the_same_assignment_is_made_once(core: Core, caller: Caller) -> None:
    access = core.broker.access
    first = access.assign(caller, "somebody", "Key Vault Reader", "/vaults/V-1/")
    second = access.assign(caller, "somebody", "Key Vault Reader", "/vaults/v-1")

    assert [first] == [second] == access.assignments()


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "vaults/v",
        "/vaults",
        "/vaults/v-1/secrets",
        "/vaults/v-1/x/n",
        "/x/v-1",
        "/vaults/a_b",
        "/vaults/v-1/keys/n/1",
    ],
)
def test_scopes_that_lead_nowhere_are_refused(core: Core, caller: Caller, scope: str) -> None:
    with pytest.raises(Invalid):
        core.broker.access.assign(caller, "somebody", "Key Vault Reader", scope)
