"""`kill -9` before and after a commit, whatever it commits."""

from __future__ import annotations

import pytest

from pebble.launcher import Pebble
from tests.support.failpoints import COMMITS
from tests.support.mortal import Mortal, assert_one_certificate
from tests.support.wire import creation, until


@pytest.mark.parametrize(("point", "count"), COMMITS)
def test_a_broker_killed_at_any_commit_finishes_what_it_acknowledged(
    mortal: Mortal, pebble: Pebble, point: str, count: int
) -> None:
    """Certificates are asked for until the broker dies; what was not acknowledged may be asked for again."""
    base = f"{point}-{count}".replace(".", "-")
    issuer = f"ca-{base}"
    mortal.wire.set_acme_issuer(issuer, pebble.directory_url)
    mortal.start(point, count)
    acknowledged: dict[str, bool] = {}
    while not mortal.is_dead:
        assert len(acknowledged) < 10
        name = f"{base}-{len(acknowledged)}"
        body = creation(issuer, f"{name}.example.org")
        acknowledged[name] = mortal.wire.try_to("POST", f"/certificates/{name}/create", body) is not None
        until("done or dead", lambda name=name: mortal.is_dead or _is_done(mortal, name) or None)
    mortal.start()

    for name, was in acknowledged.items():
        if mortal.wire.pending(name) is None:
            assert not was, f"{name} was acknowledged and is forgotten"
            body = creation(issuer, f"{name}.example.org")
            mortal.wire.ok("POST", f"/certificates/{name}/create", body)
        assert_one_certificate(mortal, pebble, name, f"{name}.example.org")


def _is_done(mortal: Mortal, name: str) -> bool:
    reply = mortal.wire.try_to("GET", f"/certificates/{name}/pending")
    return reply is not None and reply.status_code == 200 and reply.json()["status"] == "completed"
