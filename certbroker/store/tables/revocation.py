"""What is to be revoked, and what is watched for having been."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from certbroker.store.tables.columns import big_column


class RevocationRow(SQLModel, table=True):
    """A certificate that is to be revoked, or was, for each place where somebody has asked for that.

    It outlives the certificate, so it has a copy; no secret is in it.
    `act_at` is set while the CA is still to be asked; a lease is an `act_at` in the future. `compromised` is 1 where
    somebody has said that of the key.
    """

    __tablename__ = "revocations"
    __table_args__ = (
        Index("revocations_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("revocations_compromised", "key_sha256", sqlite_where=text("compromised IS NOT NULL")),
    )

    sha256: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str
    certificate: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_sha256: str
    issuer: str
    reason: str
    renew: int
    compromised: int | None = None
    requested: int = Field(sa_column=big_column())
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    attempts: int = 0
    revoked: int | None = Field(default=None, sa_column=big_column(nullable=True))
    problem: str | None = Field(default=None, sa_column=Column(Text))


class RevocationSourceRow(SQLModel, table=True):
    """Where it is asked whether certificates are revoked, shared by all vaults. `holding` is JSON: what it has said.

    `about` is a certificate in DER. A lease is an `act_at` in the future; `generation` counts what has been stored: who
    has read an older one cannot write any more. While `pass_after` is set, those who depend on the source are gone
    through: up to there, and all of them are looked at again where `pass_all` is 1.
    """

    __tablename__ = "revocation_sources"
    __table_args__ = (
        Index("revocation_sources_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index("revocation_sources_passing", "id", sqlite_where=text("pass_after IS NOT NULL")),
        Index("revocation_sources_lists", "url", sqlite_where=text("kind = 'crl'")),
        Index("revocation_sources_unwell", "status", "url", sqlite_where=text("status != 'fresh'")),
    )

    id: str = Field(primary_key=True)
    kind: str
    url: str
    about: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    serial: str
    holding: str = Field(sa_column=Column(Text, nullable=False))
    status: str
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    generation: int = 0
    pass_after: str | None = None
    pass_all: int = 0


class RevocationDependentRow(SQLModel, table=True):
    """That a certificate, or one of its issuers', is judged by a source. `listed` is what a CRL says.

    That is 0 where it says nothing, else the code of the reason and one.
    """

    __tablename__ = "revocation_dependents"
    __table_args__ = (Index("revocation_dependents_of", "vault_id", "name"),)

    source_id: str = Field(primary_key=True)
    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    listed: int


class WatchRow(SQLModel, table=True):
    """What is known of the revocation of a certificate's current version and of its issuers. `state` is JSON.

    `fence` counts owners and disturbances: who holds an older number cannot write any more.
    """

    __tablename__ = "revocation_watches"
    __table_args__ = (
        Index("revocation_watches_due", "act_at", sqlite_where=text("act_at IS NOT NULL")),
        Index(
            "revocation_watches_standing",
            "standing",
            sqlite_where=text("standing != 'Good' AND standing != 'NotCovered'"),
        ),
    )

    vault_id: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    standing: str
    state: str = Field(sa_column=Column(Text, nullable=False))
    act_at: int | None = Field(default=None, sa_column=big_column(nullable=True))
    fence: int = 0
