"""What can be configured, and what is said about mistakes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from certbroker.domain.budget import UNLIMITED, Limits, limit
from certbroker.domain.errors import Invalid
from certbroker.ports.issuer import Administrator, IssuerKind, IssuerSettings
from issuers.acme import KIND
from issuers.acme.limits import ANY_CA, LETS_ENCRYPT, LETS_ENCRYPT_STAGING
from issuers.acme.settings import ACCOUNT_KEYS, ACMEOptions, read_options, read_settings, write_options

KIND_AS_PORT: IssuerKind = KIND


def test_every_option() -> None:
    text = (
        "directory=https://ca.example/dir?x=1; challenge=DNS-01 dns=main-zone\n preferred_chain=ISRG%20Root%20X1;"
        "profile=shortlived;account_key=rsa-2048;hosts=a.example,192.0.2.7;limits=orders=300/3h,SET=none"
    )

    assert ACMEOptions(
        directory="https://ca.example/dir?x=1",
        challenge="dns-01",
        dns="main-zone",
        preferred_chain="ISRG Root X1",
        profile="shortlived",
        account_key="RSA-2048",
        hosts=("a.example", "192.0.2.7"),
        limits=replace(ANY_CA, orders=limit(300, timedelta(hours=3)), names=None),
    ) == read_options(text)


def test_short_names_of_public_cas() -> None:
    assert "https://acme-v02.api.letsencrypt.org/directory" == read_options("directory=LetsEncrypt").directory


@pytest.mark.parametrize(
    ("directory", "limits"),
    [
        ("letsencrypt", LETS_ENCRYPT),
        ("letsencrypt-staging", LETS_ENCRYPT_STAGING),
        ("https://acme-v03.api.LetsEncrypt.org/directory", LETS_ENCRYPT),
        ("https://notletsencrypt.org/directory", ANY_CA),
        ("https://ca.internal/acme/directory", ANY_CA),
    ],
)
def test_the_limits_of_known_cas_are_known(directory: str, limits: Limits) -> None:
    assert limits == read_options(f"directory={directory}").limits


def test_a_private_ca_can_be_without_limits() -> None:
    assert read_options("directory=https://ca.internal/;limits=none").limits == UNLIMITED


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "lacks the option directory"),
        ("challenge=http-01", "lacks the option directory"),
        ("directory=ftp://ca.example/", "directory=ftp"),
        ("directory=letsencript", "directory=letsencript"),
        ("directory=https://user:pw@ca.example/", "no user name"),
        ("directory=https://[", "directory="),
        ("directory=https://ca.example:99999/", "directory="),
        ("directory=letsencrypt;directory=zerossl", "twice"),
        ("directory=letsencrypt;color=red", "'color'"),
        ("directory=letsencrypt;profile", "profile has no value"),
        ("directory=letsencrypt;profile=", "profile has no value"),
        ("directory=letsencrypt;challenge=tls-sni-01", "challenge=tls-sni-01"),
        ("directory=letsencrypt;challenge=dns-01", "needs dns="),
        ("directory=letsencrypt;dns=main", "only with challenge=dns-01"),
        ("directory=letsencrypt;challenge=dns-persist-01;dns=main", "only with challenge=dns-01"),
        ("directory=letsencrypt;persist_warning=-1", "persist_warning=-1"),
        ("directory=letsencrypt;persist_warning=soon", "persist_warning=soon"),
        ("directory=letsencrypt;challenge=dns-01;dns=a/b", "dns=a/b"),
        ("directory=letsencrypt;preferred_chain=%00", "preferred_chain"),
        ("directory=letsencrypt;preferred_chain=%ff", "preferred_chain"),
        ("directory=letsencrypt;account_key=RSA-1024", "account_key=RSA-1024"),
        ("directory=letsencrypt;hosts=*.example.org", "hosts"),
        ("directory=letsencrypt;limits=300", "limits=orders="),
        ("directory=letsencrypt;limits=orders=1/1h,orders=2/1h", "at most once"),
        ("directory=letsencrypt;limits=orders=0/1h", "orders=0/1h"),
        ("directory=letsencrypt;limits=orders=5", "a count and a time"),
        ("directory=letsencrypt;limits=domain=5/9999999d", "domain=5/9999999d"),
        ("directory=letsencrypt;hosts=a..b", "hosts"),
        ("directory=" + "x" * 3000, "longer"),
    ],
)
def test_mistakes_are_named(text: str, complaint: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_options(text)

    assert complaint in caught.value.message


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_options(text)
    except Invalid:
        pass


_words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=40)
_names = st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z]{2,5})?", fullmatch=True)


_limits = st.none() | st.builds(
    limit, st.integers(1, 999_999), st.integers(1, 9999).map(lambda minutes: timedelta(minutes=minutes))
)


@settings(deadline=None)
@given(
    host=_names,
    path=st.from_regex(r"[a-zA-Z0-9/?=&%_-]{0,30}", fullmatch=True),
    dns=st.none() | _names,
    warning=st.integers(0, 9999),
    chain=st.none() | st.lists(_words, min_size=1, max_size=3).map(" ".join),
    profile=st.none() | _words,
    key=st.sampled_from(ACCOUNT_KEYS),
    hosts=st.lists(_names, max_size=3).map(tuple),
    limits=st.just(ANY_CA)
    | st.just(UNLIMITED)
    | st.builds(Limits, orders=_limits, domain=_limits, names=_limits, failures=_limits, consecutive=_limits),
)
def test_what_is_written_is_read_back(
    host: str,
    path: str,
    dns: str | None,
    warning: int,
    chain: str | None,
    profile: str | None,
    key: str,
    hosts: tuple[str, ...],
    limits: Limits,
) -> None:
    options = ACMEOptions(
        directory=f"https://{host}/{path}",
        challenge="dns-01" if dns else "http-01",
        dns=dns,
        persist_warning=warning,
        preferred_chain=chain,
        profile=profile,
        account_key=key,
        hosts=hosts,
        limits=limits,
    )

    assert options == read_options(write_options(options))


def _settings(**changes: object) -> IssuerSettings:
    fields = {"name": "ca", "provider": "acme", "organization_id": "directory=letsencrypt"} | changes
    return IssuerSettings(**fields)  # type: ignore[arg-type]


def test_contacts_are_the_administrators_addresses_each_once() -> None:
    people = (
        Administrator("a@example.org"),
        Administrator(None),
        Administrator("a@example.org"),
        Administrator("b@x.y"),
    )

    assert ("a@example.org", "b@x.y") == read_settings(_settings(administrators=people)).contacts


@pytest.mark.parametrize("email", ["nobody", "a@b?subject=x", "a@b,c@d", "a b@c", "mailto:a@b"])
def test_a_contact_that_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(Invalid, match=r"org_details\.admin_details"):
        KIND.check(_settings(administrators=(Administrator(email),)))


@pytest.mark.parametrize("key", ["zWNDZM6eQGHWpSRTPal5eA", "zWNDZM6eQGHWpSRTPal5eA==", "-_+/AAAA", " AAAA "])
def test_mac_keys_in_either_alphabet(key: str) -> None:
    external = read_settings(_settings(account_id="kid", password=key)).external_account

    assert external is not None
    assert not set("=+/ ") & set(external.mac_key)
    assert external.mac_key not in repr(external)


@pytest.mark.parametrize(
    ("account_id", "password", "field"),
    [("kid", None, "credentials.pwd"), (None, "AAAA", "credentials.account_id"), ("kid", "!!", "credentials.pwd")],
)
def test_half_an_external_account_is_refused(account_id: str | None, password: str | None, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        KIND.check(_settings(account_id=account_id, password=password))

    assert field in caught.value.message
    assert "!!" not in caught.value.message
