"""Whether control over a name could be proved now: as far as can be told from here, without asking the CA."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from certbroker.domain.checkup import Checked, Grade, fail, ok, warn
from certbroker.domain.errors import Invalid
from certbroker.ports.dns import DNSUnanswered
from certbroker.ports.egress import Egress, EgressFailed, EgressRefused
from certbroker.ports.issuer import IssuerUnavailable, Resources
from certbroker.ports.issuer_abilities import AccountDescription, StandingRecord
from issuers.acme.caa import Applicant, look_up
from issuers.acme.delegation import end_of_aliases
from issuers.acme.settings import DNS_01, DNS_PERSIST_01, HTTP_01, ACMEOptions

_SHOWN_FOR = timedelta(minutes=5)


_PERSIST_GRADES: Final = {"good": Grade.OK, "expiring": Grade.WARN, "unknown": Grade.WARN}


def examine(
    name: str,
    options: ACMEOptions,
    account: AccountDescription,
    resources: Resources,
    reach: Egress,
    standing: Callable[[str], StandingRecord],
) -> Iterator[Checked]:
    """Look at what the CA will look at. `reach` may speak plain HTTP to any public address, as the CA does.

    `standing` looks for the record that proves a name for good, which names an account.
    """
    verdict = look_up(name, resources.names, Applicant(account.caa_identities, account.account, options.challenge))
    grade = {True: Grade.OK, False: Grade.FAIL, None: Grade.WARN}[verdict.allowed]
    yield Checked(f"CAA of {name}", grade, verdict.sentence)
    if options.challenge == HTTP_01:
        yield _by_http(name, resources, reach)
    elif options.challenge == DNS_01:
        yield _by_dns(name, options, resources)
    elif options.challenge == DNS_PERSIST_01:
        yield _by_standing_record(name, account, standing)
    else:
        yield warn(f"{options.challenge} for {name}", "Whether it works cannot be tried from here.", "Use --dry-run.")


def _by_http(name: str, resources: Resources, reach: Egress) -> Checked:
    """Ask for an answer of our own, where the CA would (RFC 8555 section 8.3)."""
    what = f"http-01 for {name}, from here"
    if name.startswith("*."):
        return fail(what, "Wildcard names cannot be proved by http-01.", "Use an issuer with challenge=dns-01.")
    token, answer = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    resources.board.put("http-01", token, answer, resources.clock.now() + _SHOWN_FOR)
    try:
        reply = reach.request("GET", f"http://{name}/.well-known/acme-challenge/{token}", max_bytes=4096, timeout=10)
    except EgressRefused as error:
        return warn(what, f"It cannot be tried from here. {error}", "Use --dry-run, which lets a CA try.")
    except EgressFailed as error:
        advice = "Lead port 80 of the name to server.http01_listen. Some routers let nobody in from inside."
        return fail(what, f"Port 80 cannot be reached. {error}", advice)
    finally:
        resources.board.take_down("http-01", token, answer)
    if reply.status == 200 and reply.body == answer.encode():
        return ok(what, "Port 80 leads to the http-01 listener of this broker.")
    if 300 <= reply.status < 400:
        return warn(what, f"Port 80 redirects, with the status {reply.status}; the CA follows.", "Use --dry-run.")
    return fail(
        what,
        f"Somebody else answers on port 80, with the status {reply.status}.",
        "Lead /.well-known/acme-challenge/ of the name to server.http01_listen.",
    )


def _by_dns(name: str, options: ACMEOptions, resources: Resources) -> Checked:
    """Publish a record where the CA would look (RFC 8555 section 8.4), look for it, and take it away again."""
    what = f"dns-01 for {name}"
    publisher, value = resources.dns[options.dns or ""], f"certbroker-doctor-{secrets.token_hex(8)}"
    try:
        place = end_of_aliases(f"_acme-challenge.{name.removeprefix('*.')}", resources.names)
        try:
            publisher.publish(place, value)
            found = value in resources.names.txt(place)
        finally:
            publisher.withdraw(place, value)
    except IssuerUnavailable as error:
        return fail(what, error.problem.message, f"Correct [dns.{options.dns}], or the delegation of the name.")
    except DNSUnanswered as error:
        return warn(what, f"A record was published and taken away; whether the world saw it is not known. {error}")
    if not found:
        return fail(
            what,
            f"A record was published at {place}, and DNS does not show it.",
            "Check that the zone's public servers are the ones that the publisher writes to.",
        )
    return ok(what, f"A record at {place} was published, seen and taken away.")


def _by_standing_record(name: str, account: AccountDescription, standing: Callable[[str], StandingRecord]) -> Checked:
    """Look for the record that a person has published."""
    what = f"dns-persist-01 for {name}"
    if account.account is None:
        advice = "See certbroker issuer dns-persist, which makes the account and prints the record."
        return warn(what, "The issuer has no account at the CA yet, and the record has to name it.", advice)
    try:
        record = standing(name)
    except Invalid as error:
        return warn(what, error.message)
    grade = _PERSIST_GRADES.get(record.status, Grade.FAIL)
    return Checked(what, grade, record.detail, "" if grade is Grade.OK else f"Publish {record.zone_line}")
