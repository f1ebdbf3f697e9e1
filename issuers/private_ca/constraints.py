"""Names that a CA may certify: name constraints (RFC 5280 section 4.2.1.10), as people write them and as they are met.

The same notation and the same rules serve for the names that an issuer is allowed to ask for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from cryptography import x509

from certbroker.domain.errors import Invalid
from certbroker.domain.policy import is_dns_name, parse_subject

_KINDS = "dns:corp.example, ip:10.0.0.0/8, email:example.com, uri:example.com or dir:O=Example"


def read_name(text: str) -> x509.GeneralName:
    """The subtree that is written so. Raises Invalid."""
    kind, colon, value = text.partition(":")
    try:
        match kind.lower() if colon else "dns":
            case "dns":
                return _dns(value if colon else text)
            case "ip":
                return x509.IPAddress(ipaddress.ip_network(value))
            case "email":
                return _email(value)
            case "uri":
                return x509.UniformResourceIdentifier(_host(value))
            case "dir":
                return x509.DirectoryName(parse_subject(value))
            case _:
                pass
    except ValueError:
        pass
    raise Invalid(f"{text[:200]!r} is no name that a constraint can have: write {_KINDS}.")


def name_constraints(permitted: Iterable[str], excluded: Iterable[str]) -> x509.NameConstraints | None:
    """The extension; None where nothing is constrained. Raises Invalid."""
    inside, outside = [read_name(text) for text in permitted], [read_name(text) for text in excluded]
    if not inside and not outside:
        return None
    return x509.NameConstraints(inside or None, outside or None)


def written(subtrees: Iterable[x509.GeneralName] | None) -> tuple[str, ...]:
    """Subtrees as `read_name` reads them. Raises Invalid for one of a kind that it does not know."""
    return tuple(_written(each) for each in subtrees or ())


def _written(subtree: x509.GeneralName) -> str:
    match subtree:
        case x509.DNSName():
            return f"dns:{subtree.value}"
        case x509.IPAddress():
            return f"ip:{subtree.value}"
        case x509.RFC822Name():
            return f"email:{subtree.value}"
        case x509.UniformResourceIdentifier():
            return f"uri:{subtree.value}"
        case x509.DirectoryName():
            return f"dir:{subtree.value.rfc4514_string()}"
        case _:
            raise Invalid("The CA's certificate has a name constraint of a kind that is not known here.")


def constraints_of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    """The constraints that a CA's certificate has."""
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def violation(names: Iterable[x509.GeneralName], constraints: x509.NameConstraints, *, closed: bool = False) -> str:
    """What is wrong with the first name that the constraints forbid; empty when all are good.

    A kind of name that no permitted subtree is about is free, or forbidden where the list is `closed`.
    """
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    for name in names:
        if any(_touches(name, subtree) for subtree in excluded):
            return f"{shown(name)} is excluded"
        same_kind = [subtree for subtree in permitted if type(subtree) is type(name)]
        if (same_kind or closed) and not any(_within(name, subtree) for subtree in same_kind):
            return f"{shown(name)} is not among the names that are permitted"
    return ""


def shown(name: x509.GeneralName) -> str:
    """A name for people."""
    value = name.value
    if isinstance(name, x509.OtherName):
        return f"the name of type {name.type_id.dotted_string}"
    return value.rfc4514_string() if isinstance(value, x509.Name) else repr(str(value)[:200])


def _within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    """Whether all that a name stands for is in the subtree."""
    match name, subtree:
        case x509.DNSName(), x509.DNSName():
            return _below(name.value.removeprefix("*."), subtree.value)
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(name.value, subtree.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _host_within(_uri_host(name.value), subtree.value)
        case x509.IPAddress(), x509.IPAddress():
            return _address_within(name.value, subtree.value)
        case x509.DirectoryName(), x509.DirectoryName():
            mine, theirs = list(name.value.rdns), list(subtree.value.rdns)
            return mine[: len(theirs)] == theirs
        case _:
            return False


def _touches(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    """Whether anything that a name stands for is in the subtree: a wildcard stands for names on one level."""
    if isinstance(name, x509.DNSName) and isinstance(subtree, x509.DNSName) and name.value.startswith("*."):
        parent = subtree.value.lower().strip(".").partition(".")[2]
        if parent == name.value[2:].lower():
            return True
    if isinstance(name, x509.OtherName) and isinstance(subtree, x509.OtherName):
        return name.type_id == subtree.type_id  # What is in it cannot be compared, so it is not taken.
    if isinstance(name, x509.UniformResourceIdentifier) and not _uri_host(name.value):
        # RFC 5280: constraints cannot be met by a URI without a host.
        return isinstance(subtree, x509.UniformResourceIdentifier)
    return _within(name, subtree)


def _below(name: str, domain: str) -> bool:
    name, domain = name.lower(), domain.lower().removeprefix(".")
    return not domain or name == domain or name.endswith(f".{domain}")


def _host_within(host: str, domain: str) -> bool:
    """For mail and URIs a domain with a dot before it is all hosts in it, and one without is that host only."""
    host, domain = host.lower(), domain.lower()
    return host.endswith(domain) if domain.startswith(".") else host == domain


def _mail_within(address: str, subtree: str) -> bool:
    if "@" in subtree:
        local, _, host = address.rpartition("@")
        wanted, _, domain = subtree.rpartition("@")
        return local == wanted and host.lower() == domain.lower()
    return _host_within(address.rpartition("@")[2], subtree)


def _address_within(address: object, network: object) -> bool:
    if not isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return False
    if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return address.version == network.version and address in network
    if isinstance(address, ipaddress.IPv4Network) and isinstance(network, ipaddress.IPv4Network):
        return address.subnet_of(network)
    if isinstance(address, ipaddress.IPv6Network) and isinstance(network, ipaddress.IPv6Network):
        return address.subnet_of(network)
    return False


def _uri_host(uri: str) -> str:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


def _dns(value: str) -> x509.DNSName:
    value = value.lower().removeprefix(".")
    if value.startswith("*") or not is_dns_name(value):
        raise ValueError
    return x509.DNSName(value)


def _email(value: str) -> x509.RFC822Name:
    host = value.rpartition("@")[2]
    if not is_dns_name(host.removeprefix(".")) or "*" in host or not value.isascii():
        raise ValueError
    return x509.RFC822Name(value)


def _host(value: str) -> str:
    if not is_dns_name(value.removeprefix(".")) or "*" in value:
        raise ValueError
    return value.lower()
