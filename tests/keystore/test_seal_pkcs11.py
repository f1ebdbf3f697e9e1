import os
import threading
from collections.abc import Callable
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, MechanismFlag

from certbroker.domain.errors import Invalid, Sealed
from certbroker.keystore import pkcs11_seal
from certbroker.keystore.pkcs11_seal import TokenSealKey, create_token_key, open_token_key
from certbroker.keystore.pkcs11_token import token
from certbroker.ports.seal import Unreadable
from tests.support.softhsm import SoftToken

LABEL = "certbroker-seal"
GCM, KEY_WRAP = pkcs11_seal._USES


@pytest.fixture(params=["gcm", "key wrap"])
def seal_key(request: pytest.FixtureRequest, hsm: SoftToken, monkeypatch: pytest.MonkeyPatch) -> TokenSealKey:
    if request.param == "key wrap":
        monkeypatch.setattr(pkcs11_seal, "_USES", (KEY_WRAP,))
    create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    return open_token_key(hsm.module, hsm.label, hsm.pin, LABEL)


def place(hsm: SoftToken) -> pkcs11_seal.Token:
    return token(hsm.module, hsm.label, hsm.pin)


def test_what_was_wrapped_comes_back(seal_key: TokenSealKey) -> None:
    key = os.urandom(32)

    assert key == seal_key.unwrap(seal_key.wrap(key, b"vault 1"), b"vault 1")


def test_another_context_is_refused(seal_key: TokenSealKey) -> None:
    wrapped = seal_key.wrap(os.urandom(32), b"vault 1")

    with pytest.raises(Unreadable):
        seal_key.unwrap(wrapped, b"vault 2")


def test_any_altered_byte_is_refused(seal_key: TokenSealKey) -> None:
    wrapped = seal_key.wrap(os.urandom(32), b"vault 1")

    for position in range(0, len(wrapped), 7):
        altered = bytearray(wrapped)
        altered[position] ^= 1
        with pytest.raises(Unreadable):
            seal_key.unwrap(bytes(altered), b"vault 1")


@pytest.mark.parametrize("length", [0, 1, 12, 13, 30])
def test_what_was_cut_short_is_refused(seal_key: TokenSealKey, length: int) -> None:
    wrapped = seal_key.wrap(os.urandom(32), b"vault 1")

    with pytest.raises(Unreadable):
        seal_key.unwrap(wrapped[:length], b"vault 1")


def test_what_another_key_wrapped_is_refused(hsm: SoftToken) -> None:
    keys = []
    for label in ("one", "two"):
        create_token_key(hsm.module, hsm.label, hsm.pin, label)
        keys.append(open_token_key(hsm.module, hsm.label, hsm.pin, label))
    one, two = keys

    assert one.id != two.id
    with pytest.raises(Unreadable):
        two.unwrap(one.wrap(os.urandom(32), b""), b"")


def test_the_key_has_the_same_id_each_time_and_is_made_once(hsm: SoftToken) -> None:
    assert create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    first = open_token_key(hsm.module, hsm.label, hsm.pin, LABEL).id
    place(hsm).close()

    assert not create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    assert first == open_token_key(hsm.module, hsm.label, hsm.pin, LABEL).id


def test_the_key_cannot_leave_the_token(hsm: SoftToken) -> None:
    create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)

    def attributes(session: pkcs11.Session) -> tuple[bool, bool, bool, bool]:
        key = place(hsm).secret_key(session, LABEL)
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            key[Attribute.VALUE]
        return (
            key[Attribute.EXTRACTABLE],
            key[Attribute.NEVER_EXTRACTABLE],
            key[Attribute.SENSITIVE],
            key[Attribute.WRAP],
        )

    assert (False, True, True, False) == place(hsm).run(attributes)


