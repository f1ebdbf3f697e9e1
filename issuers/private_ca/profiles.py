"""What the certificates of a CA are for. The profile decides on usages and limits; the names are the requester's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_USAGES, MAX_RSA_BITS, MIN_RSA_BITS, VerifyingKey
from certbroker.domain.policy import MAX_PURPOSES, SubjectAlternativeNames, parse_oid

_DAYS_OF_CUSTOM: Final = 398
MAX_DAYS: Final = 3660

EKUS: Final[Mapping[str, x509.ObjectIdentifier]] = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code": ExtendedKeyUsageOID.CODE_SIGNING,
    "email": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamp": ExtendedKeyUsageOID.TIME_STAMPING,
    "smartcard": ExtendedKeyUsageOID.SMARTCARD_LOGON,
    "ipsec": ExtendedKeyUsageOID.IPSEC_IKE,
}

SAN_KINDS: Final = ("dns", "ip", "email", "upn", "uri")

# NIST SP 800-186 and what verifiers take; secp256k1 is for other things than certificates.
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of certificate. `names` are the kinds of subject alternative name it may have.

    `usages` holds what a key of any kind may be used for; the usages that depend on the kind of key are in `for_rsa`
    and `for_ec` (RFC 8017 keys encipher, elliptic curves agree on keys).
    """

    name: str
    ekus: tuple[x509.ObjectIdentifier, ...]
    usages: tuple[str, ...]
    names: tuple[str, ...]
    max_days: int
    for_rsa: tuple[str, ...] = ()
    for_ec: tuple[str, ...] = ()
    needs_name: tuple[str, ...] = ()
    """Kinds of name of which there is to be at least one."""
    needs_subject: bool = False

    def key_usage(self, key: VerifyingKey) -> x509.KeyUsage:
        """The key usage for a certificate of this kind of key. Raises Invalid where nothing is left of it."""
        if isinstance(key, rsa.RSAPublicKey):
            return _key_usage(self, "RSA")
        return _key_usage(self, "EC" if isinstance(key, ec.EllipticCurvePublicKey) else "")

    def check_names(self, sans: SubjectAlternativeNames, *, has_subject: bool) -> None:
        """Raise Invalid where the names are not of the kinds that the profile is for."""
        given = kinds_of(sans)
        foreign = [kind for kind in given if kind not in self.names]
        if foreign:
            allowed = ", ".join(self.names) or "none"
            raise Invalid(f"The profile {self.name} takes no names of the kind {foreign[0]}; it takes: {allowed}.")
        if self.needs_name and not set(self.needs_name) & set(given):
            raise Invalid(f"A certificate of the profile {self.name} needs a name of a kind out of: "
                          f"{', '.join(self.needs_name)}.")  # fmt: skip
        if self.needs_subject and not has_subject:
            raise Invalid(f"A certificate of the profile {self.name} needs a subject, such as CN=Example Ltd.")


@lru_cache(maxsize=256)
def _key_usage(profile: Profile, family: str) -> x509.KeyUsage:
    usages = set(profile.usages)
    match family:
        case "RSA":
            usages |= set(profile.for_rsa)
            usages -= {"keyAgreement", "encipherOnly", "decipherOnly"}
        case "EC":
            usages |= set(profile.for_ec)
            usages -= {"keyEncipherment", "dataEncipherment"}
        case _:
            # RFC 8410 section 5 and RFC 9881 section 5: these keys sign, and do nothing else.
            usages &= {"digitalSignature", "nonRepudiation"}
    if not usages:
        raise Invalid(f"The profile {profile.name} has no usage that is possible with a key of this kind.")
    try:
        return x509.KeyUsage(*(usage in usages for usage in KEY_USAGES))
    except ValueError:
        raise Invalid("usages: encipherOnly and decipherOnly need keyAgreement beside them.") from None


