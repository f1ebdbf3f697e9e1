"""Reads one CRL, as a process with limited time and memory. `services/revocation/lists.py` starts it and says why."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtensionOID

from certbroker.domain.crl import CRLFacts, Scope, reason_code
from certbroker.store.crl_index import WIDEST, record, write

_MEMORY_BYTES: Final = 1 << 30
_MOST_NAMES: Final = 8
_KEYS = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

# Of the list, those that are understood here; another that is critical makes it unusable (RFC 5280 section 5.2).
_KNOWN: Final = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.ISSUER_ALTERNATIVE_NAME,
    ExtensionOID.CRL_NUMBER,
    ExtensionOID.DELTA_CRL_INDICATOR,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    ExtensionOID.FRESHEST_CRL,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
}


class Request(msgspec.Struct):
    """What the process reads: a file with a CRL, who must have signed it (DER), and where to put the index.

    `named` says that the operator has named the CRL himself.
    """

    source: str
    issuer: bytes
    directory: str
    seconds: int
    named: bool = False


class Reply(msgspec.Struct):
    """What it writes: what the list says of itself and the name of its index, or why not."""

    facts: CRLFacts | None = None
    file: str = ""
    error: str = ""


class Refused(Exception):
    """The list cannot be used; the text says why."""


def main() -> None:
    """Read one request from standard input, and write the reply to standard output."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reply = read(Path(request.source).read_bytes(), request.issuer, Path(request.directory), named=request.named)
    except Refused as refusal:
        reply = Reply(error=str(refusal))
    sys.stdout.buffer.write(msgspec.msgpack.encode(reply))


def read(data: bytes, issuer: bytes, directory: Path, *, named: bool = False) -> Reply:
    """Check the list, write its index, and say what it says of itself. Raises Refused."""
    signer = x509.load_der_x509_certificate(issuer)
    try:
        crl = (x509.load_pem_x509_crl if data.startswith(b"-----BEGIN") else x509.load_der_x509_crl)(data)
        if not named:
            _check_usage(signer)
        _check_signature(crl, signer)
        facts = _facts(crl)
        records, width = _records(crl)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Refused(f"The answer is not a CRL: {str(error)[:200] or type(error).__name__}.") from None
    return Reply(facts, write(directory, records, width))


def _check_usage(signer: x509.Certificate) -> None:
    """RFC 5280 section 6.3.3 (f). Who names a CRL himself has said that the key may sign it."""
    try:
        usage = signer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.crl_sign:
        raise Refused("The issuer's certificate does not allow it to sign CRLs.")


def _check_signature(crl: x509.CertificateRevocationList, signer: x509.Certificate) -> None:
    if crl.issuer != signer.subject:
        raise Refused(f"The CRL is that of another issuer: {crl.issuer.rfc4514_string()[:200]}.")
    try:
        algorithm, key = crl.signature_hash_algorithm, signer.public_key()
        if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
            raise Refused(f"The CRL is signed with {algorithm.name}, which can be forged.")
        valid = isinstance(key, _KEYS) and crl.is_signature_valid(key)
    except UnsupportedAlgorithm:
        raise Refused("The CRL is signed with an algorithm that is not supported.") from None
    if not valid:
        raise Refused("The CRL is not signed by its issuer: the signature is wrong.")


def _facts(crl: x509.CertificateRevocationList) -> CRLFacts:
    number: int | None = None
    base: int | None = None
    scope = Scope()
    fresher: tuple[str, ...] = ()
    for extension in crl.extensions:
        if extension.critical and extension.oid not in _KNOWN:
            raise Refused(f"The CRL has a critical extension that is not known: {extension.oid.dotted_string}.")
        value = extension.value
        if isinstance(value, x509.CRLNumber):
            number = value.crl_number
        elif isinstance(value, x509.DeltaCRLIndicator):
            base = value.crl_number
        elif isinstance(value, x509.IssuingDistributionPoint):
            scope = _scope(value)
        elif isinstance(value, x509.FreshestCRL):
            fresher = tuple(url for point in value for url in urls(point.full_name))[:_MOST_NAMES]
    return CRLFacts(crl.last_update_utc, crl.next_update_utc, number, len(crl), base, scope, fresher)


def _scope(point: x509.IssuingDistributionPoint) -> Scope:
    if point.relative_name is not None:
        raise Refused("The CRL names its distribution point relative to its issuer, which is not supported.")
    return Scope(
        tuple(urls(point.full_name)),
        point.only_contains_user_certs,
        point.only_contains_ca_certs,
        point.only_contains_attribute_certs,
        point.only_some_reasons is not None,
        point.indirect_crl,
    )


def urls(names: list[x509.GeneralName] | None) -> list[str]:
    """The URLs among names."""
    return [name.value for name in names or () if isinstance(name, x509.UniformResourceIdentifier)]


def _records(crl: x509.CertificateRevocationList) -> tuple[list[bytes], int]:
    """The records of the index, sorted, and the width of their serial numbers."""
    found: list[tuple[int, int, int]] = []
    widest = 1
    for entry in crl:
        serial, reason = entry.serial_number, 0
        if not 0 < serial.bit_length() <= 8 * WIDEST or serial < 0:
            raise Refused("The CRL has an entry with an impossible serial number.")
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = reason_code(extension.value.reason.value)
            elif extension.critical:
                raise Refused(
                    f"An entry of the CRL has a critical extension that is not known: {extension.oid.dotted_string}."
                )
        found.append((serial, int(entry.revocation_date_utc.timestamp()), reason))
        widest = max(widest, serial.bit_length())
    width = (widest + 7) // 8
    records = [record(serial, at, reason, width) for serial, at, reason in found]
    records.sort()
    return records, width


if __name__ == "__main__":
    main()
