"""Mail goes to a real server, says what is to be said, and cannot be made to say more."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certbroker.domain.errors import Invalid
from certbroker.domain.events import EventType
from certbroker.domain.mail_address import is_mail_address
from certbroker.domain.objects import MAX_TIME, Kind
from certbroker.egress.client import trust_context
from certbroker.notify import mail as mails
from certbroker.notify.mail import MailKind, MailServer, compose
from certbroker.ports.notifier import NotDelivered, Notification, NotifierResources, NotifierSettings, Undeliverable
from tests.support.mail_sink import PASSWORD, MailSink

Tell = Callable[..., Notification]
_NOW = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
_SERVER = MailServer("mail.example", 25, "none", "broker@example.com", ssl.create_default_context())

# What would begin a new header, or a new body, if it got through.
_HOSTILE = "x\r\nBcc: thief@example.com\r\n\r\n<script>alert(1)</script>\0\x1b[31m\u2028\u202e"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailSink]:
    with MailSink(tmp_path) as sink:
        yield sink


def _deliver(
    server: MailServer, resources: Callable[..., NotifierResources], notification: Notification, to: str
) -> str:
    return MailKind(server).open(NotifierSettings("ops", {"to": to}), resources()).deliver(notification)


def _parts(mail: EmailMessage) -> tuple[str, str]:
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


# The server wants STARTTLS before it lets sign in, and does not see that all of it is TLS already.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("implicit", [False, True])
def test_a_mail_arrives_over_tls_by_one_who_has_signed_in(
    tmp_path: Path, tell: Tell, resources: Callable[..., NotifierResources], implicit: bool
) -> None:
    with MailSink(tmp_path, implicit=implicit) as sink:
        note = _deliver(sink.server(reply_to="pki@example.com"), resources, tell(), "a@example.com, b@example.com")

    assert "" == note
    assert [["a@example.com", "b@example.com"]] == sink.recipients
    (mail,) = sink.mails
    assert "[team] Certificate web expires in 10 days" == mail["Subject"]
    assert "a@example.com, b@example.com" == mail["To"]
    assert "certbroker <broker@example.com>" == mail["From"]
    assert "pki@example.com" == mail["Reply-To"]
    assert "auto-generated" == mail["Auto-Submitted"]
    for part in _parts(mail):
        assert "2026-03-11 12:00 UTC" in part
        assert "https://team.vault.example/certificates/web/" in part


def test_the_same_event_has_the_same_message_id_and_another_another(tell: Tell) -> None:
    first = compose(tell(), _SERVER, ("a@example.com",), _NOW)["Message-ID"]

    assert first == compose(tell(), _SERVER, ("a@example.com",), datetime(2026, 3, 2, tzinfo=UTC))["Message-ID"]
    assert first != compose(tell(id="f" * 32), _SERVER, ("a@example.com",), _NOW)["Message-ID"]


@pytest.mark.parametrize("kind", list(EventType))
def test_nothing_in_an_event_becomes_a_header_or_markup(tell: Tell, kind: EventType) -> None:
    lines = {"expiring": f"{_HOSTILE}\n{_HOSTILE}", _HOSTILE: _HOSTILE}
    hostile = tell(
        vault=_HOSTILE, type=kind, id=_HOSTILE, name=_HOSTILE, version=_HOSTILE, message=_HOSTILE, details=lines
    )
    composed = compose(hostile, _SERVER, ("a@example.com",), _NOW).as_bytes()
    mail = message_from_bytes(composed, policy=policy.default)
    assert isinstance(mail, EmailMessage)

    usual = compose(tell(), _SERVER, ("a@example.com",), _NOW)
    assert usual.keys() == mail.keys()
    assert [] == mail.defects
    assert max(len(line) for line in composed.split(b"\r\n")) <= 998
    assert b"\r" not in composed.replace(b"\r\n", b"")
    text, html = _parts(mail)
    assert "<script" not in html
    for each in (text, html, mail["Subject"]):
        assert not set("\0\x1b\u2028\u202e") & set(each)


@pytest.mark.parametrize(
    "to",
    [
        "",
        " , ",
        "nobody",
        "a@b@c",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\n",
        "A Name <a@example.com>",
        '"a b"@example.com',
        "a@exämple.com",
        "a..b@example.com",
        ".a@example.com",
        "a.@example.com",
        "a@example.com.",
        "a@.example.com",
        "a@example..com",
        "=?utf-8?q?x?=@example.com",
        "-@",
        f"{'a' * 65}@example.com",
        f"a@{'b' * 254}",
        ", ".join(f"a{number}@example.com" for number in range(51)),
    ],
)
def test_what_is_no_address_is_refused(to: str) -> None:
    # White space around an address is left out, so this one is fine.
    if to == "a@example.com\n":
        MailKind(_SERVER).check(NotifierSettings("ops", {"to": to}))
        return
    with pytest.raises(Invalid):
        MailKind(_SERVER).check(NotifierSettings("ops", {"to": to}))


def test_an_address_that_was_stored_and_is_none_keeps_nobody_else_from_being_told(
    sink: MailSink, tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    note = _deliver(sink.server(), resources, tell(), "a@example.com, ops@example.com., b.@example.com, c@example.com")

    assert [["a@example.com", "c@example.com"]] == sink.recipients
    assert "a@example.com, c@example.com" == sink.mails[0]["To"]
    assert "Nothing is sent to what is not an e-mail address: 'ops@example.com.', 'b.@example.com'." == note
    with pytest.raises(Invalid, match="Nothing is sent to"):
        _deliver(sink.server(), resources, tell(), "ops@example.com.")


@pytest.mark.parametrize("kind", list(EventType))
def test_what_expires_after_all_calendars_is_told_like_anything_else(tell: Tell, kind: EventType) -> None:
    mail = compose(tell(type=kind, kind=Kind.SECRET, not_after=MAX_TIME), _SERVER, ("a@example.com",), _NOW)

    assert "Valid until: after the year 9999" in _parts(mail)[0]


@given(st.from_regex(r"[a-z=?.'+-]{1,8}@[a-z0-9.=?-]{1,8}", fullmatch=True))
def test_whatever_counts_as_an_address_can_be_written_into_a_mail(address: str) -> None:
    if is_mail_address(address):
        assert address == Address(addr_spec=address).addr_spec


def test_without_a_mail_server_it_says_what_to_do(tell: Tell, resources: Callable[..., NotifierResources]) -> None:
    kind = MailKind(None)
    kind.check(NotifierSettings("ops", {"to": "a@example.com"}))

    with pytest.raises(Invalid, match=r"\[mail\]"):
        kind.open(NotifierSettings("ops", {"to": "a@example.com"}), resources())


def test_a_refusal_for_good_ends_it_and_one_for_now_does_not(
    sink: MailSink, tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    server = sink.server()
    sink.refuse = lambda address: "550 no such user"
    with pytest.raises(Undeliverable, match="550 no such user"):
        _deliver(server, resources, tell(), "a@example.com")
    sink.refuse = lambda address: "451 try later"
    with pytest.raises(NotDelivered, match="451 try later"):
        _deliver(server, resources, tell(), "a@example.com")
    sink.refuse = lambda address: None
    sink.answer = "452 full"
    with pytest.raises(NotDelivered, match="452 full"):
        _deliver(server, resources, tell(), "a@example.com")
    sink.answer = "554 spam"
    with pytest.raises(Undeliverable, match="554 spam"):
        _deliver(server, resources, tell(), "a@example.com")


def test_who_was_refused_beside_others_is_told(
    sink: MailSink, tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    sink.refuse = lambda address: "550 gone" if address.startswith("b") else None

    note = _deliver(sink.server(), resources, tell(), "a@example.com, b@example.com")

    assert "b@example.com: 550 gone" in note
    assert [["a@example.com"]] == sink.recipients


def test_a_wrong_password_is_not_told_in_the_reason(
    sink: MailSink, tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    with pytest.raises(NotDelivered, match=r"mail\.username") as failed:
        _deliver(sink.server(password="hunter2"), resources, tell(), "a@example.com")

    assert "hunter2" not in str(failed.value)
    assert "hunter2" not in repr(sink.server(password="hunter2"))
    assert PASSWORD not in repr(sink.server())


def test_a_server_without_a_certificate_for_its_name_gets_no_password(
    tmp_path: Path, tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    with MailSink(tmp_path, host="other.example") as sink:
        with pytest.raises(NotDelivered, match="not trusted"):
            _deliver(sink.server(), resources, tell(), "a@example.com")
        with pytest.raises(NotDelivered, match="not trusted"):
            _deliver(sink.server(trust=trust_context(())), resources, tell(), "a@example.com")

    assert [] == sink.mails


def test_a_server_without_starttls_gets_neither_password_nor_mail(
    tell: Tell, resources: Callable[..., NotifierResources]
) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"220 plain\r\n")
                while line := connection.recv(1000):
                    heard.append(line)
                    connection.sendall(b"250 plain\r\n")

        threading.Thread(target=serve, daemon=True).start()
        server = MailServer(
            "127.0.0.1", listening.getsockname()[1], "starttls", "broker@example.com", trust_context(()), "u", PASSWORD
        )
        with pytest.raises(NotDelivered, match="STARTTLS"):
            _deliver(server, resources, tell(), "a@example.com")

    assert [b"ehlo example.com\r\n"] == heard[:1]
    assert b"MAIL" not in b"".join(heard).upper()


# A server that says nothing; one that begins well and goes on without an end; one that never ends its greeting; and one
# that begins TLS and never ends that.
@pytest.mark.parametrize(
    ("security", "first", "drip"),
    [
        ("none", b"220 hello\r\n", b""),
        ("none", b"220 hello\r\n", b"250-more\r\n"),
        ("none", b"", b"220-hello\r\n"),
        ("starttls", b"", b"2"),
        ("tls", b"\x16\x03\x03\x40\x00", b"\x02"),
    ],
)
def test_a_server_that_hangs_or_drips_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
    tell: Tell,
    resources: Callable[..., NotifierResources],
    security: Literal["starttls", "tls", "none"],
    first: bytes,
    drip: bytes,
) -> None:
    monkeypatch.setattr(mails, "_SECONDS", 0.6)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(first)
                while not stop.wait(0.1):
                    try:
                        connection.sendall(drip)
                    except OSError:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        server = MailServer("127.0.0.1", listening.getsockname()[1], security, "broker@example.com", trust_context(()))
        begun = time.monotonic()
        with pytest.raises(NotDelivered, match="could not be used"):
            _deliver(server, resources, tell(), "a@example.com")
        stop.set()
        thread.join()

    assert time.monotonic() - begun < 10
