"""Issuers and contacts on the wire."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from certbroker.domain.records import Contact
from certbroker.ports.governor import BudgetState
from certbroker.ports.issuer import Administrator
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.store.issuers import StoredIssuer
from certbroker.web.akv.messages import decode, page_json
from certbroker.web.akv.routes import Call, Route, Router
from certbroker.web.http import Response


class CredentialsJSON(msgspec.Struct, frozen=True):
    account_id: str | None = None
    pwd: str | None = None


class AdministratorJSON(msgspec.Struct, frozen=True):
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None


class OrganizationJSON(msgspec.Struct, frozen=True):
    id: str | None = None
    admin_details: tuple[AdministratorJSON, ...] | None = None


class IssuerAttributesJSON(msgspec.Struct, frozen=True):
    enabled: bool | None = None


class IssuerBodyJSON(msgspec.Struct, frozen=True):
    provider: str | None = None
    credentials: CredentialsJSON | None = None
    org_details: OrganizationJSON | None = None
    attributes: IssuerAttributesJSON | None = None


class RecordBodyJSON(msgspec.Struct, frozen=True):
    name: str


class ContactJSON(msgspec.Struct, frozen=True):
    email: str
    name: str | None = None
    phone: str | None = None


class ContactsJSON(msgspec.Struct, frozen=True):
    contacts: tuple[ContactJSON, ...]


def set_issuer(call: Call) -> Response:
    stored = call.broker.issuers.set(call.caller, call.vault, call.parameters["issuer"], _changes(call))
    return Response(200, issuer_json(call, stored))


def update_issuer(call: Call) -> Response:
    stored = call.broker.issuers.update(call.caller, call.vault, call.parameters["issuer"], _changes(call))
    return Response(200, issuer_json(call, stored))


def get_issuer(call: Call) -> Response:
    return Response(200, issuer_json(call, call.broker.issuers.get(call.vault, call.parameters["issuer"])))


def delete_issuer(call: Call) -> Response:
    return Response(
        200, issuer_json(call, call.broker.issuers.delete(call.caller, call.vault, call.parameters["issuer"]))
    )


def list_issuers(call: Call) -> Response:
    page = call.broker.issuers.listing(call.vault, call.query.get("$skiptoken", ""), call.page_size())
    items = [{"id": call.links.issuer(issuer.name), "provider": issuer.settings.provider} for issuer in page.items]
    return page_json(call, items, page)


def get_limits(call: Call) -> Response:
    states = call.broker.issuers.budgets(call.vault, call.parameters["issuer"], _names(call))
    return Response(200, {"value": [budget_json(state) for state in states]})


def lift_holds(call: Call) -> Response:
    states = call.broker.holds.lift(call.caller, call.vault, call.parameters["issuer"], _names(call))
    return Response(200, {"value": [budget_json(state) for state in states]})


def issuer_record(call: Call) -> Response:
    host = decode(call.body, RecordBodyJSON).name
    record = call.broker.issuers.standing_record(call.vault, call.parameters["issuer"], host)
    found = {
        "name": record.name,
        "value": record.value,
        "zone_line": record.zone_line,
        "status": record.status,
        "detail": record.detail,
        "until": None if record.until is None else int(record.until.timestamp()),
    }
    return Response(200, _present(found))


def get_account(call: Call) -> Response:
    return Response(200, account_json(call))


def roll_over_account(call: Call) -> Response:
    call.broker.issuers.roll_over_account(call.caller, call.vault, call.parameters["issuer"])
    return Response(204)


def deactivate_account(call: Call) -> Response:
    call.broker.issuers.deactivate_account(call.caller, call.vault, call.parameters["issuer"])
    return Response(204)


def set_contacts(call: Call) -> Response:
    wanted = decode(call.body, ContactsJSON)
    contacts = tuple(Contact(each.email, each.name, each.phone) for each in wanted.contacts)
    return Response(200, contacts_json(call, call.broker.contacts.set(call.caller, call.vault, contacts)))


def get_contacts(call: Call) -> Response:
    return Response(200, contacts_json(call, call.broker.contacts.get(call.vault)))


def delete_contacts(call: Call) -> Response:
    return Response(200, contacts_json(call, call.broker.contacts.delete(call.caller, call.vault)))


def issuer_json(call: Call, issuer: StoredIssuer) -> dict[str, Any]:
    """An issuer. Its password never leaves."""
    settings = issuer.settings
    found: dict[str, Any] = {
        "id": call.links.issuer(issuer.name),
        "provider": settings.provider,
        "attributes": {"enabled": settings.enabled, "created": issuer.created, "updated": issuer.updated},
    }
    if settings.account_id is not None:
        found["credentials"] = {"account_id": settings.account_id}
    organization: dict[str, Any] = {}
    if settings.organization_id is not None:
        organization["id"] = settings.organization_id
    if settings.administrators:
        organization["admin_details"] = [_present(msgspec.to_builtins(each)) for each in settings.administrators]
    if organization:
        found["org_details"] = organization
    return found


def budget_json(state: BudgetState) -> dict[str, Any]:
    """How a rate budget stands. Times in Unix seconds, the next one no earlier than it is."""
    limit = state.limit
    found: dict[str, Any] = {
        "scope": state.scope.value,
        "counts": state.what,
        "limit": None if limit is None else {"count": limit.burst, "seconds": round(limit.period.total_seconds())},
        "left": state.left,
        "next_fit": math.ceil(state.next_fit.timestamp()),
    }
    if state.held_until is not None:
        found["held"] = {"until": math.ceil(state.held_until.timestamp()), "reason": state.reason}
    return found


def account_json(call: Call) -> dict[str, Any]:
    """An issuer's account at its CA, which Azure does not have."""
    name = call.parameters["issuer"]
    account = call.broker.issuers.account(call.vault, name)
    return {"id": f"{call.links.issuer(name)}/account"} | _present(msgspec.to_builtins(account))


