"""Reading DNS: what the rest of the world sees of a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class DNSUnanswered(Exception):
    """No server could say what a name has: it may have the record or not. The text names the name and the reason."""


@dataclass(frozen=True, slots=True)
class CAARecord:
    """A property of a CAA record (RFC 8659 section 4.1); what is no ASCII in its value is replaced."""

    flags: int
    tag: str
    value: str


class DNS(Protocol):
    """Looks records up, at the authoritative servers where they can be reached, so that no cache is asked.

    Names are absolute, with or without the final dot. Blocking, bounded in time, thread-safe; raises DNSUnanswered.
    """

    def alias(self, name: str) -> str | None:
        """The target of the CNAME record at the name, in lower case without the final dot; None where there is none."""
        ...

    def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records at the name itself, each with its strings joined; none where the name does not exist."""
        ...

    def caa(self, name: str) -> tuple[CAARecord, ...]:
        """The CAA records at the name, or where aliases lead from it; none where it does not exist.

        The tree is not climbed.
        """
        ...
