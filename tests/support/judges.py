"""Who else looks at a certificate, a CRL and an OCSP reply: pkilint, openssl, and the verifier of `cryptography`."""

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

    document = loader.RFC5280CertificateDocumentLoader().load_der_document(
        certificate.public_bytes(Encoding.DER), "certificate"
    )
    return _findings(_linter(), document)


def _findings(linter: Any, document: Any) -> list[str]:
    from pkilint.validation import ValidationFindingSeverity

    return [
        f"{found.finding.severity.name} {found.finding.code} at {result.node.path}: {found.message}"
        for result in linter.validate(document.root)
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


def lint_crl(crl: bytes) -> list[str]:
    """What pkilint finds wrong with a CRL by RFC 5280, and by the rules for CAs of the web about the time it holds."""
    from pkilint import loader

    document = loader.RFC5280CertificateListDocumentLoader().load_der_document(crl, "CRL")
    return _findings(_crl_linter(), document)


def lint_ocsp(reply: bytes) -> list[str]:
    """What pkilint finds wrong with an OCSP reply by RFC 6960."""
    from pkilint import loader

    return _findings(_ocsp_linter(), loader.RFC6960OCSPResponseDocumentLoader().load_der_document(reply, "reply"))


@cache
def _crl_linter() -> Any:
    from pkilint import pkix
    from pkilint.cabf import cabf_crl
    from pkilint.pkix import crl, extension, name

    kind = crl.CertificateRevocationListType.CRL
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([cabf_crl.create_validity_period_validator(kind)]),
            crl.create_extensions_validator_container([]),
            cabf_crl.CabfCrlReasonCodeAllowlistValidator(kind),
        ],
    )


@cache
def _ocsp_linter() -> Any:
    from pkilint import pkix
    from pkilint.pkix import extension, name, ocsp

    return ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
