"""`certbroker certificate`, `issuer`, `contacts` and `operation`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from certbroker.cli.demo.outside_ca import OutsideCA
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.xdist_group("cli")


def test_a_self_signed_certificate_is_waited_for_and_shown(certbroker: CommandLine) -> None:
    made = certbroker.ok("certificate", "create", "web", "--issuer", "Self", "--dns", "www.example.com", "--curve",
                         "P-256", "--ip", "192.0.2.7", "--validity", "3", "--pem", "--wait")  # fmt: skip
    shown = certbroker.ok("certificate", "show", "web").out
    view = certbroker.json("certificate", "show", "web")

    assert "certificate web is there" in made.err
    for expected in ("CN=www.example.com", "192.0.2.7", "EC secp256r1", "SHA-256", "in 9"):
        assert expected in shown
    leaf = x509.load_der_x509_certificate(base64.b64decode(view["cer"]))
    assert "CN=www.example.com" == leaf.subject.rfc4514_string()
    assert "application/x-pem-file" == view["contentType"]
    assert "web" in certbroker.ok("certificate", "list").out
    assert 1 == len(certbroker.json("certificate", "versions", "web"))


def test_the_next_version_follows_the_policy(certbroker: CommandLine, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    certbroker.ok("certificate", "create", "next", "--issuer", "Self", "--dns", "a.example", "--curve", "P-256", "-w")

    certbroker.ok("certificate", "policy", "set", "next", "--dns", "b.example", "--renew-before", "20", "--reuse-key")
    shown = certbroker.ok("certificate", "policy", "show", "next").out
    policy.write_text(json.dumps(certbroker.json("certificate", "policy", "show", "next")))
    certbroker.ok("certificate", "create", "next", "--wait")
    certbroker.ok("certificate", "create", "copy", "--policy", policy, "--subject", "CN=copy", "--wait")

    assert "b.example" in shown
    assert "AutoRenew 20 days before it expires" in shown
    assert "b.example" in certbroker.ok("certificate", "show", "next").out
    assert "CN=copy" in certbroker.ok("certificate", "show", "copy").out
    assert 2 == len(certbroker.json("certificate", "versions", "next"))
    assert 2 == certbroker("certificate", "policy", "set", "next").status


def test_a_request_is_carried_out_and_the_answer_merged(certbroker: CommandLine, tmp_path: Path) -> None:
    request, answer = tmp_path / "request.pem", tmp_path / "answer.pem"
    created = certbroker.ok("certificate", "create", "carried", "--issuer", "Unknown", "--dns", "c.example",
                            "--csr-file", request, "--wait")  # fmt: skip
    assert "waits for you" in created.err
    assert "carried" in certbroker.ok("operation", "list").out
    assert "merge" in certbroker.ok("operation", "show", "carried").out.lower()

    csr = x509.load_pem_x509_csr(request.read_bytes())
    chain = OutsideCA().sign(csr.public_bytes(serialization.Encoding.DER))
    pem = (x509.load_der_x509_certificate(each).public_bytes(serialization.Encoding.PEM) for each in chain)
    answer.write_bytes(b"".join(pem))
    wrong = certbroker("certificate", "merge", "carried", "--file", _other_answer(tmp_path))
    cut_off = tmp_path / "cut-off.pem"
    cut_off.write_bytes(answer.read_bytes()[:-40])
    partial = certbroker("certificate", "merge", "carried", "--file", cut_off)
    certbroker.ok("certificate", "merge", "carried", "--file", answer)

    assert 1 == wrong.status
    assert "does not match the pending request" in wrong.err
    assert 2 == partial.status
    assert "was cut off" in partial.err
    assert "Example Corp Issuing CA" in certbroker.ok("certificate", "show", "carried").out
    assert "carried" not in certbroker.ok("operation", "list").out
    assert "carried" in certbroker.ok("operation", "list", "--all").out


def test_an_operation_is_cancelled_and_forgotten(certbroker: CommandLine) -> None:
    certbroker.ok("certificate", "create", "unwanted", "--issuer", "Unknown", "--subject", "CN=x", "--curve", "P-256")

    assert certbroker.json("certificate", "cancel", "unwanted")["cancellation_requested"]
    certbroker.ok("certificate", "cancel", "unwanted", "--delete")

    assert 5 == certbroker("certificate", "pending", "unwanted").status


def test_a_failed_operation_ends_with_its_reason(certbroker: CommandLine) -> None:
    certbroker.ok("issuer", "set", "nobody", "--provider", "Unheard", "--option", "a=b")

    failed = certbroker("certificate", "create", "failing", "--issuer", "nobody", "--dns", "f.example", "--wait")

    assert 1 == failed.status
    assert "Unheard" in failed.err.splitlines()[-1]
    assert "failed" in certbroker.ok("operation", "list").out


@pytest.mark.parametrize("form", ["pfx", "pem"])
def test_what_exists_is_imported_and_downloaded(certbroker: CommandLine, tmp_path: Path, form: str) -> None:
    file, password = tmp_path / "existing", tmp_path / "password"
    file.write_bytes(OutsideCA().pfx("i.example", "sesame") if form == "pfx" else OutsideCA().pem("i.example"))
    password.write_text("sesame\n")
    name = f"imported-{form}"
    certbroker.ok("certificate", "import", name, "--file", file, *(["--password-file", password] * (form == "pfx")))

    for option in ("", "--der", "--chain", "--key"):
        certbroker.ok("certificate", "download", name, "--file", tmp_path / f"out{option}", *filter(None, [option]))
    pfx = certbroker("certificate", "download", name, "--file", tmp_path / "out--pfx", "--pfx")

    leaf = x509.load_pem_x509_certificate((tmp_path / "out").read_bytes())
    assert leaf == x509.load_der_x509_certificate((tmp_path / "out--der").read_bytes())
    chain = x509.load_pem_x509_certificates((tmp_path / "out--chain").read_bytes())
    assert ["CN=i.example", "CN=Example Corp Issuing CA"] == [each.subject.rfc4514_string() for each in chain]
    assert b"PRIVATE" not in (tmp_path / "out--chain").read_bytes()
    key = serialization.load_pem_private_key((tmp_path / "out--key").read_bytes(), None)
    assert leaf.public_key() == key.public_key()
    assert 0o600 == (tmp_path / "out--key").stat().st_mode & 0o777
    if form == "pfx":
        bundle = pkcs12.load_pkcs12((tmp_path / "out--pfx").read_bytes(), None)
        assert bundle.cert is not None
        assert leaf == bundle.cert.certificate
    else:
        assert 2 == pfx.status


def test_certificates_are_deleted_recovered_and_restored(certbroker: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    certbroker.ok("certificate", "create", "kept", "--issuer", "Self", "--dns", "k.example", "--curve", "P-256", "-w")
    certbroker.ok("certificate", "backup", "kept", "--file", file)

    certbroker.ok("certificate", "delete", "kept")
    certbroker.ok("certificate", "recover", "kept")
    certbroker.ok("certificate", "delete", "kept")
    certbroker.ok("certificate", "purge", "kept", "--yes")
    certbroker.ok("certificate", "restore", "--file", file)

    assert "k.example" in certbroker.ok("certificate", "show", "kept").out


def test_an_acme_issuer_is_composed_from_options(certbroker: CommandLine, tmp_path: Path) -> None:
    key = tmp_path / "eab"
    key.write_text("c2VjcmV0LW1hYy1rZXk\n")

    issuer = certbroker.json("issuer", "set", "le", "--directory", "letsencrypt", "--challenge", "dns-01", "--dns",
                             "main", "--contact", "pki@example.com", "--eab-key-id", "kid-1", "--eab-key-file", key,
                             "--preferred-chain", "ISRG Root X1", "--profile", "shortlived")  # fmt: skip

    wanted = "directory=letsencrypt;challenge=dns-01;dns=main;preferred_chain=ISRG%20Root%20X1;profile=shortlived"
    assert wanted == issuer["org_details"]["id"]
    assert [{"email": "pki@example.com"}] == issuer["org_details"]["admin_details"]
    assert {"account_id": "kid-1"} == issuer["credentials"]
    assert "c2VjcmV0" not in certbroker.ok("issuer", "show", "le").out
    assert "le" in certbroker.ok("issuer", "list").out
    wrong = certbroker("issuer", "set", "le", "--directory", "letsencrypt", "--challenge", "dns-01")
    assert 1 == wrong.status
    assert "challenge=dns-01 needs dns=" in wrong.err
    assert 2 == certbroker("issuer", "set", "le", "--directory", "x", "--option", "directory=y").status
    certbroker.ok("issuer", "delete", "le")
    assert 5 == certbroker("issuer", "show", "le").status


def test_the_limits_of_a_ca_are_shown(certbroker: CommandLine) -> None:
    certbroker.ok("issuer", "set", "le", "--directory", "letsencrypt", "--option", "limits=orders=3000/3h,domain=none")
    certbroker.ok("issuer", "set", "unheard", "--provider", "Unheard")

    shown = certbroker.ok("issuer", "limits", "le", "--name", "www.example.co.uk", "--name", "*.example.co.uk").out
    states = {state["counts"]: state for state in certbroker.json("issuer", "limits", "le", "--name", "a.example.com")}
    assert "certificates for example.co.uk" in shown
    assert "5 in 7 days" in shown
    assert "failed validations of example.co.uk in a row" in shown
    assert states["certificates for example.com"]["limit"] is None
    exact = states["certificates for this exact set of names"]
    assert ({"count": 5, "seconds": 604800}, 5, "names") == (exact["limit"], exact["left"], exact["scope"])
    assert "has '-', which is no host name" in certbroker("issuer", "limits", "le", "--name", "-").err
    assert 5 == certbroker("issuer", "limits", "missing").status


def test_contacts_are_set_shown_and_deleted(certbroker: CommandLine) -> None:
    certbroker.ok("contacts", "set", "a@example.com", "b@example.com")

    assert "b@example.com" in certbroker.ok("contacts", "show").out
    certbroker.ok("contacts", "delete")
    assert 5 == certbroker("contacts", "show").status


def _other_answer(directory: Path) -> Path:
    path = directory / "other.pem"
    path.write_bytes(OutsideCA().pem("other.example").partition(b"-----END PRIVATE KEY-----\n")[2])
    return path
