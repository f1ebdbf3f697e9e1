"""A private CA: certificates signed by a CA whose key is in a vault of this broker.

settings     what an issuer is configured with           kind        what is registered, and what it opens
profiles     what certificates are for                   constraints the names that a CA may certify
prepare      a certificate, but for its signature        urls        where a CA's lists and answers are
lint         what is signed has been looked at           checks      what it has to be
signing      the one place where a CA's key signs
"""

from issuers.private_ca.kind import KIND, PrivateCAIssuer, PrivateCAKind

__all__ = ["KIND", "PrivateCAIssuer", "PrivateCAKind"]
