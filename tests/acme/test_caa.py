"""Whether CAA records let our account have a certificate (RFC 8659, RFC 8657)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.egress import EgressPolicy, OutsideDNS
from certbroker.ports.dns import CAARecord
from issuers.acme.caa import Applicant, judge, look_up
from tests.support.acme_ports import LOOPBACK
from tests.support.dns_server import AuthoritativeServer

ACCOUNT = "https://ca.example/acct/1"
US = Applicant(("ca.example", "ca.test"), ACCOUNT, "http-01")
NAME, WILD = "www.example.org", "*.example.org"

Records = list[tuple[int, str, str]]


@pytest.mark.parametrize(
    ("name", "records", "allowed", "said"),
    [
        (NAME, [], True, "No CAA record restricts"),
        (NAME, [(0, "issue", "ca.example")], True, "let ca.example issue"),
        (NAME, [(0, "issue", "CA.Example.")], True, "let ca.example issue"),
        (NAME, [(0, "ISSUE", "ca.test")], True, "let ca.test issue"),
        (NAME, [(128, "issue", " ca.example ; ")], True, "let ca.example issue"),
        (NAME, [(0, "issue", "other.example"), (0, "issue", "ca.example")], True, "let ca.example issue"),
        (NAME, [(0, "issue", "other.example")], False, 'let other.example issue for www.example.org; add there: '
         'example.org. CAA 0 issue "ca.example"'),
        (NAME, [(0, "issue", "sub.ca.example")], False, "let sub.ca.example"),
        (NAME, [(0, "issue", ";")], False, "let nobody issue"),
        (NAME, [(0, "issue", "")], False, "let nobody issue"),
        (NAME, [(0, "issue", "ca.example other")], False, "let nobody issue"),
        (NAME, [(0, "issue", "ca_example")], False, "let nobody issue"),
        (NAME, [(0, "issue", "ca.example; broken")], False, "let nobody issue"),
        (NAME, [(0, "issue", "ca.example; a=b c")], False, "let nobody issue"),
        (NAME, [(0, "issue", "\tca.example ;\t; a = b ; c=\t; ")], True, "let ca.example issue"),
        # Other properties restrict nothing, unless they are critical and unknown.
        (NAME, [(0, "iodef", "mailto:a@example.org")], True, "No CAA record restricts"),
        (NAME, [(128, "iodef", "mailto:a@example.org")], True, "No CAA record restricts"),
        (NAME, [(0, "tbs", "unknown"), (0, "issue", "ca.example")], True, "let ca.example issue"),
        (NAME, [(128, "tbs", "unknown"), (0, "issue", "ca.example")], False, "critical property 'tbs'"),
        # Wildcards have a property of their own, which counts instead of the other and for nothing else.
        (WILD, [(0, "issue", "ca.example")], True, "let ca.example issue"),
        (WILD, [(0, "issue", "ca.example"), (0, "issuewild", "other.example")], False, 'CAA 0 issuewild "ca.example"'),
        (WILD, [(0, "issue", "ca.example"), (0, "issuewild", ";")], False, "let nobody issue"),
        (WILD, [(0, "issue", "other.example"), (0, "issuewild", "ca.example")], True, "let ca.example issue"),
        (NAME, [(0, "issuewild", ";")], True, "No CAA record restricts"),
        (NAME, [(0, "issue", "ca.example"), (0, "issuewild", ";")], True, "let ca.example issue"),
        # Accounts.
        (NAME, [(0, "issue", f"ca.example; accounturi={ACCOUNT}")], True, "let ca.example issue"),
        (NAME, [(0, "issue", f"ca.example;AccountURI={ACCOUNT};x=y")], True, "let ca.example issue"),
        (NAME, [(0, "issue", f"ca.example; accounturi={ACCOUNT}0")], False, f"only for the account {ACCOUNT}0, and "
         f"ours is {ACCOUNT}"),
        (NAME, [(0, "issue", "ca.example; accounturi=")], False, "only for the account"),
        (NAME, [(0, "issue", f"ca.example; accounturi={ACCOUNT}; accounturi={ACCOUNT}")], False, "several accounts"),
        (NAME, [(0, "issue", "ca.example; accounturi=https://ca.example/acct/2"), (0, "issue", "ca.test")], True,
         "let ca.test issue"),
        # Methods.
        (NAME, [(0, "issue", "ca.example; validationmethods=dns-01,http-01")], True, "let ca.example issue"),
        (NAME, [(0, "issue", "ca.example; validationmethods=dns-01")], False, "only by dns-01, and the issuer's "
         "option is challenge=http-01"),
        (NAME, [(0, "issue", "ca.example; validationmethods=")], False, "only by no method"),
        (NAME, [(0, "issue", "ca.example; validationmethods=http-011")], False, "only by http-011"),
        (NAME, [(0, "issue", f"ca.example; validationmethods=dns-01; accounturi={ACCOUNT}")], False, "only by dns-01"),
    ],
)  # fmt: skip
def test_what_records_mean(name: str, records: Records, allowed: bool, said: str) -> None:
    verdict = judge(name, "example.org", [CAARecord(*record) for record in records], US)

    assert allowed is verdict.allowed
    assert said in verdict.sentence


@pytest.mark.parametrize("value", ["{} !", "ca.example;a={}\x7f", "ca.example{}!", "{};", "ca.example;{}=", "a{}!"])
@pytest.mark.parametrize("part", [" ", "\t", "a-", "a.", ";", "a=b;"])
def test_no_record_takes_long(value: str, part: str) -> None:
    """The owner of a name writes it, in up to 64 KiB."""
    records = [CAARecord(0, "issue", value.format(part * (60_000 // len(part))))]
    begun = time.thread_time()
    judge(NAME, "example.org", records, US)

    assert 3 > time.thread_time() - begun


def test_without_an_account_no_record_for_an_account_is_met() -> None:
    record = CAARecord(0, "issue", f"ca.example; accounturi={ACCOUNT}")

    verdict = judge(NAME, "example.org", [record], Applicant(("ca.example",), None, "dns-01"))

    assert verdict.allowed is False
    assert "ours is not registered yet" in verdict.sentence


def test_of_a_ca_that_does_not_say_its_name_nobody_can_tell() -> None:
    silent = Applicant((), ACCOUNT, "dns-01")

    assert judge(NAME, "example.org", [CAARecord(0, "issue", "ca.example")], silent).allowed is None
    assert judge(NAME, "", [], silent).allowed is True


@given(st.lists(st.builds(CAARecord, st.integers(0, 255), st.text(max_size=10), st.text(max_size=60)), max_size=5))
def test_any_records_get_a_verdict_and_none_lets_a_stranger_in(records: list[CAARecord]) -> None:
    verdict = judge(NAME, "example.org", [*records, CAARecord(0, "issue", ";")], US)

    named = any(record.tag.lower() == "issue" and "ca." in record.value.lower() for record in records)
    assert verdict.allowed is False or named


@pytest.fixture(scope="module")
def server() -> Iterator[AuthoritativeServer]:
    """A whole tree, from the top."""
    caa = {
        "example.org": ['0 issue "other.example"'],
        "own.example.org": [f'0 issue "ca.example; accounturi={ACCOUNT}"', '0 iodef "mailto:a@example.org"'],
        "target.example.net": ['0 issue "ca.example"'],
        "tld": ['0 issue "other.example"'],
    }
    aliases = {"alias.example.org": "target.example.net", "nowhere.example.org": "none.example.net"}
    with AuthoritativeServer("example.org", "org", "example.net", "net", "tld", aliases=aliases, caa=caa) as server:
        server.silent.add("silent.example.org")
        yield server


@pytest.mark.parametrize(
    ("name", "allowed", "said"),
    [
        ("a.b.own.example.org", True, "at own.example.org"),
        ("*.own.example.org.", True, "at own.example.org"),
        ("OWN.example.org", True, "at own.example.org"),
        ("www.example.org", False, "at example.org let other.example issue"),
        # An alias lends its target's records, and not those above the target.
        ("alias.example.org", True, "at alias.example.org"),
        ("nowhere.example.org", False, "at example.org"),
        ("www.example.net", True, "No CAA record restricts"),
        ("www.example.tld", False, "at tld let other.example"),
        ("a.silent.example.org", False, "cannot be looked up"),
    ],
)
def test_the_tree_is_climbed_to_the_first_records(
    server: AuthoritativeServer, name: str, allowed: bool, said: str
) -> None:
    dns = OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), (server.address,), authoritative_port=server.port)

    verdict = look_up(name, dns, US)

    assert allowed is verdict.allowed
    assert said in verdict.sentence


def test_aliases_in_a_circle_are_no_answer() -> None:
    circle = {"a.example.org": "b.example.org", "b.example.org": "a.example.org"}
    with AuthoritativeServer("example.org", aliases=circle) as server:
        dns = OutsideDNS(EgressPolicy(allowed_networks=LOOPBACK), (server.address,))

        assert look_up("a.example.org", dns, US).allowed is False