def contacts_json(call: Call, contacts: tuple[Contact, ...]) -> dict[str, Any]:
    return {"id": call.links.contacts(), "contacts": [_present(msgspec.to_builtins(contact)) for contact in contacts]}


def _changes(call: Call) -> IssuerChanges:
    wanted = decode(call.body, IssuerBodyJSON)
    credentials = wanted.credentials or CredentialsJSON()
    organization = wanted.org_details or OrganizationJSON()
    administrators = organization.admin_details
    return IssuerChanges(
        provider=wanted.provider,
        account_id=credentials.account_id,
        password=credentials.pwd,
        organization_id=organization.id,
        administrators=None
        if administrators is None
        else tuple(Administrator(each.email, each.first_name, each.last_name, each.phone) for each in administrators),
        enabled=wanted.attributes.enabled if wanted.attributes else None,
    )


def _names(call: Call) -> list[str]:
    """Those of the certificate in question."""
    return [name for name in call.query.get("names", "").split(",") if name]


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {label: value for label, value in values.items() if value is not None}


def register(router: Router) -> None:
    issuer, contacts = "/certificates/issuers/{issuer}", "/certificates/contacts"
    write_ca, write_contacts = "certificatecas/write", "certificatecontacts/write"
    router.add("GET", "/certificates/issuers", Route("CertificateIssuersList", "certificatecas/read", list_issuers))
    router.add("GET", issuer, Route("CertificateIssuerGet", "certificatecas/read", get_issuer))
    limits = Route("CertificateIssuerLimits", "certificatecas/read", get_limits)
    router.add("GET", f"{issuer}/limits", limits)
    lift = Route("CertificateIssuerLimitsLift", write_ca, lift_holds, writes=True)
    router.add("POST", f"{issuer}/limits/lift", lift)
    router.add("PUT", issuer, Route("CertificateIssuerSet", write_ca, set_issuer, writes=True))
    router.add("PATCH", issuer, Route("CertificateIssuerUpdate", write_ca, update_issuer, writes=True))
    router.add("DELETE", issuer, Route("CertificateIssuerDelete", "certificatecas/delete", delete_issuer, writes=True))
    record = Route("CertificateIssuerRecord", write_ca, issuer_record, lane="outside")
    router.add("POST", f"{issuer}/dns-persist", record)
    # Azure has nothing below an issuer, and no name of a certificate can stand there: nothing of its can be meant.
    account, lane = f"{issuer}/account", "outside"
    read = Route("CertificateIssuerAccountGet", "certificatecas/read", get_account, lane=lane)
    router.add("GET", account, read)
    for step, handler in (("rollover", roll_over_account), ("deactivate", deactivate_account)):
        route = Route(f"CertificateIssuerAccount{step.capitalize()}", write_ca, handler, writes=True, lane=lane)
        router.add("POST", f"{account}/{step}", route)
    router.add("GET", contacts, Route("CertificateContactsGet", "certificates/read", get_contacts))
    router.add("PUT", contacts, Route("CertificateContactsSet", write_contacts, set_contacts, writes=True))
    router.add("DELETE", contacts, Route("CertificateContactsDelete", write_contacts, delete_contacts, writes=True))
