"""What an order is for: the names of a policy as ACME identifiers."""

from __future__ import annotations

import ipaddress
from typing import Final

from certbroker.domain.operation import Problem
from certbroker.domain.policy import CertificatePolicy, common_name, is_address, is_dns_name
from issuers.acme.messages import Identifier
from issuers.acme.settings import BY_DNS

# RFC 1035 section 2.3.4, as text without the final dot.
_LONGEST_NAME: Final = 253


class Unorderable(Exception):
    """The policy asks for something that this issuer cannot order."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.problem = Problem("PolicyNotSupported", message)


def identifiers_of(policy: CertificatePolicy, challenge: str) -> tuple[Identifier, ...]:
    """The DNS names and addresses of the policy, each once, the common name first. Raises Unorderable."""
    sans = policy.sans
    if sans.emails or sans.upns or sans.uris:
        raise Unorderable(
            "ACME certificates name DNS names and IP addresses only: remove emails, upns and uris from x509_props.sans."
        )
    names = [common_name(policy.subject), *sans.dns_names, *sans.ip_addresses]
    found = tuple(dict.fromkeys(_identifier(name) for name in names if name))
    if not found:
        raise Unorderable("The policy has no DNS name and no IP address: add one to x509_props.sans.")
    for identifier in found:
        if identifier.kind == "dns" and identifier.value.startswith("*.") and challenge not in BY_DNS:
            raise Unorderable(
                f"{identifier.value} is a wildcard name, which CAs validate by DNS only: set challenge=dns-01 or "
                "challenge=dns-persist-01 in the issuer's options, or name the hosts one by one."
            )
        place = BY_DNS.get(challenge, "") + identifier.value.removeprefix("*.")
        if identifier.kind == "dns" and len(place) > _LONGEST_NAME:
            raise Unorderable(
                f"{identifier.value} is too long to be validated by {challenge}: its record would be at {place}, and a "
                f"DNS name has at most {_LONGEST_NAME} characters. Use an issuer with another challenge, or remove the "
                "name."
            )
        if identifier.kind == "ip" and challenge in BY_DNS:
            # RFC 8738 section 7.
            raise Unorderable(
                f"{identifier.value} is an IP address, which cannot be validated by {challenge}: use an issuer with "
                "challenge=http-01 or challenge=tls-alpn-01."
            )
    return found


def _identifier(name: str) -> Identifier:
    if is_address(name):
        # RFC 8738 section 3: the textual form of RFC 5952.
        return Identifier("ip", str(ipaddress.ip_address(name)))
    if not is_dns_name(name):
        raise Unorderable(
            f"The common name {name[:100]!r} is neither a DNS name nor an IP address: correct x509_props.subject."
        )
    return Identifier("dns", name.lower())
