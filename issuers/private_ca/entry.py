"""The entry of a certificate in its CA's ledger."""

from __future__ import annotations

import hashlib

from certbroker.domain.authority import Issued, serial_text
from certbroker.ports.authority import Signer
from issuers.private_ca.prepare import Prepared


def entry_of(signer: Signer, certificate: bytes, prepared: Prepared, profile: str) -> Issued:
    """What the ledger is to have about a certificate in DER, but for where it is kept."""
    sha256 = hashlib.sha256(certificate).hexdigest()
    not_after = int(prepared.not_after.timestamp())
    return Issued(
        signer.authority.id, serial_text(prepared.serial), sha256, 0, "", "", profile, not_after, prepared.shard
    )
