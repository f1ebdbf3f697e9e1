"""Who may do what."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column


class ApplicationRow(SQLModel, table=True):
    """A client of the token endpoint."""

    __tablename__ = "applications"

    id: str = Field(primary_key=True)
    name: str
    object_id: str = Field(unique=True)
    enabled: int = 1
    created: int = Field(sa_column=big_column())


class CredentialRow(SQLModel, table=True):
    """A client secret: only its digest is kept."""

    __tablename__ = "credentials"

    id: str = Field(primary_key=True)
    application_id: str = Field(index=True)
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created: int = Field(sa_column=big_column())
    expires: int | None = Field(default=None, sa_column=big_column(nullable=True))


class AssignmentRow(SQLModel, table=True):
    """A role given to a principal at a scope."""

    __tablename__ = "role_assignments"

    id: str = Field(primary_key=True)
    principal: str = Field(index=True)
    role: str
    scope: str
    created: int = Field(sa_column=big_column())
