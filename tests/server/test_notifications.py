"""Notifications of a real broker: contacts by mail, programs by webhook, and what the command line says of them."""

from __future__ import annotations

import base64
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine
from tests.support.mail_sink import PASSWORD, MailSink
from tests.support.receiver import Answer, Posted, Receiver, agree
from tests.support.wire import Wire, creation, until

_KEY = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
_TOKEN = secrets.token_hex(16)


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailSink]:
    with MailSink(tmp_path_factory.mktemp("mail")) as sink:
        yield sink


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, sink: MailSink, receiver: Receiver) -> Iterator[DevBroker]:
    folder = tmp_path_factory.mktemp("notifications")
    trust = [receiver.trust, sink.trust]
    with DevBroker(folder / "broker", trust=trust, environment=sink.environment) as broker:
        yield broker


@pytest.fixture
def wire(broker: DevBroker, receiver: Receiver) -> Wire:
    """The vault, whose channels are gone, and a receiver that agrees."""
    wire = Wire(broker)
    for channel in wire.ok("GET", "/channels")["value"]:
        if channel["kind"] != "contacts":
            wire.ok("DELETE", f"/channels/{channel['id'].rpartition('/')[2]}")
    receiver.requests.clear()
    receiver.answer = agree
    return wire


def _hook(wire: Wire, receiver: Receiver, name: str = "hook", **body: Any) -> None:
    wire.ok("PUT", f"/channels/{name}", {"kind": "webhook", "settings": {"url": receiver.url}} | body)


def _types(receiver: Receiver) -> dict[str, str]:
    return {each.event["type"].rpartition(".")[2]: each.event["data"]["Id"] for each in receiver.events}


def test_a_new_certificate_is_told_with_its_key_and_secret_under_their_own_ids(
    broker: DevBroker, wire: Wire, receiver: Receiver
) -> None:
    _hook(wire, receiver)
    wire.ok("POST", "/certificates/told/create", creation("Self", "told.example.org"))
    wire.completed("told")
    (version,) = wire.versions("told")

    until("all three are told", lambda: len(_types(receiver)) == 3 or None)
    base = f"https://demo.vault.localhost:{broker.port}"
    assert {
        "CertificateNewVersionCreated": f"{base}/certificates/told/{version}",
        "KeyNewVersionCreated": f"{base}/keys/told/{version}",
        "SecretNewVersionCreated": f"{base}/secrets/told/{version}",
    } == _types(receiver)


def test_a_target_that_hangs_delays_nobody(wire: Wire, receiver: Receiver) -> None:
    _hook(wire, receiver)
    wire.ok("POST", "/channels/hook/test")
    until("it works", lambda: len(receiver.events) == 1 or None)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as silent:
        port = silent.getsockname()[1]
        for number in range(12):
            url = f"https://127.0.0.1:{port}/"
            wire.ok("PUT", f"/channels/silent-{number}", {"kind": "webhook", "settings": {"url": url}})
        for name in ("first", "second"):
            wire.ok("PUT", f"/secrets/{name}", {"value": "x"})

        until("both are told", lambda: len(receiver.events) == 3 or None, 10)
        for number in range(12):
            wire.ok("DELETE", f"/channels/silent-{number}")


def test_what_could_not_be_told_before_a_restart_is_told_after_it(
    broker: DevBroker, wire: Wire, receiver: Receiver
) -> None:
    _hook(wire, receiver, settings={"url": receiver.url, "handshake": "none"})
    receiver.answer = lambda request: Answer(503)
    wire.ok("PUT", "/secrets/waiting", {"value": "x"})
    until("it was tried", lambda: receiver.requests or None)
    shown = until("it fails", lambda: _failing(wire))
    assert ("failing", 1) == (shown["health"]["status"], shown["waiting"])
    assert "503" in shown["health"]["reason"]
    broker.restart()
    receiver.answer = agree

    until("nothing waits", lambda: wire.ok("GET", "/channels/hook")["waiting"] == 0 or None)
    assert "ok" == wire.ok("GET", "/channels/hook")["health"]["status"]
    assert 1 == len({each.headers.get("webhook-id", each.event["id"]) for each in receiver.events})


