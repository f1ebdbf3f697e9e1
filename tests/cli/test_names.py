"""Names as people type them: a command acts on what is named, and on nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from certbroker.cli.client import Client, CommandFailed, Connection, TokenFile
from certbroker.cli.paths import at, within
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")

# Each would end the path, add a segment to it or take one away, if it were not quoted.
_TAILS = ["#old", "?old", "/../q1"]


class _Pages(Connection):
    """Answers with these pages, by their URLs."""

    def __init__(self, pages: Mapping[str, Any]) -> None:
        super().__init__(TokenFile(Path("never read")))
        self._pages = pages

    def send(self, request: httpx.Request, resource: str) -> Any:
        return self._pages[str(request.url)]


@pytest.mark.parametrize(
    ("segments", "path"),
    [
        (("secrets", "q1#old"), "/secrets/q1%23old"),
        (("secrets", "q1?x=1&y"), "/secrets/q1%3Fx%3D1%26y"),
        (("secrets", "a/b", ""), "/secrets/a%2Fb/"),
        (("secrets", "..", "certificates"), "/secrets/%2E%2E/certificates"),
        (("secrets", ".", "..."), "/secrets/%2E/..."),
        (("applications", "100 %"), "/applications/100%20%25"),
        (("applications", "\udcff"), "/applications/%FF"),
    ],
)
def test_a_name_is_one_segment_whatever_is_in_it(segments: tuple[str, ...], path: str) -> None:
    assert path == at(*segments)
    assert path == within(at(segments[0]), *segments[1:])
    assert path == httpx.URL(f"https://demo.example{path}").raw_path.decode()


@pytest.mark.parametrize("tail", _TAILS)
def test_a_name_that_no_object_can_have_is_refused_and_nothing_else_is_touched(
    certbroker: CommandLine, tail: str
) -> None:
    certbroker.ok("secret", "set", "q1", "kept")
    before = certbroker.json("secret", "versions", "q1")
    done = [
        certbroker(*command)
        for command in (
            ("secret", "delete", f"q1{tail}"),
            ("secret", "get", f"q1{tail}"),
            ("secret", "update", f"q1{tail}", "--disabled"),
            ("secret", "set", f"q1{tail}", "changed"),
            ("secret", "purge", f"q1{tail}", "--yes"),
            ("certificate", "delete", f"../secrets/q1{tail}"),
        )
    ]

    assert {1} == {each.status for each in done}, [each.err for each in done]
    assert all("is not allowed" in each.err for each in done), [each.err for each in done]
    assert "kept" == certbroker.ok("secret", "get", "q1").out.strip()
    assert before == certbroker.json("secret", "versions", "q1")


@pytest.mark.parametrize("tail", [*_TAILS, "/secrets", " \N{LATIN SMALL LETTER E WITH ACUTE};"])
def test_an_application_is_managed_by_whatever_name_it_has(certbroker: CommandLine, tail: str) -> None:
    plain = certbroker.json("identity", "create", "ci")
    named = certbroker.json("identity", "create", f"ci{tail}")
    try:
        certbroker.ok("identity", "add-secret", f"ci{tail}")
        secret = certbroker.json("identity", "secrets", f"ci{tail}")[0]["id"]
        certbroker.ok("identity", "disable", f"ci{tail}")
        enabled = {item["id"]: item["enabled"] for item in certbroker.json("identity", "list")}
        certbroker.ok("identity", "remove-secret", f"ci{tail}", secret)
        left = certbroker.json("identity", "secrets", f"ci{tail}")
        certbroker.ok("identity", "delete", f"ci{tail}", "--yes")
        again = certbroker("identity", "delete", f"ci{tail}", "--yes")
        known = [item["id"] for item in certbroker.json("identity", "list")]
    finally:
        certbroker.ok("identity", "delete", plain["id"], "--yes")

    assert [] == left
    assert (True, False) == (enabled[plain["id"]], enabled[named["id"]])
    assert 5 == again.status
    assert (True, False) == (plain["id"] in known, named["id"] in known)


def test_an_application_can_be_called_as_what_leads_upwards(certbroker: CommandLine) -> None:
    certbroker.ok("identity", "create", "..")
    certbroker.ok("identity", "delete", "..", "--yes")

    assert ".." not in [item["name"] for item in certbroker.json("identity", "list")]


def test_a_vault_has_a_name_and_no_address(certbroker: CommandLine) -> None:
    done = certbroker("secret", "list", "--vault", "elsewhere.example/")

    assert 2 == done.status
    assert "is not the name of a vault" in done.err


@pytest.mark.parametrize(
    ("typed", "following"),
    [
        ("https://DEMO.vault.example", "https://demo.vault.example/secrets?page=2"),
        ("https://demo.vault.example", "https://demo.vault.example:443/secrets?page=2"),
        ("https://Demo.Vault.Example:443", "https://demo.vault.example/secrets?page=2"),
        ("https://demo.vault.example:8443", "https://demo.vault.example:8443/secrets?page=2"),
    ],
)
def test_the_next_page_is_on_the_same_host_however_that_is_written(typed: str, following: str) -> None:
    first = str(httpx.URL(f"{typed}/secrets"))
    pages = {first: {"value": [1], "nextLink": following}, str(httpx.URL(following)): {"value": [2]}}

    assert [1, 2] == list(Client(_Pages(pages), typed, "", {}).items(at("secrets")))


@pytest.mark.parametrize(
    "following",
    [
        "https://demo.vault.example.evil.example/secrets",
        "https://demo.vault.example@evil.example/secrets",
        "https://demo.vault.example:8443/secrets",
        "http://demo.vault.example/secrets",
        "https://[/secrets",
        "/secrets",
        "\x00",
    ],
)
def test_a_token_does_not_go_to_another_host(following: str) -> None:
    pages = {"https://demo.vault.example/secrets": {"value": [1], "nextLink": following}}

    with pytest.raises(CommandFailed, match="on another host"):
        list(Client(_Pages(pages), "https://demo.vault.example", "", {}).items(at("secrets")))
