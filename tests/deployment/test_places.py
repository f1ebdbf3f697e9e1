"""Places of endpoints, as people write them."""

from __future__ import annotations

import pytest

from certbroker.domain.endpoints import StartTLS, read_place
from certbroker.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "starttls", "expected"),
    [
        ("www.example.com", None, ("www.example.com", 443)),
        ("WWW.example.com.:8443", None, ("www.example.com", 8443)),
        ("[2001:db8::1]:8443", None, ("2001:db8::1", 8443)),
        ("2001:db8::1", None, ("2001:db8::1", 443)),
        ("mail.example.com", "SMTP", ("mail.example.com", 25)),
        ("db.example.com", "postgres", ("db.example.com", 5432)),
    ],
)
def test_places_are_read_as_people_write_them(text: str, starttls: str | None, expected: tuple[str, int]) -> None:
    place = read_place(text, starttls=starttls)

    assert expected == (place.host, place.port)
    assert starttls is None or place.starttls in StartTLS


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ""},
        {"text": ":443"},
        {"text": "*.example.com"},
        {"text": "www.example.com:0"},
        {"text": "www.example.com:99999"},
        {"text": "www.example.com:https"},
        {"text": "https://www.example.com"},
        {"text": "user@host"},
        {"text": "www.example.com", "server_name": "not a name"},
        {"text": "www.example.com", "starttls": "gopher"},
        {"text": "www.example.com", "address": "www.example.com"},
        {"text": "fe80::1%eth0"},
    ],
)
def test_what_is_no_place_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        read_place(**wrong)
