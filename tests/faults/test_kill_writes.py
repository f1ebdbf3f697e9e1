"""`kill -9` in the middle of requests: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from certbroker.domain.audit import GENESIS, link
from tests.support.certificates import Authority, der
from tests.support.mortal import Mortal
from tests.support.wire import creation, until

POINTS = [("store.before-commit", 14), ("store.after-commit", 14)]


def _until_death(mortal: Mortal, request: Callable[[int], httpx.Response | None]) -> tuple[list[int], int]:
    """Make requests until one is not answered: the numbers of those that were, and of the one that was not."""
    for number in range(40):
        reply = request(number)
        if reply is None:
            mortal.await_death()
            return list(range(number)), number
        assert reply.is_success, reply.text
    raise AssertionError("the broker outlived its failpoint")


@pytest.mark.parametrize(("point", "count"), POINTS)
def test_a_secret_that_was_acknowledged_survives_and_no_other_is_half_there(
    mortal: Mortal, point: str, count: int
) -> None:
    base = point.replace(".", "-")
    mortal.start(point, count)

    answered, last = _until_death(
        mortal, lambda number: mortal.wire.try_to("PUT", f"/secrets/{base}-{number}", {"value": f"value {number}"})
    )
    mortal.start()
    read = [mortal.wire.ok("GET", f"/secrets/{base}-{number}")["value"] for number in answered]
    unanswered = mortal.wire.ask("GET", f"/secrets/{base}-{last}")

    assert [f"value {number}" for number in answered] == read
    # The point decides: nothing is there before the commit, everything after it.
    assert (404 if point == "store.before-commit" else 200) == unanswered.status_code
    if unanswered.is_success:
        assert f"value {last}" == unanswered.json()["value"]


@pytest.mark.parametrize(
    ("point", "count", "curve"),
    [
        # Made by the request that asks for it, and by the engine.
        *((point, count, "P-256") for point, count in POINTS),
        *((point, count, "P-384") for point, count in POINTS),
        ("operation.settle.before", 2, "P-384"),
        ("operation.settle.after", 2, "P-384"),
    ],
)
def test_a_self_signed_certificate_that_was_acknowledged_is_completed(
    mortal: Mortal, point: str, count: int, curve: str
) -> None:
    base = f"self-{curve}-{point}".replace(".", "-").lower()
    mortal.start(point, count)

    answered, last = _until_death(
        mortal,
        lambda number: mortal.wire.try_to(
            "POST", f"/certificates/{base}-{number}/create", creation("Self", f"n{number}.example.org", curve)
        ),
    )
    mortal.start()
    known = [number for number in (*answered, last) if mortal.wire.pending(f"{base}-{number}") is not None]

    assert answered == [number for number in known if number != last]
    for number in known:
        name = f"{base}-{number}"
        mortal.wire.completed(name)
        stored = mortal.wire.stored(name)
        assert stored.certificate.public_key() == stored.key
        assert stored.certificate == stored.in_secret
        assert 1 == len(mortal.wire.versions(name))


@pytest.mark.parametrize(
    ("point", "count", "curve"),
    # One on P-256 is made by the request, any other by the engine.
    [
        ("store.before-commit", 14, "P-256"),
        ("store.after-commit", 14, "P-256"),
        ("store.before-commit", 20, "P-384"),
        ("store.after-commit", 20, "P-384"),
        ("operation.settle.before", 2, "P-384"),
    ],
)
def test_a_private_ca_has_in_its_ledger_what_the_vault_has_and_nothing_else(
    mortal: Mortal, point: str, count: int, curve: str
) -> None:
    base = f"ca-{point}-{curve}".replace(".", "-")
    mortal.broker.start()
    mortal.wire.ok("POST", f"/authorities/{base}/create", {"subject": f"CN={base}"})
    issuer = {"provider": "PrivateCA", "org_details": {"id": f"ca={base}"}}
    mortal.wire.ok("PUT", f"/certificates/issuers/{base}", issuer)
    mortal.broker.stop()
    mortal.start(point, count)

    answered, last = _until_death(
        mortal,
        lambda number: mortal.wire.try_to(
            "POST", f"/certificates/{base}-{number}/create", creation(base, f"n{number}.example.org", curve)
        ),
    )
    mortal.start()
    known = [number for number in (*answered, last) if mortal.wire.pending(f"{base}-{number}") is not None]
    for number in known:
        mortal.wire.completed(f"{base}-{number}")
    kept = {f"{mortal.wire.stored(f'{base}-{number}').certificate.serial_number:x}" for number in known}

    assert answered == [number for number in known if number != last]
    assert kept == {entry["serial"] for entry in mortal.wire.ok("GET", f"/authorities/{base}/issued")["value"]}
    assert [1] * len(known) == [len(mortal.wire.versions(f"{base}-{number}")) for number in known]


@pytest.mark.parametrize(("point", "count"), POINTS)
def test_a_merge_is_done_or_can_be_repeated(mortal: Mortal, point: str, count: int) -> None:
    base = f"merge-{point}".replace(".", "-")
    authority = Authority()
    mortal.broker.start()
    leaves = {}
    for number in range(count):
        name = f"{base}-{number}"
        mortal.wire.ok("POST", f"/certificates/{name}/create", creation("Unknown", "merged.example.org"))

        def csr(name: str = name) -> str | None:
            found: str | None = mortal.wire.pending(name).get("csr")
            return found

        leaves[number] = authority.answer(base64.b64decode(until("a CSR", csr)))
    mortal.start(point, count)

    def merge(number: int) -> httpx.Response | None:
        body = {"x5c": [base64.b64encode(der(leaves[number])).decode()]}
        return mortal.wire.try_to("POST", f"/certificates/{base}-{number}/pending/merge", body)

    answered, last = _until_death(mortal, merge)
    mortal.start()
    was_done = mortal.wire.pending(f"{base}-{last}")["status"] == "completed"
    again = merge(last)

    assert (point == "store.after-commit") == was_done
    assert again is not None
    assert (not was_done) == again.is_success
    for number in (*answered, last):
        stored = mortal.wire.stored(f"{base}-{number}")
        assert leaves[number] == stored.certificate
        assert leaves[number].public_key() == stored.key
        assert 1 == len(mortal.wire.versions(f"{base}-{number}"))


def test_reads_that_were_answered_are_on_record_after_a_kill(mortal: Mortal) -> None:
    mortal.broker.start()
    mortal.wire.ok("PUT", "/secrets/read-often", {"value": "x"})
    with mortal.wire.open() as http:
        replies = [http.get("/secrets/read-often").status_code for _ in range(50)]
        mortal.broker.kill()
    mortal.start()
    database = mortal.broker.data_dir / "certbroker.db"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT writer, seq, record, hash FROM audit ORDER BY writer, seq").fetchall()
    records = [json.loads(record) for _, _, record, _ in rows]
    reads = [each for each in records if each["operation"] == "SecretGet" and "read-often" in each["object"]]

    assert [200] * 50 == replies
    assert 50 == len(reads)
    heads: dict[str, tuple[int, bytes]] = {}
    for writer, sequence, record, digest in rows:
        before, previous = heads.get(writer, (0, GENESIS))
        assert (before + 1, link(previous, record)) == (sequence, digest)
        heads[writer] = sequence, digest
