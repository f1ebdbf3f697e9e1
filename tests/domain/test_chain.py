"""Chains, in whatever order they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.chain import check_issued, check_leaf, facts_of, in_order, parse, path_of, policy_of
from certbroker.domain.errors import Invalid
from certbroker.domain.policy import SubjectAlternativeNames
from tests.support.certificates import Authority, Identity, der, self_signed

ROOT = Authority("Root")
MIDDLE = Authority("Middle", above=ROOT)
NEAR = Authority("Near", above=MIDDLE)
LEAF = NEAR.issue()
STRANGERS = (Authority("Near").certificate, Authority("Other").issue().certificate)
NOW = datetime.now(UTC)


@given(st.permutations([*LEAF.chain, *STRANGERS]))
def test_the_path_comes_first_and_what_does_not_belong_to_it_last(given_order: list[object]) -> None:
    ordered = in_order(given_order, LEAF.key.public_key())

    assert list(LEAF.chain) == ordered[:4]
    assert [each for each in given_order if each in STRANGERS] == ordered[4:]


@given(st.permutations([*LEAF.chain, *LEAF.chain, *STRANGERS]))
def test_the_path_alone_has_each_once_and_no_stranger(given_order: list[object]) -> None:
    assert list(LEAF.chain) == path_of(given_order, LEAF.key.public_key())


@given(st.permutations(LEAF.chain), st.integers(0, 3))
def test_a_gap_in_the_path_is_no_hindrance(given_order: list[object], missing: int) -> None:
    left = [each for each in given_order if each != LEAF.chain[missing]]
    if missing == 0:
        with pytest.raises(Invalid, match="public keys differ"):
            in_order(left, LEAF.key.public_key())
    else:
        ordered = in_order(left, LEAF.key.public_key())
        assert list(LEAF.chain[:missing]) == ordered[:missing]
        assert set(left) == set(ordered)


def test_certificates_that_sign_each_other_do_not_go_round_for_ever() -> None:
    one, other = self_signed(ec.generate_private_key(ec.SECP256R1()), "x"), Authority("x")

    assert [one.certificate, other.certificate] == in_order([other.certificate, one.certificate], one.key.public_key())


def test_of_two_certificates_for_the_key_the_newer_is_the_leaf() -> None:
    old = self_signed(LEAF.key, life=timedelta(days=-10))

    assert LEAF.certificate == in_order([old.certificate, LEAF.certificate], LEAF.key.public_key())[0]


def test_the_leaf_is_found_again_in_an_order_that_is_kept() -> None:
    given_order = [*reversed(LEAF.chain)]
    facts = facts_of(in_order(given_order, LEAF.key.public_key()), exportable=True, given=given_order)

    assert (tuple(map(der, given_order)), der(LEAF.certificate), True) == (
        facts.chain,
        facts.leaf,
        facts.preserve_order,
    )


def test_parsing_gives_back_what_was_given_and_refuses_the_rest() -> None:
    assert list(LEAF.chain) == parse(tuple(map(der, LEAF.chain)))
    for certificates in ((), (b"",), (der(LEAF.certificate), b"x"), (der(LEAF.certificate)[:-1],)):
        with pytest.raises(Invalid):
            parse(certificates)


def test_a_certificate_is_kept_until_the_second_it_expires() -> None:
    end = LEAF.certificate.not_valid_after_utc
    check_leaf(LEAF.certificate, end - timedelta(microseconds=1))

    with pytest.raises(Invalid, match="expired"):
        check_leaf(LEAF.certificate, end)


def test_a_fresh_certificate_is_valid_for_a_minute_at_least_and_begins_by_tomorrow() -> None:
    start, end = LEAF.certificate.not_valid_before_utc, LEAF.certificate.not_valid_after_utc
    for moment in (start - timedelta(days=1), NOW, end - timedelta(minutes=1)):
        check_issued(LEAF.certificate, moment)

    for moment in (start - timedelta(days=1, microseconds=1), end - timedelta(seconds=59), end + timedelta(days=9)):
        with pytest.raises(Invalid, match="Check the clocks"):
            check_issued(LEAF.certificate, moment)


@pytest.mark.parametrize(("days", "months"), [(1, 1), (6, 1), (90, 3), (365, 12), (397, 13), (200_000, 1200)])
def test_the_policy_of_an_import_is_read_from_the_certificate(days: int, months: int) -> None:
    identity: Identity = ROOT.issue("a.example", life=timedelta(days=days))
    policy = policy_of(identity.certificate)

    policy.check()
    assert (months, "CN=a.example", SubjectAlternativeNames(dns_names=("a.example",))) == (
        policy.validity_months,
        policy.subject,
        policy.sans,
    )
