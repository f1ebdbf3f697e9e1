import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from certbroker.domain.errors import Sealed
from certbroker.domain.records import Identity, SealedBytes
from certbroker.keystore.seal import EnvelopeSeal
from certbroker.keystore.seal_keys import AESSealKey
from certbroker.ports.seal import SealKey, Unreadable, WrappedKey

ROW = Identity(1, "secret", "database-password", "0" * 32)


class KeptKeys:
    """Wrapped keys in memory."""

    def __init__(self) -> None:
        self.kept: dict[int, WrappedKey] = {}
        self.before_current = lambda: None

    def get(self, kek_id: int) -> WrappedKey | None:
        return self.kept.get(kek_id)

    def current(self, vault_id: int) -> WrappedKey | None:
        newest = max(
            (key for key in self.kept.values() if key.vault_id == vault_id), key=lambda key: key.id, default=None
        )
        self.before_current()
        return newest

    def add(self, seal: EnvelopeSeal, vault_id: int) -> int:
        number = len(self.kept) + 1
        self.kept[number] = WrappedKey(number, vault_id, *seal.new_kek(vault_id))
        return number


def sealed_world(seal_key: SealKey | None = None) -> tuple[EnvelopeSeal, KeptKeys]:
    keys = KeptKeys()
    seal = EnvelopeSeal(seal_key or AESSealKey(os.urandom(32)), keys)
    for vault_id in (1, 2):
        keys.add(seal, vault_id)
    return seal, keys


SEAL, KEYS = sealed_world()

identities = st.builds(
    Identity,
    st.sampled_from([1, 2]),
    st.sampled_from(["secret", "key", "operation", "issuer", "issuer memory", "setting"]),
    st.text(max_size=8),
    st.text(max_size=8),
)


@given(identities, st.binary(max_size=200))
def test_what_was_closed_opens_in_its_own_row(row: Identity, value: bytes) -> None:
    assert value == SEAL.open(row, SEAL.close(row, value))


@given(identities, identities, st.binary(max_size=40))
def test_bytes_do_not_open_in_another_row(row: Identity, other: Identity, value: bytes) -> None:
    sealed = SEAL.close(row, value)
    if row.encoded() == other.encoded():
        return

    with pytest.raises(Unreadable):
        SEAL.open(other, sealed)
    with pytest.raises(Unreadable):
        SEAL.rewrap(other, sealed)


@pytest.mark.parametrize(
    "other",
    [
        replace(ROW, vault_id=2),
        replace(ROW, kind="key"),
        replace(ROW, name="database-passwor", version="d" + ROW.version),
        replace(ROW, version="1" * 32),
    ],
    ids=["vault", "kind", "shifted boundary", "version"],
)
def test_each_part_of_the_identity_counts(other: Identity) -> None:
    with pytest.raises(Unreadable):
        SEAL.open(other, SEAL.close(ROW, b"value"))


def test_the_case_of_a_name_does_not_count() -> None:
    assert b"v" == SEAL.open(replace(ROW, name="Database-PASSWORD"), SEAL.close(ROW, b"v"))


@given(st.binary(max_size=40), st.data())
@settings(max_examples=200)
def test_altered_bytes_do_not_open(value: bytes, data: st.DataObject) -> None:
    sealed = SEAL.close(ROW, value)
    part = data.draw(st.sampled_from(["dek", "payload"]))
    content = bytearray(getattr(sealed, part))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(Unreadable):
        SEAL.open(ROW, replace(sealed, **{part: bytes(content)}))


@given(st.binary(max_size=40), st.sampled_from(["dek", "payload"]), st.integers(0, 47))
def test_bytes_that_were_cut_short_do_not_open(value: bytes, part: str, length: int) -> None:
    sealed = SEAL.close(ROW, value)
    content = getattr(sealed, part)[: min(length, len(getattr(sealed, part)) - 1)]

    with pytest.raises(Unreadable):
        SEAL.open(ROW, replace(sealed, **{part: content}))


def test_the_parts_of_two_values_do_not_mix() -> None:
    one, two = SEAL.close(ROW, b"one"), SEAL.close(ROW, b"two")

    with pytest.raises(Unreadable):
        SEAL.open(ROW, SealedBytes(one.kek, one.dek, two.payload))