SERVER: Final = Profile(
    "server",
    (ExtendedKeyUsageOID.SERVER_AUTH,),
    ("digitalSignature",),
    ("dns", "ip"),
    398,
    for_rsa=("keyEncipherment",),
    needs_name=("dns", "ip"),
)
CLIENT: Final = Profile(
    "client", (ExtendedKeyUsageOID.CLIENT_AUTH,), ("digitalSignature",), SAN_KINDS, 825, for_rsa=("keyEncipherment",)
)
CODE_SIGNING: Final = Profile(
    "code-signing",
    (ExtendedKeyUsageOID.CODE_SIGNING,),
    ("digitalSignature",),
    ("email", "uri"),
    1185,
    needs_subject=True,
)
SMIME: Final = Profile(
    "smime",
    (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    ("digitalSignature",),
    ("email", "upn"),
    825,
    for_rsa=("keyEncipherment",),
    for_ec=("keyAgreement",),
    needs_name=("email",),
)
PROFILES: Final[Mapping[str, Profile]] = {each.name: each for each in (SERVER, CLIENT, CODE_SIGNING, SMIME)}
CUSTOM: Final = "custom"
NAMES: Final = (*PROFILES, CUSTOM)


def custom(
    ekus: Iterable[str], usages: Iterable[str], names: Iterable[str], max_days: int = _DAYS_OF_CUSTOM
) -> Profile:
    """A profile of somebody's own: purposes by their short name or object identifier. Raises Invalid."""
    wished = tuple(ekus)
    if len(wished) > MAX_PURPOSES:
        raise Invalid(f"ekus: at most {MAX_PURPOSES} purposes; {len(wished)} were given.")
    purposes = tuple(dict.fromkeys(_purpose(text) for text in wished))
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes:
        raise Invalid("ekus: a certificate for any purpose is for none in particular: name the purposes.")
    if ExtendedKeyUsageOID.TIME_STAMPING in purposes and len(purposes) > 1:
        # RFC 3161 section 2.3.
        raise Invalid("ekus: a certificate for time stamping has no other purpose.")
    if ExtendedKeyUsageOID.OCSP_SIGNING in purposes:
        raise Invalid("ekus: who answers for a CA gets his certificate from the broker itself, not by a profile.")
    wanted = tuple(dict.fromkeys(_usage(text) for text in usages))
    kinds = tuple(dict.fromkeys(name.lower() for name in names))
    unknown = [kind for kind in kinds if kind not in SAN_KINDS]
    if unknown:
        raise Invalid(f"sans: {unknown[0][:40]!r} is no kind of name: use {', '.join(SAN_KINDS)}.")
    if not wanted:
        raise Invalid(f"usages are missing: name at least one of {', '.join(_USAGES)}.")
    return Profile(CUSTOM, purposes, wanted, kinds, max_days, needs_subject=not kinds)


def with_days(profile: Profile, days: int | None) -> Profile:
    """The profile with a shorter life; a longer one is the profile's to allow, but for a custom one. Raises Invalid."""
    if days is None:
        return profile
    most = MAX_DAYS if profile.name == CUSTOM else profile.max_days
    if not 1 <= days <= most:
        raise Invalid(f"days is between 1 and {most} for the profile {profile.name}.")
    return replace(profile, max_days=days)


def kinds_of(sans: SubjectAlternativeNames) -> tuple[str, ...]:
    """Which kinds of name there are."""
    lists = (sans.dns_names, sans.ip_addresses, sans.emails, sans.upns, sans.uris)
    return tuple(kind for kind, names in zip(SAN_KINDS, lists, strict=True) if names)


def check_key(key: VerifyingKey) -> None:
    """Raise Invalid when the key is too weak, or on a curve that verifiers do not take."""
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise Invalid(
                f"The RSA key has {key.key_size} bits: make one of {MIN_RSA_BITS} to {MAX_RSA_BITS}, 3072 for choice."
            )
        # FIPS 186-5 appendix A.1.1. Small exponents have made forgeries possible; large ones cost every verifier.
        if not 65537 <= exponent < 1 << 256 or exponent % 2 == 0:
            raise Invalid("The RSA key has a public exponent that is not sound: make a key with the usual one, 65537.")
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in CURVES:
        raise Invalid(f"The key is on the curve {key.curve.name}: certificates need P-256, P-384 or P-521.")


_USAGES: Final = tuple(usage for usage in KEY_USAGES if usage not in ("keyCertSign", "cRLSign"))
_BY_NAME: Final = {usage.lower(): usage for usage in _USAGES}


def _usage(text: str) -> str:
    usage = _BY_NAME.get(text.lower())
    if usage is None:
        raise Invalid(f"usages: {text[:40]!r} is no usage for an end entity: use {', '.join(_USAGES)}.")
    return usage


def _purpose(text: str) -> x509.ObjectIdentifier:
    known = EKUS.get(text.lower())
    if known is not None:
        return known
    if not text[:1].isdigit():
        raise Invalid(f"ekus: {text[:40]!r} is no purpose: use {', '.join(EKUS)}, or an object identifier.")
    return parse_oid(text)
