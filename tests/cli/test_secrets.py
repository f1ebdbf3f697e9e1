"""`certbroker secret`, and what all groups have in common, shown by the simplest of them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")


def test_a_value_is_set_without_being_shown_and_printed_when_asked_for(certbroker: CommandLine) -> None:
    stored = certbroker.ok("secret", "set", "simple", "hunter2", "--tag", "team=a b", "--content-type", "text/plain")
    bundle = certbroker.json("secret", "set", "simple-json", "hunter2")

    assert "hunter2" not in stored.out + stored.err
    assert "value" not in bundle
    assert "hunter2\n" == certbroker.ok("secret", "get", "simple").out
    assert {"team": "a b"} == certbroker.json("secret", "get", "simple")["tags"]
    assert "hunter2" == certbroker.json("secret", "get", "simple")["value"]


def test_a_value_comes_from_standard_input_or_a_file(certbroker: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("from a file\n")

    certbroker.ok("secret", "set", "piped", stdin=b"from a pipe\n")
    certbroker.ok("secret", "set", "filed", "--file", file)

    assert "from a pipe" == certbroker.json("secret", "get", "piped")["value"]
    assert "from a file\n" == certbroker.json("secret", "get", "filed")["value"]


def test_a_value_is_written_to_a_file_that_only_its_owner_reads(certbroker: CommandLine, tmp_path: Path) -> None:
    binary, file = bytes(range(256)), tmp_path / "out"
    file.write_text("open to all")
    file.chmod(0o644)

    certbroker.ok("secret", "set", "binary", "--base64", stdin=binary)
    got = certbroker.ok("secret", "get", "binary", "--base64", "--output-file", file)

    assert "" == got.out
    assert binary == file.read_bytes()
    assert 0o600 == file.stat().st_mode & 0o777
    assert base64.b64encode(binary).decode() == certbroker.ok("secret", "get", "binary").out.strip()
    assert 2 == certbroker("secret", "set", "binary", stdin=b"\xff").status


def test_versions_stay_readable(certbroker: CommandLine) -> None:
    first = certbroker.json("secret", "set", "versioned", "one")["id"].rpartition("/")[2]
    certbroker.ok("secret", "set", "versioned", "two")

    assert 2 == len(certbroker.json("secret", "versions", "versioned"))
    assert "one" == certbroker.ok("secret", "get", "versioned", "--version", first).out.strip()
    assert "two" == certbroker.ok("secret", "get", "versioned").out.strip()


def test_an_update_leaves_the_value(certbroker: CommandLine) -> None:
    certbroker.ok("secret", "set", "updated", "kept")

    changed = certbroker.json("secret", "update", "updated", "--tag", "a=1", "--expires-in", "10", "--disabled")

    assert {"a": "1"} == changed["tags"]
    assert changed["attributes"]["enabled"] is False
    refused = certbroker("secret", "get", "updated")
    assert 1 == refused.status
    assert refused.err.startswith("certbroker: SecretDisabled: ")
    certbroker.ok("secret", "update", "updated", "--enabled")
    assert "kept" == certbroker.ok("secret", "get", "updated").out.strip()


def test_a_secret_that_expires_after_all_calendars_is_listed_like_any_other(certbroker: CommandLine) -> None:
    certbroker.ok("secret", "set", "eternal", "kept", "--expires-in", "100000000000")

    assert "after the year 9999, in 99999999999 days" in certbroker.ok("secret", "list").out
    assert "after the year 9999" in certbroker.ok("secret", "versions", "eternal").out
    refused = certbroker("secret", "update", "eternal", "--expires-in", "1000000000000")
    assert 1 == refused.status
    assert "attributes.exp must be between" in refused.err


def test_deleted_secrets_are_recovered_and_purged(certbroker: CommandLine) -> None:
    certbroker.ok("secret", "set", "gone", "soon")

    deleted = certbroker.json("secret", "delete", "gone")

    assert deleted["recoveryId"].endswith("/deletedsecrets/gone")
    assert "gone" in certbroker.ok("secret", "list-deleted").out
    assert 5 == certbroker("secret", "get", "gone").status
    assert 1 == certbroker("secret", "set", "gone", "again").status
    certbroker.ok("secret", "recover", "gone")
    assert "soon" == certbroker.ok("secret", "get", "gone").out.strip()
    certbroker.ok("secret", "delete", "gone")
    unconfirmed = certbroker("secret", "purge", "gone")
    assert 2 == unconfirmed.status
    assert "--yes" in unconfirmed.err
    certbroker.ok("secret", "purge", "gone", "--yes")
    assert 5 == certbroker("secret", "recover", "gone").status


def test_a_backup_brings_all_versions_back(certbroker: CommandLine, tmp_path: Path) -> None:
    certbroker.ok("secret", "set", "saved", "one")
    certbroker.ok("secret", "set", "saved", "two")
    file = tmp_path / "saved.backup"

    certbroker.ok("secret", "backup", "saved", "--file", file)
    certbroker.ok("secret", "delete", "saved")
    certbroker.ok("secret", "purge", "saved", "--yes")
    certbroker.ok("secret", "restore", "--file", file)

    assert 0o600 == file.stat().st_mode & 0o777
    assert b"two" not in file.read_bytes()
    assert "two" == certbroker.ok("secret", "get", "saved").out.strip()
    assert 2 == len(certbroker.json("secret", "versions", "saved"))
