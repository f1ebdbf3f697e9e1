"""The PKCS#10 request (RFC 2986) as far as an order looks into it."""

from __future__ import annotations

from typing import cast

from cryptography import x509

from certbroker.domain.keys import PublicKey


def csr_key(csr: bytes) -> PublicKey:
    """The public key that the CSR in DER is for. It was made by us, so it is one of the kinds that we keep."""
    return cast(PublicKey, x509.load_der_x509_csr(csr).public_key())
