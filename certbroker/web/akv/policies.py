"""The certificate policy on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import KEY_TYPES, KEY_USAGES, KeySpec
from certbroker.domain.policy import (
    AUTO_RENEW,
    EMAIL_CONTACTS,
    CertificatePolicy,
    LifetimeAction,
    SubjectAlternativeNames,
)
from certbroker.web.akv.ids import Links


class KeyPropertiesJSON(msgspec.Struct, frozen=True):
    exportable: bool | None = None
    kty: str | None = None
    key_size: int | None = None
    reuse_key: bool | None = None
    crv: str | None = None


class SecretPropertiesJSON(msgspec.Struct, frozen=True):
    content_type: str | None = msgspec.field(default=None, name="contentType")


class NamesJSON(msgspec.Struct, frozen=True):
    emails: tuple[str, ...] | None = None
    dns_names: tuple[str, ...] | None = None
    upns: tuple[str, ...] | None = None
    uris: tuple[str, ...] | None = None
    ip_addresses: tuple[str, ...] | None = msgspec.field(default=None, name="ipAddresses")


class X509PropertiesJSON(msgspec.Struct, frozen=True):
    subject: str | None = None
    ekus: tuple[str, ...] | None = None
    sans: NamesJSON | None = None
    key_usage: tuple[str, ...] | None = None
    validity_months: int | None = None


class TriggerJSON(msgspec.Struct, frozen=True):
    lifetime_percentage: int | None = None
    days_before_expiry: int | None = None


class ActionJSON(msgspec.Struct, frozen=True):
    action_type: str


class LifetimeActionJSON(msgspec.Struct, frozen=True):
    trigger: TriggerJSON
    action: ActionJSON


class IssuerJSON(msgspec.Struct, frozen=True):
    name: str | None = None
    cty: str | None = None
    cert_transparency: bool | None = None


class PolicyAttributesJSON(msgspec.Struct, frozen=True):
    enabled: bool | None = None


class RenewalJSON(msgspec.Struct, frozen=True):
    """Ours, beside what Key Vault has: clients that do not know it neither see it nor lose it."""

    standby_issuers: tuple[str, ...] | None = None
    activation_delay_hours: int | None = None


class PolicyJSON(msgspec.Struct, frozen=True):
    """Every part may be absent: what is absent keeps its value."""

    key_props: KeyPropertiesJSON | None = None
    secret_props: SecretPropertiesJSON | None = None
    x509_props: X509PropertiesJSON | None = None
    lifetime_actions: tuple[LifetimeActionJSON, ...] | None = None
    issuer: IssuerJSON | None = None
    attributes: PolicyAttributesJSON | None = None
    renewal: RenewalJSON | None = None


# SDKs parse these as closed enums and fail on a whole reply for one unknown value, so only the known spelling is
# stored.
_SPELLING: Final = {
    word.lower(): word
    for word in (
        *KEY_USAGES,
        AUTO_RENEW,
        EMAIL_CONTACTS,
        *("RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM"),
        *("P-256", "P-384", "P-521", "P-256K"),
        *("application/x-pkcs12", "application/x-pem-file"),
    )
}


def reviser(wanted: PolicyJSON | None, *, required: bool) -> Callable[[CertificatePolicy | None], CertificatePolicy]:
    """How a request changes the stored policy. With `required`, there must be one in the request or in the store."""

    def revise(stored: CertificatePolicy | None) -> CertificatePolicy:
        if wanted is None and stored is None and required:
            raise Invalid("policy is missing: the first version of a certificate needs one.")
        policy = stored or CertificatePolicy()
        return policy if wanted is None else _merged(policy, wanted)

    return revise


def _merged(policy: CertificatePolicy, wanted: PolicyJSON) -> CertificatePolicy:
    changed: dict[str, Any] = {}
    key = wanted.key_props
    if key is not None:
        changed |= {"key": _key(policy.key, key), "exportable": key.exportable, "reuse_key": key.reuse_key}
    secret = wanted.secret_props
    if secret is not None:
        changed["content_type"] = secret.content_type and _spelled(secret.content_type)
    x509 = wanted.x509_props
    if x509 is not None:
        changed |= {
            "subject": x509.subject,
            "sans": x509.sans and _names(policy.sans, x509.sans),
            "ekus": x509.ekus,
            "key_usage": x509.key_usage and _unique(map(_spelled, x509.key_usage)),
            "validity_months": x509.validity_months,
        }
    if wanted.lifetime_actions is not None:
        changed["lifetime_actions"] = tuple(map(_lifetime_action, wanted.lifetime_actions))
    issuer = wanted.issuer
    if issuer is not None:
        changed |= {
            "issuer": issuer.name,
            "certificate_type": issuer.cty,
            "certificate_transparency": issuer.cert_transparency,
        }
    renewal = wanted.renewal
    if renewal is not None:
        changed |= {
            "standby_issuers": renewal.standby_issuers,
            "activation_delay_hours": renewal.activation_delay_hours,
        }
    if wanted.attributes is not None:
        changed["enabled"] = wanted.attributes.enabled
    return replace(policy, **{field: value for field, value in changed.items() if value is not None})


def _key(old: KeySpec, wanted: KeyPropertiesJSON) -> KeySpec:
    """The key that is wanted; a size or curve of the old one stays only if the new type has such a thing."""
    kty = old.kty if wanted.kty is None else _spelled(wanted.kty)
    curve = None if wanted.crv is None else _spelled(wanted.crv)
    if kty == old.kty and wanted.key_size is None and curve is None:
        return old
    if kty.removesuffix("-HSM") == old.family and wanted.key_size is None and curve is None:
        return KeySpec(kty, old.size, old.curve)
    return KeySpec(kty, wanted.key_size, curve)


def _names(old: SubjectAlternativeNames, wanted: NamesJSON) -> SubjectAlternativeNames:
    return SubjectAlternativeNames(
        dns_names=_or(wanted.dns_names, old.dns_names),
        emails=_or(wanted.emails, old.emails),
        upns=_or(wanted.upns, old.upns),
        uris=_or(wanted.uris, old.uris),
        ip_addresses=_or(wanted.ip_addresses, old.ip_addresses),
    )


def _lifetime_action(wanted: LifetimeActionJSON) -> LifetimeAction:
    trigger = wanted.trigger
    return LifetimeAction(_spelled(wanted.action.action_type), trigger.lifetime_percentage, trigger.days_before_expiry)


def _spelled(word: str) -> str:
    return _SPELLING.get(word.lower(), word)


def _unique(words: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _or(wanted: Any, old: Any) -> Any:
    return old if wanted is None else wanted


def policy_json(links: Links, name: str, policy: CertificatePolicy) -> dict[str, Any]:
    """A policy as clients read it; what has no value is left out."""
    key = {
        "exportable": policy.exportable,
        "kty": policy.key.kty,
        "key_size": policy.key.size,
        "reuse_key": policy.reuse_key,
        "crv": policy.key.curve,
    }
    if policy.key.kty not in KEY_TYPES:
        # Of a CA with a kind of key that Key Vault does not know: its clients fail on a type that is none of theirs.
        del key["kty"], key["crv"]
    sans = {
        "dns_names": policy.sans.dns_names,
        "emails": policy.sans.emails,
        "upns": policy.sans.upns,
        "uris": policy.sans.uris,
        "ipAddresses": policy.sans.ip_addresses,
    }
    issuer = {
        "name": policy.issuer,
        "cty": policy.certificate_type,
        "cert_transparency": policy.certificate_transparency,
    }
    renewal = {
        "standby_issuers": list(policy.standby_issuers) or None,
        "activation_delay_hours": policy.activation_delay_hours or None,
    }
    found = {
        "id": links.policy(name),
        "key_props": _present(key),
        "secret_props": {"contentType": policy.content_type},
        "x509_props": {
            "subject": policy.subject,
            "sans": {label: list(values) for label, values in sans.items() if values},
            "ekus": list(policy.ekus),
            "key_usage": list(policy.key_usage),
            "validity_months": policy.validity_months,
        },
        "lifetime_actions": [_lifetime_action_json(action) for action in policy.lifetime_actions],
        "issuer": _present(issuer),
        "attributes": {"enabled": policy.enabled, "created": policy.created, "updated": policy.updated},
    }
    return found | ({"renewal": _present(renewal)} if any(renewal.values()) else {})


def _lifetime_action_json(action: LifetimeAction) -> dict[str, Any]:
    trigger = {
        "lifetime_percentage": action.lifetime_percentage,
        "days_before_expiry": action.days_before_expiry,
    }
    return {"trigger": _present(trigger), "action": {"action_type": action.action}}


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {label: value for label, value in values.items() if value is not None}
