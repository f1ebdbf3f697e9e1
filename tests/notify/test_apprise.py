"""Apprise runs in a process of its own, if the operator lets it, and its URL is told to nobody."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from certbroker.domain.errors import Invalid
from certbroker.notify import apprise
from certbroker.notify.apprise import AppriseKind
from certbroker.ports.notifier import NotDelivered, Notification, NotifierResources, NotifierSettings
from tests.support.receiver import Answer, Receiver

Tell = Callable[..., Notification]
Resources = Callable[..., NotifierResources]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path) as receiver:
        yield receiver


def _settings(url: str) -> NotifierSettings:
    return NotifierSettings("chat", {}, {"url": url})


def _url(receiver: Receiver) -> str:
    return receiver.url.replace("https://", "jsons://") + "?verify=no&+X-Token=T0KEN"


def test_a_service_is_told_in_words(receiver: Receiver, tell: Tell, resources: Resources) -> None:
    AppriseKind(allowed=True).open(_settings(_url(receiver)), resources()).deliver(tell(message="Line\r\nbreak"))

    (posted,) = receiver.requests
    assert "[team] Certificate web expires in 10 days" == posted.event["title"]
    assert "Line break" in posted.event["message"]
    assert "warning" == posted.event["type"]


def test_a_service_that_refuses_is_tried_again_and_the_url_is_not_told(
    receiver: Receiver, tell: Tell, resources: Resources, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.answer = lambda request: Answer(500)
    with pytest.raises(NotDelivered) as failed:
        AppriseKind(allowed=True).open(_settings(_url(receiver)), resources()).deliver(tell())

    assert "T0KEN" not in str(failed.value) + repr(_settings(_url(receiver))) + "".join(capfd.readouterr())


def test_a_url_of_no_service_is_refused(tell: Tell, resources: Resources) -> None:
    with pytest.raises(NotDelivered, match="does not know"):
        AppriseKind(allowed=True).open(_settings("nonsense://x"), resources()).deliver(tell())


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tell: Tell, resources: Resources) -> None:
    monkeypatch.setattr(apprise, "_SECONDS", 2)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        begun = time.monotonic()
        with pytest.raises(NotDelivered, match="did not answer"):
            AppriseKind(allowed=True).open(
                _settings(f"json://127.0.0.1:{listening.getsockname()[1]}/?cto=60&rto=60"), resources()
            ).deliver(tell())

    assert time.monotonic() - begun < 15


def test_it_is_not_used_unless_the_operator_allows_it(resources: Resources) -> None:
    with pytest.raises(Invalid, match=r"egress\.allow_apprise"):
        AppriseKind(allowed=False).check(_settings("slack://x"))
    with pytest.raises(Invalid, match=r"egress\.allow_apprise"):
        AppriseKind(allowed=False).open(_settings("slack://x"), resources())


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise, "find_spec", lambda name: None)

    with pytest.raises(Invalid, match=r"certbroker\[apprise\]"):
        AppriseKind(allowed=True).check(_settings("slack://x"))


def test_it_is_not_imported_here() -> None:
    assert "apprise" not in sys.modules
