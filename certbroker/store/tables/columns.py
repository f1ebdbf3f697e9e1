"""Columns that many tables have."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer


def big_column(*, primary_key: bool = False, nullable: bool = False, index: bool = False) -> Column[int]:
    """An integer of 64 bits."""
    return Column(BigInteger, primary_key=primary_key, nullable=nullable, index=index)


def kek_column(*, nullable: bool = True) -> Column[int]:
    """A reference, so that no key can be deleted while a value needs it, and none stored under a key that is gone."""
    return Column(Integer, ForeignKey("keks.id"), nullable=nullable)
