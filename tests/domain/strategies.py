"""Policies that can be issued, of every shape."""

from __future__ import annotations

from hypothesis import strategies as st

from certbroker.domain.keys import CURVE_BITS, KEY_USAGES, KeySpec
from certbroker.domain.policy import (
    AUTO_RENEW,
    CONTENT_TYPES,
    EMAIL_CONTACTS,
    CertificatePolicy,
    LifetimeAction,
    SubjectAlternativeNames,
)

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
DNS_NAMES = st.builds(
    lambda star, labels: "*." * star + ".".join(labels), st.booleans(), st.lists(LABELS, min_size=1, max_size=4)
)
KEYS = st.one_of(
    st.sampled_from([2048, 3072, 4096]).map(lambda size: KeySpec("RSA", size)),
    st.sampled_from(sorted(CURVE_BITS)).map(lambda curve: KeySpec("EC", CURVE_BITS[curve], curve)),
)
ADDRESSES = st.ip_addresses().map(str)


def several(values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, max_size=3, unique=True).map(tuple)


NAMES = st.builds(
    SubjectAlternativeNames,
    dns_names=several(DNS_NAMES),
    emails=several(LABELS.map("{}@example.com".format)),
    upns=several(LABELS.map("{}@realm".format)),
    uris=several(LABELS.map("https://example.com/{}".format)),
    ip_addresses=several(ADDRESSES),
)
USAGES = (
    st.sets(st.sampled_from(KEY_USAGES))
    .map(lambda usages: usages | {"keyAgreement"} if usages & {"encipherOnly", "decipherOnly"} else usages)
    .map(lambda usages: tuple(usage for usage in KEY_USAGES if usage in usages))
)


def _actions(months: int) -> st.SearchStrategy[tuple[LifetimeAction, ...]]:
    triggers = st.one_of(
        st.integers(1, 99).map(lambda percentage: (percentage, None)),
        st.integers(1, 27 * months).map(lambda days: (None, days)),
    )
    return st.lists(
        st.tuples(st.sampled_from([AUTO_RENEW, EMAIL_CONTACTS]), triggers), max_size=2, unique_by=lambda each: each[0]
    ).map(lambda chosen: tuple(LifetimeAction(action, *trigger) for action, trigger in chosen))


@st.composite
def policies(draw: st.DrawFn) -> CertificatePolicy:
    months = draw(st.integers(1, 1200))
    return CertificatePolicy(
        key=draw(KEYS),
        exportable=draw(st.booleans()),
        reuse_key=draw(st.booleans()),
        content_type=draw(st.sampled_from(CONTENT_TYPES)),
        subject=draw(st.sampled_from(["CN=www.example.com", "O=Example\\, Inc.,CN=x", "C=DE,O=Ä,CN=192.0.2.1"])),
        sans=draw(NAMES),
        ekus=draw(st.sampled_from([(), ("1.3.6.1.5.5.7.3.1",), ("1.3.6.1.5.5.7.3.1", "2.16.840.1")])),
        key_usage=draw(USAGES),
        validity_months=months,
        lifetime_actions=draw(_actions(months)),
        issuer=draw(st.sampled_from(["Self", "Unknown", "an-issuer"])),
        certificate_type=draw(st.sampled_from([None, "OV-SSL"])),
        certificate_transparency=draw(st.sampled_from([None, False, True])),
        enabled=draw(st.booleans()),
    )