def _failing(wire: Wire) -> Any:
    channel = wire.ok("GET", "/channels/hook")
    return channel if channel["health"]["status"] == "failing" else None


def test_secrets_of_channels_are_told_to_their_targets_and_nobody_else(
    broker: DevBroker, wire: Wire, receiver: Receiver
) -> None:
    url = f"{receiver.url}?token={_TOKEN}"
    _hook(wire, receiver, settings={}, secrets={"url": url, "key": _KEY, "authorization": f"Bearer {_TOKEN}"})
    answers = [Answer(500), Answer(410), agree]

    def answer(request: Posted) -> Answer:
        if request.method == "OPTIONS" or not answers:
            return agree(request)
        found = answers.pop(0)
        return found if isinstance(found, Answer) else found(request)

    receiver.answer = answer
    for number in range(3):
        wire.ok("PUT", f"/secrets/kept-{number}", {"value": "x"})
    until("all were tried", lambda: not answers or None)
    until("nothing waits", lambda: wire.ok("GET", "/channels/hook")["waiting"] == 0 or None)

    assert f"Bearer {_TOKEN}" == receiver.events[0].headers["authorization"]
    shown = wire.ask("GET", "/channels/hook").text + wire.ask("GET", "/channels/hook/dead-letters").text
    assert '"secrets":["authorization","key","url"]' in shown
    stored = b"".join(path.read_bytes() for path in broker.data_dir.rglob("*") if path.is_file())
    for secret in (_TOKEN, _KEY, _KEY.removeprefix("whsec_"), PASSWORD):
        assert secret not in shown + broker.log()
        assert secret.encode() not in stored


def test_channels_are_administered_by_the_command_line(
    broker: DevBroker, wire: Wire, sink: MailSink, receiver: Receiver, tmp_path: Path
) -> None:
    certbroker = CommandLine(broker)
    (tmp_path / "key").write_text(f"{_KEY}\n")

    certbroker.ok("contacts", "set", "pki@example.com")
    assert "works" in certbroker.ok("channel", "test", "contacts").err
    assert ["[demo] Test of a notification channel"] == [mail["Subject"] for mail in sink.mails]
    assert [["pki@example.com"]] == sink.recipients
    certbroker.ok(
        "channel", "set", "hook", "--kind", "webhook", "--url", receiver.url, "--key-file", tmp_path / "key",
        "--event", "SecretNewVersionCreated",
    )  # fmt: skip
    assert "works" in certbroker.ok("channel", "test", "hook").err
    receiver.answer = lambda request: Answer(410)
    gone = certbroker("channel", "test", "hook")
    assert (1, True) == (gone.status, "410" in gone.err)
    shown = certbroker.ok("channel", "show", "hook").out
    assert "Microsoft.KeyVault.SecretNewVersionCreated" in shown
    assert _KEY not in shown
    letters = certbroker.json("channel", "dead-letters", "hook")
    assert ["Certbroker.ChannelTest"] == [letter["type"] for letter in letters]
    receiver.answer = agree
    assert "1 dead letter is tried again" in certbroker.ok("channel", "retry", "hook", letters[0]["id"]).err
    until("it is delivered", lambda: wire.ok("GET", "/channels/hook")["waiting"] == 0 or None)
    assert [] == certbroker.json("channel", "dead-letters", "hook")
    certbroker.ok("channel", "set", "hook", "--disabled")
    assert ["contacts", "hook"] == [each["id"].rpartition("/")[2] for each in certbroker.json("channel", "list")]
    assert 1 == certbroker("channel", "test", "hook").status
    assert 2 == certbroker("channel", "set", "hook", "--url", receiver.url).status
    certbroker.ok("channel", "delete", "hook", "--yes")
    assert 5 == certbroker("channel", "show", "hook").status
    certbroker.ok("contacts", "delete")
    assert [] == certbroker.json("channel", "list")
