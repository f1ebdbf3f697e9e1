"""`certbroker ca`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import Authority, Identity
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")


def test_a_ca_from_its_root_to_a_revoked_certificate(certbroker: CommandLine, tmp_path: Path) -> None:
    ca, root, chain = ("ca",), tmp_path / "root.pem", tmp_path / "chain.pem"
    key, csr = tmp_path / "key.pem", tmp_path / "request.pem"
    certbroker.ok(*ca, "create", "root", "--subject", "CN=Root,O=Example", "--days", "7300")
    made = certbroker.ok(*ca, "create", "issuing", "--subject", "CN=Issuing", "--parent", "root", "--permit",
                         "dns:corp.example", "--key", "P-384")  # fmt: skip
    certbroker.ok(*ca, "download", "root", "-f", root)
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
         "-out", csr, "-subj", "/CN=ignored", "-addext", "subjectAltName=DNS:www.corp.example"],
        check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    signed = certbroker.json(*ca, "sign", "issuing", "--csr", csr, "-f", chain, "--chain", "--days", "30")
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", root, "-untrusted", chain, chain], capture_output=True, timeout=20, check=False
    )

    assert "CA issuing is there: CN=Issuing" in made.err
    assert 0 == verified.returncode, verified.stderr
    assert 3 == len(x509.load_pem_x509_certificates(chain.read_bytes()))
    shown = certbroker.ok(*ca, "show", "issuing")
    assert "dns:corp.example" in shown.out
    assert "/crl/" in shown.out
    assert signed["serial"] in certbroker.ok(*ca, "issued", "issuing").out
    certbroker.ok(*ca, "revoke", "issuing", signed["serial"], "--reason", "superseded", "--yes")
    assert "revoked" in certbroker.ok(*ca, "issued", "issuing").out
    assert 2 == certbroker(*ca, "revoke", "issuing", signed["serial"], "--reason", "superseded").status


def test_cas_are_renewed_cross_signed_retired_and_forgotten(certbroker: CommandLine) -> None:
    certbroker.ok("ca", "create", "old", "--subject", "CN=Old", "--shards", "2", "--lend-to", "other")
    certbroker.ok("ca", "renew", "old", "--new-key", "--key", "P-384")
    certbroker.ok("ca", "cross-sign", "old", "--by", "old")
    every = certbroker.ok("ca", "list", "--all").out

    assert {"active", "retired", "cross"} <= set(every.split())
    assert "cross" not in certbroker.ok("ca", "list").out
    certbroker.ok("ca", "set", "old", "--lend-to", "", "--crl-hours", "24")
    assert "lent_to" not in certbroker.json("ca", "show", "old")
    certbroker.ok("ca", "retire", "old", "--yes")
    assert "CN=Old" not in certbroker.ok("ca", "list").out
    certbroker.ok("ca", "delete", "old", "--force", "--yes")
    assert 5 == certbroker("ca", "show", "old").status


def test_a_ca_is_taken_over_from_a_file(certbroker: CommandLine, tmp_path: Path) -> None:
    outside, file = Authority("Taken over"), tmp_path / "ca.pem"
    file.write_text(Identity(outside.key, outside.certificate).pem())
    certbroker.ok("ca", "import", "taken", "-f", file)

    assert "CN=Taken over" == certbroker.json("ca", "show", "taken")["subject"]
    assert not certbroker.json("certificate", "policy", "show", "taken")["key_props"]["exportable"]


def test_what_is_refused_says_what_to_do(certbroker: CommandLine, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"nothing")
    certbroker.ok("ca", "create", "refusing", "--subject", "CN=x")
    refused = certbroker("ca", "sign", "refusing", "--csr", nothing, "-f", tmp_path / "out")

    assert 1 == refused.status
    assert "no PKCS#10" in refused.err
    assert not (tmp_path / "out").exists()
    assert "'nobody'" in certbroker("ca", "create", "x", "--subject", "CN=x", "--parent", "nobody").err
