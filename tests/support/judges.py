"""Who else looks at a certificate: pkilint, openssl, and the verifier of `cryptography`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store


def lint(certificate: x509.Certificate) -> list[str]:
    """What pkilint finds wrong by RFC 5280: violations of what it says must be or should be."""
    from pkilint import loader
    from pkilint.validation import ValidationFindingSeverity

    document = loader.RFC5280CertificateDocumentLoader().load_der_document(
        certificate.public_bytes(Encoding.DER), "certificate"
    )
    return [
        f"{found.finding.severity.name} {found.finding.code} at {result.node.path}: {found.message}"
        for result in _linter().validate(document.root)
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.WARNING
    ]


@cache
def _linter() -> Any:
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def openssl_verify(
    directory: Path, root: x509.Certificate, chain: Sequence[x509.Certificate], *options: str, strict: bool = True
) -> tuple[bool, str]:
    """What `openssl verify` says of a chain, the end entity's certificate first, under one trusted root."""
    trusted, between, leaf = directory / "root.pem", directory / "chain.pem", directory / "leaf.pem"
    trusted.write_bytes(root.public_bytes(Encoding.PEM))
    leaf.write_bytes(chain[0].public_bytes(Encoding.PEM))
    between.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain[1:]))
    command = ["openssl", "verify", "-no-CApath", "-CAfile", str(trusted), *options]
    if strict:
        command.append("-x509_strict")
    if len(chain) > 1:
        command += ["-untrusted", str(between)]
    done = subprocess.run([*command, str(leaf)], capture_output=True, text=True, check=False, timeout=20)
    return done.returncode == 0, done.stdout + done.stderr


def verify_server(root: x509.Certificate, chain: Sequence[x509.Certificate], name: str, now: datetime) -> None:
    """Have `cryptography` verify a chain for a TLS server. Raises VerificationError."""
    verifier = PolicyBuilder().store(Store([root])).time(now).build_server_verifier(x509.DNSName(name))
    verifier.verify(chain[0], list(chain[1:]))


def verify_client(root: x509.Certificate, chain: Sequence[x509.Certificate], now: datetime) -> None:
    """The same for a TLS client."""
    PolicyBuilder().store(Store([root])).time(now).build_client_verifier().verify(chain[0], list(chain[1:]))
