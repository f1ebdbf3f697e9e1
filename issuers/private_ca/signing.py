"""Signing: the one place where a CA's key makes a certificate."""

from __future__ import annotations

from certbroker.domain.signing import signed
from issuers.private_ca.lint import Linted


def sign(linted: Linted) -> bytes:
    """The certificate in DER: the bytes that were looked at, and the CA's signature over them.

    Blocks where the key is in an HSM. Two calls with the same argument make the same certificate twice, not two.
    """
    return signed(linted.tbs, linted.prepared.key)
