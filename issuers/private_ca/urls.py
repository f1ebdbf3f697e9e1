"""Where what belongs to a CA is published: its certificate, its CRLs, and the answers about single certificates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublicationURLs:
    """What stands in a certificate about its issuer (RFC 5280 sections 4.2.1.13 and 4.2.2.1)."""

    certificate: str
    """The issuer's own certificate in DER."""
    crl: str
    """The list on which this certificate would be."""
    ocsp: str


def publication_urls(base_url: str, authority_id: str, shard: int | None = None) -> PublicationURLs:
    """The URLs for a certificate of that CA. `shard` is None for a CA with one list only."""
    base = base_url.rstrip("/")
    crl = f"{authority_id}.crl" if shard is None else f"{authority_id}/{shard}.crl"
    return PublicationURLs(f"{base}/ca/{authority_id}.cer", f"{base}/crl/{crl}", f"{base}/ocsp/{authority_id}")
