"""Applications, their secrets and roles, and the one place where access is decided."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec.structs import replace

from certbroker.domain.access import (
    ROLES,
    Application,
    Assignment,
    Credential,
    role_allows,
    scope_covers,
    secret_digest,
)
from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import AccessDenied, Conflict, Invalid, NotFound
from certbroker.domain.objects import VAULT_NAME
from certbroker.ports.clock import Clock
from certbroker.store.database import SQLiteStore
from certbroker.store.transaction import SQLTransaction

T = TypeVar("T")

MAX_SECRET_DAYS: Final = 730


class Access:
    """Who may come in and what they may do. Role assignments are held in memory and read again after each change."""

    def __init__(self, store: SQLiteStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, list[Assignment]] = {}

    def authorize(self, principal: str, action: str, target: str) -> None:
        """Raise AccessDenied unless a role of the principal allows the action at the target."""
        for assignment in self._of(principal):
            if role_allows(assignment.role, action) and scope_covers(assignment.scope, target):
                return
        raise AccessDenied(
            f"Caller is not authorized to perform action on resource. Action: '{action}', resource: '{target}', "
            f"caller: '{principal}'. Ask for a role that has the action; new assignments hold at once."
        )

    def create_application(self, caller: Caller, name: str) -> Application:
        """Make an application without credentials or roles. Raises Invalid, Conflict."""
        if not 1 <= len(name) <= 120 or not name.isprintable():
            raise Invalid("The name of an application has 1 to 120 printable characters.")
        application = Application(str(uuid.uuid4()), name, str(uuid.uuid4()), enabled=True, created=self._now())

        def work(transaction: SQLTransaction) -> Application:
            if any(other.name == name for other in transaction.identities.applications()):
                raise Conflict(f"There is an application named {name} already.")
            transaction.identities.put_application(application)
            return application

        return self._write(caller, f"/applications/{application.id}", work)

    def applications(self) -> list[Application]:
        return self._store.glance().identities.applications()

    def application(self, reference: str) -> Application:
        """The application of this client id, object id or name. Raises NotFound."""
        for application in self.applications():
            if reference in (application.id, application.object_id, application.name):
                return application
        raise NotFound("application", f"Application not found: {reference[:120]}.")

    def delete_application(self, caller: Caller, reference: str) -> None:
        """Delete an application with its credentials and roles; its tokens stop working at once. Raises NotFound."""
        application = self.application(reference)
        self._write(caller, f"/applications/{application.id}", lambda tx: tx.identities.remove_application(application))

    def enable_application(self, caller: Caller, reference: str, *, enabled: bool) -> Application:
        """Switch an application on or off. Raises NotFound."""
        application = replace(self.application(reference), enabled=enabled)
        self._write(caller, f"/applications/{application.id}", lambda tx: tx.identities.put_application(application))
        return application

    def add_secret(self, caller: Caller, reference: str, days: int = 180) -> tuple[Credential, str]:
        """Make a client secret; it can be seen only now. Raises NotFound, Invalid."""
        if not 1 <= days <= MAX_SECRET_DAYS:
            raise Invalid(f"A client secret is valid for 1 to {MAX_SECRET_DAYS} days.")
        application = self.application(reference)
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        now = self._now()
        credential = Credential(str(uuid.uuid4()), application.id, secret_digest(secret), now, now + days * 86_400)
        self._write(
            caller, f"/applications/{application.id}/secrets", lambda tx: tx.identities.add_credential(credential)
        )
        return credential, secret

    def remove_secret(self, caller: Caller, reference: str, credential_id: str) -> None:
        """Delete a client secret. Raises NotFound."""
        application = self.application(reference)

        def work(transaction: SQLTransaction) -> None:
            if not transaction.identities.remove_credential(application.id, credential_id):
                raise NotFound("credential", f"Credential not found: {credential_id[:64]}.")

        self._write(caller, f"/applications/{application.id}/secrets/{credential_id}", work)

    def secrets_of(self, reference: str) -> list[Credential]:
        return self._store.glance().identities.credentials(self.application(reference).id)

    def assign(self, caller: Caller, principal: str, role: str, scope: str) -> Assignment:
        """Give a role to a principal at a scope. Raises Invalid."""
        if role not in ROLES:
            raise Invalid(f"There is no role {role[:64]!r}; the roles are: {', '.join(ROLES)}.")
        assignment = Assignment(str(uuid.uuid4()), principal, role, _scope(scope), self._now())

        def work(transaction: SQLTransaction) -> Assignment:
            for other in transaction.identities.assignments():
                if (other.principal, other.role, other.scope) == (principal, role, assignment.scope):
                    return other
            transaction.identities.add_assignment(assignment)
            return assignment

        return self._write(caller, f"/assignments/{assignment.id}", work)

    def unassign(self, caller: Caller, assignment_id: str) -> None:
        """Take a role away. Raises NotFound."""

        def work(transaction: SQLTransaction) -> None:
            if not transaction.identities.remove_assignment(assignment_id):
                raise NotFound("assignment", f"Role assignment not found: {assignment_id[:64]}.")

        self._write(caller, f"/assignments/{assignment_id}", work)

    def assignments(self) -> list[Assignment]:
        return self._store.glance().identities.assignments()

    def _of(self, principal: str) -> list[Assignment]:
        known = self._known
        if not known:
            grouped: dict[str, list[Assignment]] = {}
            for assignment in self.assignments():
                grouped.setdefault(assignment.principal, []).append(assignment)
            # A change that came after the reading has put another dictionary in the place of this one.
            known.update(grouped)
        return known.get(principal, [])

    def _write(self, caller: Caller, target: str, work: Callable[[SQLTransaction], T]) -> T:
        now = self._clock.now()

        def audited(transaction: SQLTransaction) -> T:
            result = work(transaction)
            transaction.audit(record(caller, now, target))
            return result

        result = self._store.write(audited)
        self._known = {}
        return result

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _scope(scope: str) -> str:
    """The scope in the form in which it is compared: lower case, no slash at the end. Raises Invalid."""
    parts = scope.strip("/").lower().split("/") if scope.strip("/") else []
    if not scope.startswith("/") or (
        parts
        and (
            parts[0] != "vaults"
            or len(parts) not in (2, 4)
            or VAULT_NAME.fullmatch(parts[1]) is None
            or (len(parts) == 4 and parts[2] not in ("secrets", "keys", "certificates", "authorities"))
        )
    ):
        raise Invalid(
            f"The scope {scope[:160]!r} is not valid: write /, /vaults/NAME, or /vaults/NAME/secrets/OBJECT (or keys, "
            "certificates, authorities)."
        )
    return "/" + "/".join(parts)
