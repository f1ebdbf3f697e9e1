"""What people import is taken apart as it was meant, or refused with a reason."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.errors import Invalid
from certbroker.keystore.foreign import take_apart
from tests.support.certificates import Authority, Identity, der, pem, self_signed


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Authority("Intermediate", above=Authority("Root")).issue()


def _same(identity: Identity, parts: dict[str, object]) -> bool:
    key = load_der_private_key(bytes(parts["key"]), None)
    return key.private_numbers() == identity.key.private_numbers() and parts["certificates"] == [
        der(each) for each in identity.chain
    ]


def test_both_forms_give_key_and_chain(identity: Identity) -> None:
    assert _same(identity, take_apart(identity.pfx(), None))
    assert _same(identity, take_apart(identity.pfx("pässword"), "pässword"))
    assert _same(identity, take_apart(identity.pem().encode(), None))
    assert _same(identity, take_apart(identity.pem("pässword").encode(), "pässword"))


def test_a_password_that_is_not_needed_does_no_harm(identity: Identity) -> None:
    assert _same(identity, take_apart(identity.pem().encode(), "word"))


def test_pem_may_have_text_around_its_parts_and_windows_line_ends(identity: Identity) -> None:
    text = "Bag Attributes\n  friendlyName: x\n" + identity.pem().replace("\n", "\r\n") + "trailing\n"

    assert _same(identity, take_apart(text.encode(), None))


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_older_forms_of_keys_are_read(form: PrivateFormat) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        identity = self_signed(key)
        text = key.private_bytes(Encoding.PEM, form, NoEncryption()) + pem(identity.certificate).encode()
        assert _same(identity, take_apart(text, None))


def test_a_part_that_is_cut_off_is_noticed(identity: Identity) -> None:
    """Else the last certificate of the chain would be lost without a word."""
    for text in (identity.pem()[:-40], "-----BEGIN CERTIFICATE-----" * 9000, "-----BEGIN A-----" + identity.pem()):
        with pytest.raises(Invalid, match="has no end"):
            take_apart(text.encode(), None)


def test_a_certificate_that_cannot_be_read_is_noticed(identity: Identity) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(Invalid, match="certificate in the PEM"):
        take_apart((identity.pem() + broken).encode(), None)


@given(data=st.binary(max_size=200), password=st.one_of(st.none(), st.text(max_size=8)))
def test_no_input_makes_it_fail_in_another_way(data: bytes, password: str | None) -> None:
    for start in (b"", b"\x30\x82\x01\x00", b"-----BEGIN PRIVATE KEY-----\n"):
        with pytest.raises(Invalid):
            take_apart(start + data, password)


def test_the_process_answers_on_its_output_alone(identity: Identity) -> None:
    def run(request: dict[str, object]) -> dict[str, object]:
        process = subprocess.run(
            [sys.executable, "-m", "certbroker.keystore.foreign"],
            input=msgspec.msgpack.encode(request),
            capture_output=True,
            check=True,
        )
        assert b"" == process.stderr
        found: dict[str, object] = msgspec.msgpack.decode(process.stdout)
        return found

    assert _same(identity, run({"data": identity.pfx("word"), "password": "word"}))
    assert {"error": "The password of the PFX is not correct."} == run(
        {"data": identity.pfx("word"), "password": "other"}
    )
