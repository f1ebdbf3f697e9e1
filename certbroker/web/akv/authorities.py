"""CAs on the wire. Key Vault has none: its integrated CAs are somebody else's."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from cryptography import x509

from certbroker.domain.authority import Authority, AuthoritySettings, AuthorityState, Issued, kind_of
from certbroker.domain.revocation import read_reason
from certbroker.services.pki.authorities import NewAuthority, SettingsChanges
from certbroker.services.pki.outside_requests import SignedRequest, SigningWish
from certbroker.services.pki.successions import RenewalWish
from certbroker.web.akv.messages import decode, page_json
from certbroker.web.akv.routes import Call, Route, Router, TakesLong
from certbroker.web.http import Response
from issuers.private_ca.prepare import verifying_key
from issuers.private_ca.urls import publication_urls


class SettingsJSON(msgspec.Struct, frozen=True, kw_only=True):
    path_length: int | None = None
    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    shards: int = 1
    crl_hours: int | None = None
    lent_to: tuple[str, ...] = ()

    def settings(self) -> AuthoritySettings:
        return AuthoritySettings(
            self.path_length, self.permitted, self.excluded, self.shards, self.crl_hours, self.lent_to
        )


class CreateJSON(SettingsJSON, frozen=True, kw_only=True):
    subject: str
    key: str = "P-256"
    days: int = 3652
    parent: str | None = None


class ChangesJSON(msgspec.Struct, frozen=True):
    shards: int | None = None
    crl_hours: int | None = None
    lent_to: tuple[str, ...] | None = None


class RenewJSON(msgspec.Struct, frozen=True):
    new_key: bool = False
    key: str | None = None
    days: int | None = None


class CrossSignJSON(msgspec.Struct, frozen=True):
    by: str
    days: int | None = None


class SignJSON(msgspec.Struct, frozen=True):
    csr: str
    profile: str = "server"
    days: int | None = None
    subject: str = ""
    ekus: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()
    sans: tuple[str, ...] = ()


class RevokeJSON(msgspec.Struct, frozen=True):
    reason: str


def list_authorities(call: Call) -> Response:
    found = call.broker.authorities.listing(call.vault)
    return Response(200, {"value": [authority_json(call, each) for each in found], "nextLink": None})


def create(call: Call) -> Response:
    wanted = decode(call.body, CreateJSON)
    if wanted.parent is not None:
        _may_use(call, wanted.parent)
    new = NewAuthority(wanted.subject, wanted.key, wanted.days, wanted.parent, wanted.settings())
    return Response(201, authority_json(call, call.broker.authorities.create(call.caller, call.vault, call.name, new)))


def show(call: Call) -> Response:
    generations = call.broker.authorities.generations(call.vault, call.name)
    shown = next((each for each in generations if each.state is AuthorityState.ACTIVE), generations[0])
    others = [authority_json(call, each) for each in generations if each is not shown]
    return Response(200, authority_json(call, shown) | {"others": others})


def change(call: Call) -> Response:
    wanted = decode(call.body, ChangesJSON)
    changes = SettingsChanges(wanted.shards, wanted.crl_hours, wanted.lent_to)
    return Response(200, authority_json(call, call.broker.authorities.set(call.caller, call.vault, call.name, changes)))


def renew(call: Call) -> Response:
    wanted = decode(call.body or b"{}", RenewJSON)
    wish = RenewalWish(wanted.new_key, wanted.key, wanted.days)
    return Response(201, authority_json(call, call.broker.successions.renew(call.caller, call.vault, call.name, wish)))


def cross_sign(call: Call) -> Response:
    wanted = decode(call.body, CrossSignJSON)
    _may_use(call, wanted.by)
    found = call.broker.successions.cross_sign(call.caller, call.vault, call.name, wanted.by, wanted.days)
    return Response(201, authority_json(call, found))


def adopt(call: Call) -> Response:
    wanted = decode(call.body or b"{}", SettingsJSON)
    found = call.broker.successions.adopt(call.caller, call.vault, call.name, wanted.settings())
    return Response(201, authority_json(call, found))


def retire(call: Call) -> Response:
    return Response(200, authority_json(call, call.broker.successions.retire(call.caller, call.vault, call.name)))


def delete(call: Call) -> Response:
    force = call.query.get("force", "").lower() in ("1", "true")
    call.broker.outside_requests.delete(call.caller, call.vault, call.name, force=force)
    return Response(204)


def sign(call: Call) -> Response:
    return _signed(call.broker.outside_requests.sign(call.caller, call.vault, call.name, _signing_wish(call)))


async def sign_soon(call: Call) -> Response:
    wish = _signing_wish(call)
    signed = await call.broker.outside_requests.sign_soon(call.caller, call.vault, call.name, wish)
    if signed is None:
        raise TakesLong
    return _signed(signed)


def _signing_wish(call: Call) -> SigningWish:
    wanted = decode(call.body, SignJSON)
    lists = {"ekus": wanted.ekus, "usages": wanted.usages, "sans": wanted.sans}
    options = {"profile": wanted.profile} | {key: ",".join(values) for key, values in lists.items() if values}
    if wanted.days is not None:
        options["days"] = str(wanted.days)
    return SigningWish(wanted.csr.encode(), options, wanted.subject)


def _signed(signed: SignedRequest) -> Response:
    found = issued_json(signed.entry)
    return Response(201, found | {"x5c": [_standard(der) for der in signed.chain], "ignored": list(signed.ignored)})


def list_issued(call: Call) -> Response:
    page = call.broker.outside_requests.ledger(
        call.vault, call.name, call.query.get("generation", ""), call.query.get("$skiptoken", ""), call.page_size()
    )
    return page_json(call, [issued_json(entry) for entry in page.items], page)


def show_issued(call: Call) -> Response:
    return Response(
        200, issued_json(call.broker.outside_requests.issued(call.vault, call.name, call.parameters["serial"]))
    )


def revoke(call: Call) -> Response:
    reason = read_reason(decode(call.body, RevokeJSON).reason)
    serial = call.parameters["serial"]
    found = call.broker.outside_requests.revoke(call.caller, call.vault, call.name, serial, reason)
    return Response(200, issued_json(found))


def authority_json(call: Call, authority: Authority) -> dict[str, Any]:
    """One generation of a CA. Times in Unix seconds; what has no value is left out."""
    certificate = x509.load_der_x509_certificate(authority.certificate)
    settings = authority.settings
    found: dict[str, Any] = {
        "id": call.links.authority(authority.name),
        "generation": authority.id,
        "state": authority.state.value,
        "subject": authority.subject,
        "key": kind_of(verifying_key(certificate.public_key())),
        "serial": f"{certificate.serial_number:x}",
        "sha256": authority.sha256,
        "cer": _standard(authority.certificate),
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": authority.not_after,
        "created": authority.created,
        "path_length": settings.path_length,
        "parent": authority.parent,
        "permitted": list(settings.permitted) or None,
        "excluded": list(settings.excluded) or None,
        "lent_to": list(settings.lent_to) or None,
    }
    if authority.state is not AuthorityState.CROSS:
        found |= {"shards": settings.shards, "crl_hours": settings.crl_hours, "published": _published(call, authority)}
    return {label: value for label, value in found.items() if value is not None}


def issued_json(entry: Issued) -> dict[str, Any]:
    """An entry of a ledger."""
    found: dict[str, Any] = {
        "serial": entry.serial.lstrip("0"),
        "generation": entry.authority,
        "sha256": entry.sha256,
        "profile": entry.profile,
        "not_after": entry.not_after,
        "certificate": f"{entry.name}/{entry.version}".rstrip("/") or None,
        "cer": None if entry.certificate is None else _standard(entry.certificate),
        "revoked": entry.revoked,
        "reason": entry.reason,
    }
    return {label: value for label, value in found.items() if value is not None}


def _published(call: Call, authority: Authority) -> dict[str, Any] | None:
    """Where what belongs to the CA is published; None where the broker publishes nothing."""
    base, shards = call.broker.signers.url, authority.settings.shards
    if base is None:
        return None
    parts = range(shards) if shards > 1 else (None,)
    urls = [publication_urls(base, authority.id, part) for part in parts]
    return {"certificate": urls[0].certificate, "ocsp": urls[0].ocsp, "crl": [each.crl for each in urls]}


def _may_use(call: Call, name: str) -> None:
    """Raise AccessDenied unless the caller may also have that CA sign for a CA."""
    vault, _, short = name.rpartition("/")
    scope = f"/vaults/{(vault or call.vault.name).lower()}/authorities/{short.lower()}"
    call.broker.access.authorize(call.caller.principal, "authorities/write", scope)


def _standard(data: bytes) -> str:
    """Base64 as `cer` has it everywhere."""
    return base64.b64encode(data).decode()


def register(router: Router) -> None:
    authority, issued = "/authorities/{name}", "/authorities/{name}/issued"
    read, write = "authorities/read", "authorities/write"
    router.add("GET", "/authorities", Route("AuthorityList", read, list_authorities))
    router.add("GET", authority, Route("AuthorityGet", read, show))
    router.add("GET", issued, Route("AuthorityIssuedList", read, list_issued))
    router.add("GET", f"{issued}/{{serial}}", Route("AuthorityIssuedGet", read, show_issued))
    # Keys of CAs are large, and may be in an HSM.
    for method, pattern, operation, action, handler in (
        ("PATCH", authority, "AuthorityUpdate", write, change),
        ("DELETE", authority, "AuthorityDelete", "authorities/delete", delete),
        ("POST", f"{authority}/create", "AuthorityCreate", write, create),
        ("POST", f"{authority}/renew", "AuthorityRenew", write, renew),
        ("POST", f"{authority}/cross-sign", "AuthorityCrossSign", write, cross_sign),
        ("POST", f"{authority}/adopt", "AuthorityAdopt", write, adopt),
        ("POST", f"{authority}/retire", "AuthorityRetire", write, retire),
        ("POST", f"{issued}/{{serial}}/revoke", "AuthorityRevoke", "authorities/revoke/action", revoke),
    ):
        router.add(method, pattern, Route(operation, action, handler, writes=True, lane="create"))
    signing = Route("AuthoritySign", "authorities/sign/action", sign, writes=True, lane="create", soon=sign_soon)
    router.add("POST", f"{authority}/sign", signing)
