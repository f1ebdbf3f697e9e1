from pathlib import Path

import pytest

from certbroker.domain.errors import Invalid, Sealed
from certbroker.keystore import seal_keys
from certbroker.keystore.seal_keys import AESSealKey
from certbroker.ports.seal import Unreadable

PASSPHRASE = "correct horse battery"
SALT = bytes(16)


@pytest.fixture
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_keys, "_SCRYPT_COST", 2**4)


def test_a_file_keeps_the_key(tmp_path: Path) -> None:
    made = seal_keys.create_file(tmp_path / "seal.key")
    found = seal_keys.from_file(tmp_path / "seal.key")

    assert made.id == found.id
    assert b"k" * 32 == found.unwrap(made.wrap(b"k" * 32, b"c"), b"c")


def test_a_new_file_is_private_and_alone(tmp_path: Path) -> None:
    seal_keys.create_file(tmp_path / "seal.key")

    assert 0o600 == (tmp_path / "seal.key").stat().st_mode & 0o777
    assert ["seal.key"] == [path.name for path in tmp_path.iterdir()]


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    first = seal_keys.create_file(tmp_path / "seal.key")
    with pytest.raises(FileExistsError):
        seal_keys.create_file(tmp_path / "seal.key")

    assert first.id == seal_keys.from_file(tmp_path / "seal.key").id
    assert ["seal.key"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "seal.key"
    seal_keys.create_file(path)
    path.chmod(mode)

    with pytest.raises(Invalid, match=f"chmod 600 {path}"):
        seal_keys.from_file(path)


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33, "ä" * 64, "0" * 100_000])
def test_a_file_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seal.key"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises((Invalid, Sealed)) as raised:
        seal_keys.from_file(path)
    assert not content or content[:16] not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Sealed, match=f"{tmp_path}/none does not exist"):
        seal_keys.from_file(tmp_path / "none")


def test_a_credential_is_read_from_where_the_service_manager_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bytes(range(32))
    (tmp_path / "certbroker-seal").write_text(key.hex() + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert AESSealKey(key).id == seal_keys.from_credential("certbroker-seal").id
    with pytest.raises(Sealed, match="no credential named other"):
        seal_keys.from_credential("other")


def test_without_a_service_manager_a_credential_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    with pytest.raises(Sealed, match="LoadCredential="):
        seal_keys.from_credential("certbroker-seal")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(Invalid, match="shorter than 12"):
        seal_keys.from_passphrase("hunter2-abc", SALT)


@pytest.mark.usefixtures("quick_scrypt")
def test_a_passphrase_makes_the_same_key_each_time_and_another_one_with_another_salt() -> None:
    key = seal_keys.from_passphrase(PASSPHRASE, SALT)

    assert key.id == seal_keys.from_passphrase(PASSPHRASE, SALT).id
    assert key.id != seal_keys.from_passphrase(PASSPHRASE, bytes(15) + b"\1").id


@pytest.mark.usefixtures("quick_scrypt")
def test_a_wrong_passphrase_is_another_key_and_opens_nothing() -> None:
    right, wrong = seal_keys.from_passphrase(PASSPHRASE, SALT), seal_keys.from_passphrase(PASSPHRASE + "!", SALT)

    assert right.id != wrong.id
    with pytest.raises(Unreadable) as raised:
        wrong.unwrap(right.wrap(b"k" * 32, b""), b"")
    assert PASSPHRASE not in str(raised.value)


@pytest.mark.usefixtures("quick_scrypt")
def test_composed_and_decomposed_letters_are_one_passphrase() -> None:
    composed, decomposed = "sch\u00f6ne gr\u00fc\u00dfe 1", "scho\u0308ne gru\u0308\u00dfe 1"

    assert seal_keys.from_passphrase(composed, SALT).id == seal_keys.from_passphrase(decomposed, SALT).id


def test_deriving_a_key_costs_a_guesser_what_rfc_7914_is_for() -> None:
    assert 2**17 == seal_keys._SCRYPT_COST


@pytest.mark.parametrize("length", [0, 5, 12, 27])
def test_what_was_cut_short_does_not_unwrap(length: int) -> None:
    key = AESSealKey(bytes(32))

    with pytest.raises(Unreadable):
        key.unwrap(key.wrap(b"k" * 32, b"")[:length], b"")


def test_what_was_wrapped_for_another_context_does_not_unwrap() -> None:
    key = AESSealKey(bytes(32))

    with pytest.raises(Unreadable):
        key.unwrap(key.wrap(b"k" * 32, b"one"), b"two")


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(Invalid):
        AESSealKey(bytes(16))
