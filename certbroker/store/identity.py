"""Applications, their credentials, and what they may do."""

from __future__ import annotations

from sqlalchemy import bindparam, delete
from sqlmodel import col

from certbroker.domain.access import Application, Assignment, Credential
from certbroker.store.statement import Cursor, Statement, choose, insertion
from certbroker.store.tables import ApplicationRow, AssignmentRow, CredentialRow

_APPLICATION_COLUMNS = (
    ApplicationRow.id, ApplicationRow.name, ApplicationRow.object_id, ApplicationRow.enabled, ApplicationRow.created
)  # fmt: skip
_GET = Statement(choose(*_APPLICATION_COLUMNS).where(col(ApplicationRow.id) == bindparam("id")))
_LIST = Statement(choose(*_APPLICATION_COLUMNS).order_by(col(ApplicationRow.name)))
_PUT = insertion(ApplicationRow, replace=("name", "enabled"))
_REMOVE = Statement(delete(ApplicationRow).where(col(ApplicationRow.id) == bindparam("id")))

_CREDENTIAL_COLUMNS = (
    CredentialRow.id, CredentialRow.application_id, CredentialRow.digest, CredentialRow.created, CredentialRow.expires
)  # fmt: skip
_OF_APPLICATION = col(CredentialRow.application_id) == bindparam("application")
_CREDENTIALS = Statement(choose(*_CREDENTIAL_COLUMNS).where(_OF_APPLICATION))
_ADD_CREDENTIAL = insertion(CredentialRow)
_REMOVE_CREDENTIAL = Statement(delete(CredentialRow).where(_OF_APPLICATION, col(CredentialRow.id) == bindparam("id")))
_REMOVE_CREDENTIALS = Statement(delete(CredentialRow).where(_OF_APPLICATION))

_ASSIGNMENT_COLUMNS = (
    AssignmentRow.id, AssignmentRow.principal, AssignmentRow.role, AssignmentRow.scope, AssignmentRow.created
)  # fmt: skip
_ASSIGNMENTS = Statement(choose(*_ASSIGNMENT_COLUMNS).order_by(col(AssignmentRow.created)))
_ADD_ASSIGNMENT = insertion(AssignmentRow)
_REMOVE_ASSIGNMENT = Statement(delete(AssignmentRow).where(col(AssignmentRow.id) == bindparam("id")))
_REMOVE_ASSIGNMENTS = Statement(delete(AssignmentRow).where(col(AssignmentRow.principal) == bindparam("principal")))


class Identities:
    """Who may come in, and with which roles."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def application(self, application_id: str) -> Application | None:
        row = _GET.one(self._cursor, id=application_id)
        return None if row is None else Application(row[0], row[1], row[2], bool(row[3]), row[4])

    def applications(self) -> list[Application]:
        return [Application(row[0], row[1], row[2], bool(row[3]), row[4]) for row in _LIST.all(self._cursor)]

    def put_application(self, application: Application) -> None:
        _PUT.run(
            self._cursor,
            id=application.id,
            name=application.name,
            object_id=application.object_id,
            enabled=int(application.enabled),
            created=application.created,
        )

    def remove_application(self, application: Application) -> None:
        """Delete the application with its credentials and role assignments."""
        _REMOVE_CREDENTIALS.run(self._cursor, application=application.id)
        _REMOVE_ASSIGNMENTS.run(self._cursor, principal=application.object_id)
        _REMOVE.run(self._cursor, id=application.id)

    def credentials(self, application_id: str) -> list[Credential]:
        return [Credential(*row) for row in _CREDENTIALS.all(self._cursor, application=application_id)]

    def add_credential(self, credential: Credential) -> None:
        _ADD_CREDENTIAL.run(
            self._cursor,
            id=credential.id,
            application_id=credential.application_id,
            digest=credential.digest,
            created=credential.created,
            expires=credential.expires,
        )

    def remove_credential(self, application_id: str, credential_id: str) -> bool:
        return _REMOVE_CREDENTIAL.run(self._cursor, application=application_id, id=credential_id).rowcount == 1

    def assignments(self) -> list[Assignment]:
        """All role assignments, oldest first."""
        return [Assignment(*row) for row in _ASSIGNMENTS.all(self._cursor)]

    def add_assignment(self, assignment: Assignment) -> None:
        _ADD_ASSIGNMENT.run(
            self._cursor,
            id=assignment.id,
            principal=assignment.principal,
            role=assignment.role,
            scope=assignment.scope,
            created=assignment.created,
        )

    def remove_assignment(self, assignment_id: str) -> bool:
        return _REMOVE_ASSIGNMENT.run(self._cursor, id=assignment_id).rowcount == 1
