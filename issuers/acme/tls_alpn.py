"""What the CA looks at for tls-alpn-01 (RFC 8737; RFC 8738 section 6 for addresses)."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certbroker.domain.policy import is_address, is_dns_name

PROTOCOL: Final = b"acme-tls/1"

_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier
_OCTET_STRING_OF_32: Final = b"\x04\x20"
_V4, _V6 = ".in-addr.arpa", ".ip6.arpa"
# Nobody checks the times; they only have to hold now on clocks that differ.
_LIFE: Final = timedelta(days=1)


def validated_place(server_name: str) -> str | None:
    """The DNS name or address that a CA means by this server name; None for what no CA asks for.

    An address is asked for by its name in the reverse zone.
    """
    name = server_name.lower().removesuffix(".")
    if name.endswith((_V4, _V6)):
        return _reversed(name)
    return name if is_dns_name(name) and not is_address(name) and not name.startswith("*") else None


def validation_certificate(
    place: str, key_authorization: str, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed certificate for just this name or address, with the digest of the key authorization (section 3).

    Its key is made for it and thrown away after it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(key_authorization.encode()).digest()
    name: x509.GeneralName = x509.DNSName(place)
    if is_address(place):
        name = x509.IPAddress(ipaddress.ip_address(place))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "acme-tls/1 validation")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_IDENTIFIER, _OCTET_STRING_OF_32 + digest), critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def _reversed(name: str) -> str | None:
    """The address with this name in `in-addr.arpa` (RFC 1035 section 3.5) or `ip6.arpa` (RFC 3596 section 2.5)."""
    if name.endswith(_V4):
        text = ".".join(reversed(name.removesuffix(_V4).split(".")))
    else:
        digits = "".join(reversed(name.removesuffix(_V6).split(".")))
        text = ":".join(digits[start : start + 4] for start in range(0, len(digits), 4))
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # Any other spelling is not the one that a CA uses.
    return str(address) if address.reverse_pointer == name else None
