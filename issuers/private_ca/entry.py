"""The entry of a certificate in its CA's ledger."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certbroker.domain.authority import Issued, serial_text
from certbroker.ports.authority import Signer


def entry_of(signer: Signer, certificate: bytes, serial: int, shard: int, profile: str) -> Issued:
    """What the CA's ledger is to have about a certificate, but for where it is kept."""
    leaf = x509.load_der_x509_certificate(certificate)
    sha256 = leaf.fingerprint(hashes.SHA256()).hex()
    not_after = int(leaf.not_valid_after_utc.timestamp())
    return Issued(signer.authority.id, serial_text(serial), sha256, 0, "", "", profile, not_after, shard)