def test_a_value_does_not_open_under_the_key_of_another_vault() -> None:
    with pytest.raises(Unreadable):
        SEAL.open(ROW, replace(SEAL.close(ROW, b"v"), kek=2))


def test_a_wrapped_key_moved_to_another_vault_does_not_open() -> None:
    seal, keys = sealed_world()
    stolen = keys.kept[2]
    keys.kept[1] = replace(stolen, id=1, vault_id=1)

    with pytest.raises(Unreadable):
        seal.close(ROW, b"v")


def test_no_nonce_and_no_data_key_is_used_twice() -> None:
    closed = [SEAL.close(ROW, b"the same value") for _ in range(2000)]

    assert 2000 == len({each.dek[:12] for each in closed}) == len({each.payload[:12] for each in closed})
    assert 2000 == len({each.dek[12:] for each in closed}) == len({each.payload[12:] for each in closed})


def test_a_value_under_a_key_that_is_gone_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        SEAL.open(ROW, replace(SEAL.close(ROW, b"v"), kek=77))


def test_rewrapping_moves_to_the_current_key_and_leaves_the_payload() -> None:
    seal, keys = sealed_world()
    sealed = seal.close(ROW, b"v")
    keys.add(seal, 1)
    seal.forget_current()
    moved = seal.rewrap(ROW, replace(sealed, payload=b""))

    assert (3, b"") == (moved.kek, moved.payload)
    assert b"v" == seal.open(ROW, replace(moved, payload=sealed.payload))
    assert moved.dek != sealed.dek


def test_a_destroyed_key_is_forgotten() -> None:
    seal, keys = sealed_world()
    sealed = seal.close(ROW, b"v")
    del keys.kept[1]
    assert b"v" == seal.open(ROW, sealed)
    seal.discard(1)

    with pytest.raises(Unreadable):
        seal.open(ROW, sealed)


def test_a_rotation_during_the_look_for_the_current_key_is_not_missed() -> None:
    seal, keys = sealed_world()

    def rotate() -> None:
        keys.before_current = lambda: None
        keys.add(seal, 1)
        seal.forget_current()

    keys.before_current = rotate

    assert 1 == seal.close(ROW, b"v").kek
    assert 3 == seal.close(ROW, b"v").kek


def test_a_previous_seal_key_still_opens_and_resealing_ends_its_use() -> None:
    old, new = AESSealKey(os.urandom(32)), AESSealKey(os.urandom(32))
    seal, keys = sealed_world(old)
    sealed = seal.close(ROW, b"v")
    both = EnvelopeSeal(new, keys, (old,))
    assert b"v" == both.open(ROW, sealed)
    for kek in list(keys.kept.values()):
        keys.kept[kek.id] = WrappedKey(kek.id, kek.vault_id, *both.reseal(kek))

    assert b"v" == EnvelopeSeal(new, keys).open(ROW, sealed)
    with pytest.raises(Sealed, match=f"needs seal key {new.id}; {old.id} is configured"):
        EnvelopeSeal(old, keys).open(ROW, sealed)


def test_many_threads_close_and_open_at_once() -> None:
    seal, _ = sealed_world()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for count in range(200):
                row = Identity(1 + count % 2, "secret", f"n{number}", str(count))
                assert b"%d" % count == seal.open(row, seal.close(row, b"%d" % count))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [] == failures


def test_no_key_shows_in_representations_or_errors() -> None:
    key = os.urandom(32)
    seal_key = AESSealKey(key)
    seal, keys = sealed_world(seal_key)
    kek = seal_key.unwrap(keys.kept[1].wrapped, b"certbroker vault key 1\x001")
    sealed = seal.close(ROW, b"the value itself")
    shown = [repr(seal), repr(vars(seal)), repr(seal_key), repr(vars(seal_key))]
    with pytest.raises(Unreadable) as raised:
        seal.open(replace(ROW, name="other"), sealed)
    shown += [repr(raised.value), str(raised.value)]

    for text in shown:
        for secret in (key, kek):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
        assert "the value itself" not in text