def test_a_key_that_could_leave_the_token_is_refused(hsm: SoftToken) -> None:
    def make(session: pkcs11.Session) -> None:
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            label=LABEL,
            store=True,
            capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
            template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
        )

    place(hsm).run(make)

    with pytest.raises(Invalid, match="can be taken out"):
        open_token_key(hsm.module, hsm.label, hsm.pin, LABEL)


def test_a_missing_key_token_or_library_is_named(hsm: SoftToken) -> None:
    with pytest.raises(Sealed, match="no AES key with the label certbroker-seal"):
        open_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    with pytest.raises(Sealed, match="no token with the label elsewhere"):
        open_token_key(hsm.module, "elsewhere", hsm.pin, LABEL)
    with pytest.raises(Sealed, match=r"library /nowhere\.so cannot be used"):
        open_token_key(Path("/nowhere.so"), hsm.label, hsm.pin, LABEL)


def test_a_refused_pin_is_tried_once_only_and_a_better_one_at_once(hsm: SoftToken) -> None:
    create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    place(hsm).close()
    with pytest.raises(Sealed, match="refuses the PIN") as refused:
        open_token_key(hsm.module, hsm.label, "wrong-pin", LABEL)
    with pytest.raises(Sealed, match="could lock the token"):
        open_token_key(hsm.module, hsm.label, "wrong-pin", LABEL)

    assert "wrong-pin" not in str(refused.value)
    open_token_key(hsm.module, hsm.label, hsm.pin, LABEL).prove()


def break_session(session: pkcs11.Session) -> None:
    session.close()


def test_a_lost_session_is_opened_again(seal_key: TokenSealKey, hsm: SoftToken) -> None:
    wrapped = seal_key.wrap(b"k" * 32, b"")
    place(hsm).run(break_session)

    assert b"k" * 32 == seal_key.unwrap(wrapped, b"")
    place(hsm).run(break_session)
    seal_key.wrap(b"k" * 32, b"")


def test_a_token_that_fails_is_not_taken_for_altered_bytes(hsm: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    key = open_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    wrapped = key.wrap(os.urandom(32), b"")

    def fail(*arguments: object) -> bytes:
        raise pkcs11.exceptions.DeviceError

    monkeypatch.setattr(pkcs11_seal, "_unwrap", fail)

    with pytest.raises(Sealed, match="DeviceError") as raised:
        key.unwrap(wrapped, b"")
    assert not isinstance(raised.value, Unreadable)


def test_many_threads_use_the_key_at_once(seal_key: TokenSealKey) -> None:
    failures: list[BaseException] = []

    def work(context: bytes) -> None:
        try:
            for _ in range(20):
                key = os.urandom(32)
                assert key == seal_key.unwrap(seal_key.wrap(key, context), context)
        except BaseException as error:
            failures.append(error)

    run_in_threads([lambda number=number: work(b"vault %d" % number) for number in range(8)])

    assert [] == failures


def test_the_library_itself_takes_several_threads(hsm: SoftToken) -> None:
    """Two sessions on two threads fail at once in a library that was told of one thread only."""
    create_token_key(hsm.module, hsm.label, hsm.pin, LABEL)
    device = place(hsm).run(lambda session: session.token)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            session = device.open()
            key = session.get_key(label=LABEL, object_class=pkcs11.ObjectClass.SECRET_KEY)
            for _ in range(200):
                nonce = os.urandom(12)
                parameters = pkcs11.GCMParams(nonce, b"")
                key.encrypt(b"x" * 32, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters)
            session.close()
        except BaseException as error:
            failures.append(error)

    run_in_threads([work] * 4)

    assert [] == failures


def test_a_forked_process_must_not_use_the_session(hsm: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    place(hsm).run(lambda session: None)
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(RuntimeError, match="fork"):
        place(hsm).run(lambda session: None)


def test_neither_pin_nor_key_shows_in_representations(seal_key: TokenSealKey, hsm: SoftToken) -> None:
    assert hsm.pin not in repr(seal_key) + repr(vars(seal_key)) + repr(place(hsm))


def run_in_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
