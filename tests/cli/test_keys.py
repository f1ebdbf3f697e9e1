"""`certbroker key`: made, imported and used from a shell, with openssl as the other side."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")


def openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=True)
    return done.stdout


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("options", [(), ("--curve", "P-384"), ("--rsa", "2048")])
def test_what_is_signed_is_verified_by_openssl(certbroker: CommandLine, tmp_path: Path, options: tuple[str]) -> None:
    name, file, public = f"signs{'-'.join(options[1:])}", tmp_path / "data", tmp_path / "public.pem"
    file.write_bytes(b"something to sign")
    made = certbroker.ok("key", "create", name, *options)
    signature = certbroker.ok("key", "sign", name, "--file", file).out.strip()
    certbroker.ok("key", "download", name, "--file", public)
    raw = decoded(signature)
    if "--rsa" not in options:
        half = len(raw) // 2
        raw = encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
    (tmp_path / "signature").write_bytes(raw)
    padding = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest") if "--rsa" in options else ()
    digest = "-sha384" if "P-384" in options else "-sha256"

    assert f"key {name} has version" in made.out + made.err
    openssl("dgst", digest, "-verify", public, "-signature", tmp_path / "signature", *padding, file)
    assert certbroker.ok("key", "verify", name, signature, "--file", file)
    file.write_bytes(b"something else")
    assert 1 == certbroker("key", "verify", name, signature, "--file", file).status


@pytest.mark.parametrize("password", [None, "two words"])
def test_an_imported_key_opens_what_openssl_has_encrypted(
    certbroker: CommandLine, tmp_path: Path, password: str | None
) -> None:
    key, secret, out = tmp_path / "key.pem", tmp_path / "password", tmp_path / "out"
    secret.write_text(f"{password}\n")
    locked = ("-aes256", "-pass", f"pass:{password}") if password else ()
    key.write_bytes(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", *locked))
    name = "imported-locked" if password else "imported"
    given = ("--password-file", secret) if password else ()
    certbroker.ok("key", "import", name, "--file", key, *given, "--use", "decrypt", "--use", "encrypt")
    certbroker.ok("key", "download", name, "--file", tmp_path / "public.pem")
    options = ("-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256")
    closed = openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", tmp_path / "public.pem", *options, stdin=b"a secret")
    text = base64.urlsafe_b64encode(closed).rstrip(b"=").decode()
    certbroker.ok("key", "decrypt", name, text, "--output-file", out)

    assert b"a secret" == out.read_bytes()
    assert 0o600 == out.stat().st_mode & 0o777
    out.write_bytes(b"another")
    again = certbroker.ok("key", "encrypt", name, "--file", out).out.strip()
    certbroker.ok("key", "decrypt", name, again, "--output-file", tmp_path / "again")
    assert b"another" == (tmp_path / "again").read_bytes()
    refused = certbroker("key", "sign", name, "--file", out)
    assert 4 == refused.status or 1 == refused.status
    assert "key_ops are decrypt, encrypt" in refused.err


def test_keys_are_shown_changed_deleted_and_restored(certbroker: CommandLine, tmp_path: Path) -> None:
    certbroker.ok("key", "create", "plain", "--use", "verify", "--tag", "team=a", "--expires-in", "30")
    shown = certbroker.ok("key", "show", "plain").out
    certbroker.ok("key", "update", "plain", "--use", "sign", "--disabled")
    listed = certbroker.json("key", "list")
    certbroker.ok("key", "backup", "plain", "--file", tmp_path / "backup")
    certbroker.ok("key", "delete", "plain")
    assert "plain" in certbroker.ok("key", "list-deleted").out
    certbroker.ok("key", "recover", "plain")
    certbroker.ok("key", "delete", "plain")
    certbroker.ok("key", "purge", "plain", "--yes")
    certbroker.ok("key", "restore", "--file", tmp_path / "backup")

    for text in ("P-256", "verify", "team=a", "in 29 days"):
        assert text in shown, shown
    assert [False] == [each["attributes"]["enabled"] for each in listed if each["kid"].endswith("/plain")]
    assert ["sign"] == certbroker.json("key", "show", "plain")["key"]["key_ops"]
    assert 1 == len(certbroker.json("key", "versions", "plain"))


def test_a_key_is_rotated_and_has_a_policy(certbroker: CommandLine) -> None:
    certbroker.ok("key", "create", "rotating")
    certbroker.ok("key", "rotate", "rotating")
    options = ("--rotate-after", "P60D", "--notify-before", "P30D", "--expires-after", "P1Y")
    certbroker.ok("key", "rotation-policy", "set", "rotating", *options)
    shown = certbroker.ok("key", "rotation-policy", "show", "rotating").out

    assert 2 == len(certbroker.json("key", "versions", "rotating"))
    for text in ("P60D after it was made", "P30D before it expires", "P1Y"):
        assert text in shown, shown
    refused = certbroker("key", "rotation-policy", "set", "rotating", "--rotate-before", "P30D")
    assert (1, True) == (refused.status, "needs attributes.expiryTime" in refused.err)


def test_what_is_wrong_is_said(certbroker: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("no key")

    assert "not both" in certbroker("key", "create", "bad", "--rsa", "2048", "--curve", "P-256").err
    assert "key_size 1000 is not supported" in certbroker("key", "create", "bad", "--rsa", "1000").err
    assert "No private key can be read" in certbroker("key", "import", "bad", "--file", file).err
    file.write_bytes(openssl("genpkey", "-algorithm", "ED25519"))
    assert "of a kind" in certbroker("key", "import", "bad", "--file", file).err
    certbroker.ok("key", "create", "good")
    assert "no algorithm that signs" in certbroker("key", "sign", "good", "--file", file, "--algorithm", "X").err
    assert 5 == certbroker("key", "show", "absent").status
