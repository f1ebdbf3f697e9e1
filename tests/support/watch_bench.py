"""The watch for revocation, moved by hand: real CRLs and OCSP replies, from a real server, at a time that tests say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from certbroker.domain.channels import Channel
from certbroker.domain.crl import CRLFacts
from certbroker.domain.errors import Invalid
from certbroker.domain.events import EventType
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Changes
from certbroker.domain.policy import CertificatePolicy
from certbroker.domain.records import Version
from certbroker.domain.revocation_sources import Source
from certbroker.domain.revocation_status import Standing, Verdict
from certbroker.egress import EgressPolicy, HTTPEgress
from certbroker.ports.issuer import CertificateIssued, IssuanceRequest, Journal, Reply
from certbroker.services.issuance.inbox import Inbox
from certbroker.services.objects.foreign import take_apart
from certbroker.services.revocation.findings import RevocationFindings
from certbroker.services.revocation.lists import RevocationLists
from certbroker.services.revocation.sources import RevocationSources, WatchSettings
from certbroker.services.revocation.watching import Watching
from certbroker.store.crl_process import Refused, read
from certbroker.store.transaction import SQLTransaction
from tests.support.acme_ports import LOOPBACK
from tests.support.certificates import Authority, Identity, der
from tests.support.issuer_bench import Bench
from tests.support.revocation import Entry, Extensions, Publisher, crl, points_at


class _ReadHere(RevocationLists):
    """Reads CRLs in this process, because starting another takes longer than all that it does."""

    def take_in(self, source: Path, issuer: bytes, *, named: bool = False) -> tuple[CRLFacts, str]:
        try:
            reply = read(source.read_bytes(), issuer, source.parent, named=named)
        except Refused as refusal:
            raise Invalid(str(refusal)) from None
        assert reply.facts is not None
        return reply.facts, reply.file


class WatchBench:
    """A bench with a CA that publishes. A context manager is not needed: `close` ends its connections."""

    def __init__(self, bench: Bench, publisher: Publisher, directory: Path, **settings: Any) -> None:
        self.bench, self.publisher, self.clock, self.store = bench, publisher, bench.clock, bench.store
        self.egress = HTTPEgress(EgressPolicy(allowed_networks=LOOPBACK, plain_http_hosts=("*",)))
        self.lists: RevocationLists = _ReadHere(directory / "lists")
        self.settings = WatchSettings(timeout=2.0, max_bytes=1 << 20, **settings)
        self.authority = Authority()
        self.number = 0
        self.watching = self.worker()
        channel = Channel(bench.vault.id, "all", "test", events=("*",))
        self.store.write(lambda transaction: transaction.channels.add(channel))

    def worker(self, **settings: Any) -> Watching:
        """The watch as another process has it, or with other settings."""
        self.settings = replace(self.settings, **settings)
        sources = RevocationSources(self.store, self.lists, self.egress, self.clock, self.settings)
        findings = RevocationFindings(self.bench.issuers, replacing=self.settings.replace)
        return Watching(self.store, self.lists, sources, findings, self.clock, Inbox(), self.settings)

    def close(self) -> None:
        """Leave nothing to do for whoever uses the same database next, by another clock."""
        self.egress.close()

        def work(transaction: SQLTransaction) -> None:
            cursor = transaction.outbox._cursor
            for table in ("lifecycles", "operations"):
                cursor.execute(f"UPDATE {table} SET act_at = NULL")
            for table in ("watches", "dependents", "sources"):
                cursor.execute(f"DELETE FROM revocation_{table}")

        self.store.write(work)

    def url(self, path: str = "/list.crl") -> str:
        return self.publisher.url(path)

    def publish(
        self,
        *entries: Entry,
        path: str = "/list.crl",
        authority: Authority | None = None,
        number: int | None = None,
        extensions: Extensions = (),
        made: timedelta = timedelta(0),
        life: timedelta = timedelta(days=7),
        **how: Any,
    ) -> bytes:
        """Put a CRL where certificates say that it is."""
        self.number += 1
        by, listed = authority or self.authority, list(entries)
        data = crl(
            by.certificate,
            by.key,
            listed,
            number=number or self.number,
            now=self.clock.now(),
            made=made,
            life=life,
            extensions=extensions,
        )
        self.publisher.put(path, data, **how)
        return data

    def issue(self, more: Extensions | None = None, name: str = "c", **policy: Any) -> Version:
        """A certificate from the scripted issuer that says where its CRL is."""
        self.bench.ask(self.step(more), name=name, **policy)
        self.bench.turn()
        self.later(seconds=6)
        return self.bench.current(name)

    def step(self, more: Extensions | None = None) -> Any:
        """A step by which the scripted issuer issues such a certificate."""

        def issue(request: IssuanceRequest, journal: Journal) -> Reply:
            given = points_at(crl=self.url()) if more is None else more
            leaf = self.authority.answer(request.csr, timedelta(days=90), self.clock.now(), [*given])
            return CertificateIssued(tuple(der(each) for each in (leaf, *self.authority.path)))

        return issue

    def take_over(self, identity: Identity, name: str = "imported") -> Version:
        """Import a certificate."""
        imported = take_apart(identity.pem().encode(), None)
        policy = CertificatePolicy(KeySpec("EC"), issuer="Unknown")
        view = self.bench.certificates.import_(
            self.bench.caller, self.bench.vault, name, imported, lambda stored: stored or policy, Changes()
        )
        self.later(seconds=6)
        return view.version

    def later(self, **by: float) -> None:
        """Let time pass, with all that happens meanwhile."""
        self.bench.until(self.clock.now() + timedelta(**by))
        self.settle()
        self.bench.until(self.clock.now())

    def settle(self) -> int:
        """Do all that is due now; how many sources were asked."""
        asked = 0
        while True:
            checked = self.watching.claim(100)
            self.watching.check(checked)
            sources = self.watching.sources.claim(100)
            for each in sources:
                self.watching.sources.fetch(each)
            asked += len(sources)
            if not (checked or sources or self.watching.go_through()):
                return asked

    def verdict(self, name: str = "c") -> Verdict:
        """What is known of a certificate."""
        watched = self.watching.view(self.bench.vault, name).watched
        return Verdict() if watched is None else watched.verdict

    def standing(self, name: str = "c") -> Standing:
        return self.verdict(name).standing

    def problem(self, name: str = "c") -> str:
        """What is said of the certificate itself."""
        return self.verdict(name).judged[0].answer.problem

    def source(self, path: str = "/list.crl") -> Source:
        """The source at that path."""
        (found,) = [each for each in self.watching.listing(100) if each.url == self.url(path)]
        return found

    def told(self, kind: EventType) -> int:
        return len(self.messages(kind))

    def messages(self, kind: EventType) -> list[str]:
        """What the events of a kind say."""
        cursor = self.store.glance().outbox._cursor
        cursor.execute(
            "SELECT coalesce(json_extract(event, '$.message'), '') FROM outbox "
            "WHERE vault_id = ? AND json_extract(event, '$.type') = ?",
            (self.bench.vault.id, str(kind)),
        )
        return [row[0] for row in cursor.fetchall()]

    def audited(self) -> list[str]:
        """How the findings on record ended."""
        cursor = self.store.glance().outbox._cursor
        cursor.execute(
            "SELECT json_extract(record, '$.outcome') FROM audit "
            "WHERE json_extract(record, '$.operation') = 'CertificateRevocationFound' "
            "AND json_extract(record, '$.vault') = ? ORDER BY rowid",
            (str(self.bench.vault.id),),
        )
        return [row[0] for row in cursor.fetchall()]


def serial(version: Version) -> int:
    """The number of a version's certificate."""
    assert version.certificate is not None
    return int(version.certificate.serial, 16)


def revoked(version: Version, reason: x509.ReasonFlags = x509.ReasonFlags.superseded) -> Entry:
    """An entry of a CRL for a version."""
    return serial(version), reason
