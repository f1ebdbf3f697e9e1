"""When the CA wants a certificate renewed (RFC 9773), whatever it says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certbroker.ports.issuer import IssuerUnavailable
from certbroker.ports.issuer_abilities import RenewalWindow, SuggestsRenewal
from issuers.acme.problem import Nonsense
from issuers.acme.renewal_info import certificate_id, read_window
from pebble.launcher import Pebble
from tests.support.acme_ports import (
    MemoryJournal,
    NoBoard,
    Surroundings,
    drive,
    issued,
    loopback_egress,
    request_for,
)
from tests.support.peers import require_pebble
from tests.support.scripted_ca import Fault, ScriptedCA

pytestmark = pytest.mark.xdist_group("acme-renewal")

EXPIRY = datetime(2026, 12, 31, tzinfo=UTC)
SOON = timedelta(hours=1)
URL = "https://ca.example/why"


@pytest.fixture
def scripted() -> Iterator[ScriptedCA]:
    with ScriptedCA(renewal_info=True) as ca:
        yield ca


@pytest.fixture
def ca(scripted_ca: Surroundings) -> Surroundings:
    return scripted_ca


@pytest.fixture(scope="module")
def pebble(start_pebble: Callable[..., Pebble]) -> Pebble:
    require_pebble(recent=True)
    return start_pebble(always_valid=True)


def certificate(serial: int = 1, key_id: bytes | None = b"\1" * 20) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(EXPIRY)
    )
    if key_id is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    return builder.sign(key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def info(
    start: object = "2026-06-01T00:00:00Z", end: object = "2026-06-02T00:00:00Z", **more: object
) -> dict[str, Any]:
    return {"suggestedWindow": {"start": start, "end": end}, **more}


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        # The example of section 4.1, whose first octet has its highest bit set.
        (0x87654321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"),
        (0x7F, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.fw"),
        (0x80, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIA"),
        (0x0100, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AQA"),
    ],
)
def test_a_certificate_is_named_by_its_authority_key_and_serial(serial: int, expected: str) -> None:
    key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")

    assert expected == certificate_id(certificate(serial, key_id))


def test_a_certificate_without_authority_key_has_no_name() -> None:
    assert certificate_id(certificate(key_id=None)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-01T00:00:00Z", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01t02:00:00+02:00", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-05-31 22:00:00-02:00", datetime(2026, 6, 1, tzinfo=UTC)),
        ("2026-06-01T00:00:00.5z", datetime(2026, 6, 1, microsecond=500_000, tzinfo=UTC)),
        ("2026-06-01T00:00:00.123456789Z", datetime(2026, 6, 1, microsecond=123_456, tzinfo=UTC)),
    ],
)
def test_times_as_cas_write_them(text: str, expected: datetime) -> None:
    assert expected == read_window(info(start=text), SOON, EXPIRY).start


def test_a_window_in_the_past_wants_the_renewal_now() -> None:
    window = read_window(info("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"), SOON, EXPIRY)

    assert RenewalWindow(
        datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, second=1, tzinfo=UTC), None, SOON
    ) == window  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"suggestedWindow": None},
        {"suggestedWindow": ["2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"]},
        {"suggestedWindow": {"start": "2026-06-01T00:00:00Z"}},
        info(end="2026-06-01T00:00:00Z"),  # Ends when it starts.
        info(end="2026-05-31T23:59:59Z"),
        info(end="2026-06-01T01:00:00+02:00"),  # Ends before, in another zone.
        info(start="2026-12-31T00:00:00Z", end="2027-01-01T00:00:00Z"),  # The certificate is over then.
        info(start="0001-01-01T00:00:00Z"),
        info(start="9999-12-31T23:59:59-23:59", end="9999-12-31T23:59:59Z"),
        info(start="2026-06-01T00:00:00"),  # In which zone?
        info(start="2026-06-01"),
        info(start="2026-W20-1T00:00:00Z"),
        info(start="20260601T000000Z"),
        info(start="2026-06-31T00:00:00Z"),
        info(start="2026-06-01T00:00:60Z"),
        info(start="2026-06-01T24:00:01Z"),
        info(start="tomorrow"),
        info(start=1780272000),
        info(start="\u0662\u0660\u0662\u0666-06-01T00:00:00Z"),
        info(start="2026-06-01T00:00:00." + "0" * 100_000 + "Z"),
    ],
)
def test_what_is_no_window(body: dict[str, Any]) -> None:
    with pytest.raises(Nonsense):
        read_window(body, SOON, EXPIRY)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (URL, True),
        ("http://ca.example:8080/why?incident=1#top", True),
        (f"https://ca.example/{'a' * 1000}", True),
        (f"https://ca.example/{'a' * 2000}", False),
        ("javascript:alert(1)", False),
        ("data:text/html,hello", False),
        ("file:///etc/passwd", False),
        ("//ca.example/why", False),
        ("https://", False),
        ("https://user@ca.example/", False),
        ("https://[/", False),
        ("https://ca.example/a b", False),
        ("https://ca.example/\r\nSet-Cookie: a=b", False),
        ('https://ca.example/"><script>', False),
        ("https://c\u0430.example/", False),
        (["https://ca.example/"], False),
        (None, False),
    ],
)
def test_an_explanation_is_kept_only_when_people_can_be_shown_it(url: object, kept: bool) -> None:
    window = read_window(info(explanationURL=url), SOON, EXPIRY)

    assert (url if kept else None) == window.explanation


def test_a_renewal_window_by_a_real_ca(pebble: Pebble, surround: Callable[[Pebble], Surroundings]) -> None:
    issuer = surround(pebble).issuer()
    leaf, *_ = issued(drive(issuer, request_for("window.example.org"), MemoryJournal()))
    assert isinstance(issuer, SuggestsRenewal)

    window = issuer.renewal_window(der(leaf))

    assert window is not None
    assert leaf.not_valid_before_utc < window.start < window.end < leaf.not_valid_after_utc
    assert (None, timedelta(hours=6)) == (window.explanation, window.ask_again)


def test_a_revoked_certificate_is_to_be_renewed_now(pebble: Pebble, surround: Callable[[Pebble], Surroundings]) -> None:
    issuer = surround(pebble).issuer()
    leaf, *_ = issued(drive(issuer, request_for("revoked.example.org"), MemoryJournal()))
    issuer.revoke(der(leaf), 4)

    window = issuer.renewal_window(der(leaf))

    assert window is not None
    assert window.end < datetime.now(UTC)


def test_a_real_ca_says_nothing_about_certificates_of_others(
    pebble: Pebble, surround: Callable[[Pebble], Surroundings]
) -> None:
    issuer = surround(pebble).issuer()
    leaf, *_ = issued(drive(issuer, request_for("own.example.org"), MemoryJournal()))
    own_key = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier

    assert issuer.renewal_window(der(certificate(serial=5))) is None
    assert issuer.renewal_window(der(certificate(serial=5, key_id=own_key))) is None
    assert issuer.renewal_window(der(certificate(key_id=None))) is None


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "{}", json.dumps(info(end="2020-01-01T00:00:00Z"))])
def test_an_answer_that_is_none_is_asked_for_again_in_six_hours(
    pebble: Pebble, surround: Callable[[Pebble], Surroundings], body: str
) -> None:
    issuer = surround(pebble).issuer()
    leaf, *_ = issued(drive(issuer, request_for("broken.example.org"), MemoryJournal()))
    pebble.management.set_renewal_info(leaf.public_bytes(Encoding.PEM).decode(), body or " ")

    with pytest.raises(IssuerUnavailable) as caught:
        issuer.renewal_window(der(leaf))

    assert "IssuerAnswerInvalid" == caught.value.problem.code
    assert not caught.value.committed
    assert caught.value.retry_at is not None
    assert abs(caught.value.retry_at - datetime.now(UTC) - timedelta(hours=6)) < timedelta(minutes=1)


def test_a_changed_window_with_an_explanation(pebble: Pebble, surround: Callable[[Pebble], Surroundings]) -> None:
    issuer = surround(pebble).issuer()
    leaf, *_ = issued(drive(issuer, request_for("changed.example.org"), MemoryJournal()))
    start = (leaf.not_valid_before_utc + timedelta(days=1)).replace(microsecond=0)
    body = info(start.isoformat(), (start + SOON).isoformat(), explanationURL=URL)
    pebble.management.set_renewal_info(leaf.public_bytes(Encoding.PEM).decode(), json.dumps(body))

    assert RenewalWindow(start, start + SOON, URL, timedelta(hours=6)) == issuer.renewal_window(der(leaf))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(30, timedelta(minutes=1)), (3600, timedelta(hours=1)), (-3600, timedelta(minutes=1)), (10**7, timedelta(days=1))],
)
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_when_to_ask_again_has_bounds_and_no_zone(
    scripted: ScriptedCA,
    ca: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    seconds: int,
    expected: timedelta,
    as_date: bool,
) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    text = when if as_date else str(seconds)
    scripted.fault("renewal-info", lambda exchange: exchange.send(200, exchange.proper[2], retry_after=text))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()

        window = ca.issuer().renewal_window(der(certificate()))
    time.tzset()

    assert window is not None
    assert abs(window.ask_again - expected) < timedelta(seconds=3)


def test_without_retry_after_it_is_asked_again_in_six_hours(ca: Surroundings) -> None:
    window = ca.issuer().renewal_window(der(certificate()))

    assert window is not None
    assert timedelta(hours=6) == window.ask_again


def test_a_ca_without_renewal_information_is_not_asked() -> None:
    egress = loopback_egress(plain_http=True)
    with ScriptedCA() as scripted:
        issuer = Surroundings(egress, NoBoard(), scripted.directory_url).issuer()

        assert issuer.renewal_window(der(certificate())) is None
        assert 0 == scripted.hits["renewal-info"]
    egress.close()


@pytest.mark.parametrize(
    ("fault", "code", "retry"),
    [
        (lambda exchange: exchange.problem(429, "rateLimited", retry_after="600"), "RateLimited", 600),
        (lambda exchange: exchange.problem(429, "rateLimited", retry_after="1"), "RateLimited", 60),
        (lambda exchange: exchange.problem(503, "serverInternal", retry_after="600"), "IssuerUnavailable", 600),
        (lambda exchange: exchange.problem(500, "serverInternal"), "IssuerUnavailable", None),
        (lambda exchange: exchange.problem(403, "unauthorized"), "IssuerUnavailable", 6 * 3600),
        (lambda exchange: exchange.send(200, b"<html>", "text/html"), "IssuerAnswerInvalid", 6 * 3600),
        (lambda exchange: exchange.send(302, location="/directory"), "IssuerAnswerInvalid", 6 * 3600),
        (lambda exchange: exchange.drop(), "IssuerUnreachable", None),
    ],
)
def test_errors_say_when_asking_again_makes_sense(
    scripted: ScriptedCA, ca: Surroundings, fault: Fault, code: str, retry: int | None
) -> None:
    scripted.fault("renewal-info", fault)

    with pytest.raises(IssuerUnavailable) as caught:
        ca.issuer().renewal_window(der(certificate()))

    assert code == caught.value.problem.code
    retry_at = caught.value.retry_at
    wait = None if retry_at is None else round((retry_at - datetime.now(UTC)).total_seconds(), -1)
    assert retry == wait


@pytest.mark.parametrize("status", [404, 410])
def test_an_unknown_certificate_is_no_error(scripted: ScriptedCA, ca: Surroundings, status: int) -> None:
    scripted.fault("renewal-info", lambda exchange: exchange.problem(status, "malformed"))

    assert ca.issuer().renewal_window(der(certificate())) is None


def test_a_directory_that_is_missing_is_not_an_unknown_certificate(scripted: ScriptedCA, ca: Surroundings) -> None:
    scripted.fault("directory", lambda exchange: exchange.problem(404, "malformed"))

    with pytest.raises(IssuerUnavailable):
        ca.issuer().renewal_window(der(certificate()))


def test_renewal_information_leads_nowhere_else(scripted: ScriptedCA, ca: Surroundings) -> None:
    elsewhere = "http://169.254.169.254/latest"
    scripted.fault("directory", lambda exchange: exchange.proceed(renewalInfo=elsewhere))

    with pytest.raises(IssuerUnavailable, match=r"instead of 127\.0\.0\.1"):
        ca.issuer().renewal_window(der(certificate()))
