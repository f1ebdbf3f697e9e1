"""PEM is taken apart as it was meant, and in one pass whatever it is."""

from __future__ import annotations

import re
import time
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.pem import Block, blocks

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
ONE = Block(b"CERTIFICATE", BEGIN + b"\nAAAA\n" + END)
OTHER = Block(b"RSA PRIVATE KEY", b"-----BEGIN RSA PRIVATE KEY-----\r\nBBBB\r\n-----END RSA PRIVATE KEY-----")


def test_blocks_come_in_their_order_without_the_text_around_them() -> None:
    text = b"Subject: x\n" + ONE.text + b"\n\n" + OTHER.text + b"\r\ntext -----END CERTIFICATE-----\n" + ONE.text

    assert [ONE, OTHER, ONE] == [*blocks(text)]


@pytest.mark.parametrize("text", [b"", b"none", b"-----BEGIN", b"-----END CERTIFICATE-----", b"-" * 1000])
def test_a_text_without_blocks_has_none(text: bytes) -> None:
    assert [] == [*blocks(text)]


@pytest.mark.parametrize(
    "text",
    [
        BEGIN,
        BEGIN + b"\nAAAA\n-----END CERTIFICATE",
        BEGIN + b"\nAAAA\n-----END PRIVATE KEY-----\n",
        BEGIN + b"\nAAAA\n" + ONE.text,
        b"-----BEGIN CERTIFICATE\nAAAA\n" + END,
        b"-----BEGIN " + b"A" * 100 + b"-----\n-----END " + b"A" * 100 + b"-----",
        b"-----BEGIN certificate-----\nAAAA\n-----END certificate-----",
        b"-----BEGIN -----\nAAAA\n-----END -----",
    ],
)
def test_a_block_without_an_end_of_its_own_is_noticed(text: bytes) -> None:
    """Else what was cut off would be lost without a word."""
    found = blocks(ONE.text + text)

    assert ONE == next(found)
    with pytest.raises(ValueError, match="has no end"):
        next(found)


def test_a_text_is_read_no_further_than_blocks_are_asked_for() -> None:
    assert [ONE, ONE] == [*islice(blocks(ONE.text + ONE.text + BEGIN), 2)]


@pytest.mark.parametrize(
    "part", [BEGIN, BEGIN + END, b"-----BEGIN ", b"-----BEGIN A-----", BEGIN + b"-----END ", b"-----", b"-----BEGIN A"]
)
def test_a_megabyte_of_anything_takes_no_time(part: bytes) -> None:
    """What needs the square of the length needs minutes."""
    text = part * ((1 << 20) // len(part))
    begun = time.thread_time()
    try:
        for _ in blocks(text):
            pass
    except ValueError:
        pass

    assert 3 > time.thread_time() - begun


@given(st.lists(st.sampled_from([ONE.text, OTHER.text, b"text\n", BEGIN, END, b"-----", b"BEGIN "]), max_size=8))
def test_what_is_found_is_what_a_regular_expression_finds(parts: list[bytes]) -> None:
    text = b"\n".join(parts)
    pattern = rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----"
    expected = [Block(match[1], match[0]) for match in re.finditer(pattern, text, re.DOTALL)]
    whole = len(expected) == text.count(b"-----BEGIN ")
    found = []
    try:
        found += [*blocks(text)]
    except ValueError:
        assert not whole
    else:
        assert (whole, expected) == (True, found)
