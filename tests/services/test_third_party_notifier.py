"""A notifier that comes from another distribution: found by its entry point, as it would be after `pip install`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbroker.app import Core, open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.domain.channels import Lane, Outcome
from certbroker.domain.errors import Invalid
from certbroker.services.notification.channels import ChannelChanges

_MODULE = """
from pathlib import Path

from certbroker.domain.errors import Invalid


class PagerKind:
    name = "pager"
    for_people = True

    def check(self, settings):
        if "file" not in settings.settings:
            raise Invalid("settings.file is missing: name the file to write to.")

    def open(self, settings, resources):
        return Pager(Path(settings.settings["file"]), settings.secrets["pin"])


class Pager:
    def __init__(self, file, pin):
        self._file, self._pin = file, pin

    def deliver(self, notification):
        self._file.write_text(f"{self._pin} {notification.event.type} {notification.vault}")
        return "Paged."


class FalseMailKind(PagerKind):
    name = "mail"


pager, false_mail = PagerKind(), FalseMailKind()
"""


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    """A broker on a machine on which the distribution is installed."""
    packages = tmp_path / "site-packages"
    information = packages / "certbroker_pager-1.0.dist-info"
    information.mkdir(parents=True)
    (packages / "certbroker_pager.py").write_text(_MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: certbroker-pager\nVersion: 1.0\n")
    (information / "RECORD").write_text("certbroker_pager.py,,\n")
    entries = ("pager = certbroker_pager:pager", "mail = certbroker_pager:false_mail")
    (information / "entry_points.txt").write_text("\n".join(("[certbroker.notifiers]", *entries, "")))
    monkeypatch.syspath_prepend(packages)
    importlib.invalidate_caches()
    core = open_core(build({"data": {"directory": tmp_path / "data"}}))
    yield core
    core.close()


def test_it_is_configured_checked_and_delivers_like_ours(core: Core, tmp_path: Path) -> None:
    caller, broker = Caller("operator", "Test"), core.broker
    vault = broker.vaults.create(caller, "vault")
    with pytest.raises(Invalid, match=r"settings\.file is missing"):
        broker.channels.set(caller, vault, "p", ChannelChanges(kind="pager", settings={}))
    settings = {"file": str(tmp_path / "paged")}
    broker.channels.set(caller, vault, "p", ChannelChanges(kind="Pager", settings=settings, secrets={"pin": "1234"}))
    sent = broker.channels.test(caller, vault, "p")
    for channel in broker.deliveries.claim(broker.deliveries.due(Lane.NEW, 8)):
        broker.deliveries.work(channel, lambda: True)

    assert "1234 certbroker.channeltest vault" == (tmp_path / "paged").read_text().lower()
    delivery = broker.channels.delivery(vault, "p", sent.event.id)
    assert (Outcome.DELIVERED, "Paged.") == (delivery.outcome, delivery.problem)


def test_it_cannot_take_the_place_of_one_of_ours(core: Core, tmp_path: Path) -> None:
    caller = Caller("operator", "Test")
    vault = core.broker.vaults.create(caller, "vault")

    with pytest.raises(Invalid, match="setting to and nothing else"):
        core.broker.channels.set(
            caller, vault, "m", ChannelChanges(kind="mail", settings={"file": str(tmp_path / "mail")})
        )
