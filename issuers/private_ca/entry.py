"""The entry of a certificate in its CA's ledger."""

from __future__ import annotations

import hashlib
from datetime import datetime

from certbroker.domain.authority import Issued, serial_text, signs_quickly
from certbroker.ports.authority import Signer
from issuers.private_ca.ocsp import Standing, replies
from issuers.private_ca.prepare import Prepared


def entry_of(signer: Signer, certificate: bytes, prepared: Prepared, profile: str, now: datetime) -> Issued:
    """What the ledger is to have about a certificate in DER, but for where it is kept.

    Where the CA's key is quick, and something is published, that has OCSP replies: then nobody can have the
    certificate before there is an answer about it.
    """
    publishes = signer.url is not None and signs_quickly(signer.authority)
    return Issued(
        signer.authority.id,
        serial_text(prepared.serial),
        hashlib.sha256(certificate).hexdigest(),
        0,
        "",
        "",
        profile,
        int(prepared.not_after.timestamp()),
        prepared.shard,
        replies=replies(signer, Standing(prepared.serial), now) if publishes else None,
    )
