"""Names, versions and the limits of attributes."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.errors import Invalid
from certbroker.domain.objects import MAX_TIME, VAULT_NAME, Changes, Recovery, check_name, check_version
from certbroker.domain.records import Identity

LETTERS = string.ascii_letters + string.digits + "-"


@given(st.text(LETTERS, min_size=1, max_size=127))
def test_letters_digits_and_hyphens_are_a_name(name: str) -> None:
    assert name == check_name(name)


@given(st.text())
def test_everything_else_is_none(name: str) -> None:
    if 1 <= len(name) <= 127 and set(name) <= set(LETTERS):
        return
    with pytest.raises(Invalid):
        check_name(name)


@pytest.mark.parametrize("name", ["", "a\n", "\na", "a b", "x" * 128, "\uff41", "٣", "a_b", "a.b", "a/b", "a\0"])
def test_what_looks_like_a_name_and_is_none(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)


@given(st.binary(min_size=16, max_size=16))
def test_versions_are_32_hexadecimal_digits_in_either_case(raw: bytes) -> None:
    assert raw.hex() == check_version(raw.hex()) == check_version(raw.hex().upper())


@given(st.one_of(st.text(max_size=40), st.text("0123456789abcdefg", min_size=31, max_size=33)))
def test_nothing_else_is_a_version(text: str) -> None:
    if len(text) == 32 and set(text) <= set(string.hexdigits):
        return
    with pytest.raises(Invalid):
        check_version(text)


@given(st.text(LETTERS, max_size=30))
def test_vault_names_are_dns_labels_of_3_to_24(name: str) -> None:
    wanted = 3 <= len(name) <= 24 and name[0].isalpha() and name[-1] != "-" and "--" not in name

    assert wanted == (VAULT_NAME.fullmatch(name) is not None)


@given(st.one_of(st.none(), st.integers()), st.one_of(st.none(), st.integers()))
def test_times_are_in_order_and_in_range(start: int | None, end: int | None) -> None:
    given_times = [time for time in (start, end) if time is not None]
    if all(0 <= time <= MAX_TIME for time in given_times) and (len(given_times) < 2 or given_times[0] < given_times[1]):
        attributes = Changes(not_before=start, expires=end).attributes(7)
        assert (start, end, 7, 7) == (attributes.not_before, attributes.expires, attributes.created, attributes.updated)
    else:
        with pytest.raises(Invalid):
            Changes(not_before=start, expires=end)


@given(st.integers(7, 90), st.booleans())
def test_recovery_levels_are_the_documented_ones(days: int, protected: bool) -> None:
    level = Recovery(days, protected).level

    assert level.startswith("Customized") == (days < 90)
    assert level.endswith("+Purgeable") != protected


PART = st.text(max_size=6)


@given(st.tuples(st.integers(0, 9), PART, PART, PART), st.tuples(st.integers(0, 9), PART, PART, PART))
def test_no_two_rows_share_an_identity(one: tuple[int, str, str, str], other: tuple[int, str, str, str]) -> None:
    """Sealed bytes of one row must not open in another, however the parts of their names are cut."""
    same = one[:2] == other[:2] and one[2].lower() == other[2].lower() and one[3] == other[3]

    assert same == (Identity(*one).encoded() == Identity(*other).encoded())
