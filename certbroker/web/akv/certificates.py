"""Certificates and their operations on the wire."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import msgspec

from certbroker.domain import operation as states
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Kind
from certbroker.domain.operation import Problem
from certbroker.domain.policy import PEM, UNKNOWN
from certbroker.domain.records import Operation, Version
from certbroker.services.objects.certificates import CertificateView
from certbroker.services.objects.foreign import take_apart
from certbroker.web.akv.etags import etag_of, unchanged
from certbroker.web.akv.messages import AttributesJSON, attributes_json, base64url, changes, decode, from_base64
from certbroker.web.akv.policies import PolicyJSON, SecretPropertiesJSON, policy_json, reviser
from certbroker.web.akv.revocation import revocation_json
from certbroker.web.akv.routes import Call, Route, Router, TakesLong
from certbroker.web.http import Response


class CreateJSON(msgspec.Struct, frozen=True):
    policy: PolicyJSON | None = None
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None
    preserve_order: bool = msgspec.field(default=False, name="preserveCertOrder")


class ImportJSON(msgspec.Struct, frozen=True):
    value: str
    pwd: str | None = None
    policy: PolicyJSON | None = None
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None
    preserve_order: bool = msgspec.field(default=False, name="preserveCertOrder")


class RenewJSON(msgspec.Struct, frozen=True):
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class UpdateJSON(msgspec.Struct, frozen=True):
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None
    policy: PolicyJSON | None = None


class MergeJSON(msgspec.Struct, frozen=True):
    x5c: tuple[str, ...]
    attributes: AttributesJSON | None = None
    tags: dict[str, str] | None = None


class CancelJSON(msgspec.Struct, frozen=True):
    cancellation_requested: bool


def create(call: Call) -> Response:
    wanted = decode(call.body or b"{}", CreateJSON)
    revise = reviser(wanted.policy, required=True)
    given = changes(wanted.attributes, wanted.tags)
    operation = call.broker.certificates.create(
        call.caller, call.vault, call.name, revise, given, preserve_order=wanted.preserve_order
    )
    return _created(call, operation)


async def create_soon(call: Call) -> Response:
    wanted = decode(call.body or b"{}", CreateJSON)
    issuer = wanted.policy and wanted.policy.issuer and wanted.policy.issuer.name
    if not issuer or issuer.lower() == UNKNOWN.lower():
        raise TakesLong
    revise = reviser(wanted.policy, required=True)
    given = changes(wanted.attributes, wanted.tags)
    operation = await call.broker.certificates.create_soon(
        call.caller, call.vault, call.name, revise, given, preserve_order=wanted.preserve_order
    )
    return _created(call, operation)


def _created(call: Call, operation: Operation) -> Response:
    location = f"{call.links.pending(operation.name)}?api-version={call.query['api-version']}&request_id={operation.id}"
    return Response(202, operation_json(call, operation), ((b"location", location.encode()),))


def renew(call: Call) -> Response:
    wanted = decode(call.body or b"{}", RenewJSON)
    operation = call.broker.renewals.request(call.caller, call.vault, call.name, wanted.reason)
    return Response(202, operation_json(call, operation))


def import_(call: Call) -> Response:
    wanted = decode(call.body, ImportJSON)
    data = _certificate_data(wanted.value)
    imported = take_apart(data, wanted.pwd)
    policy = wanted.policy
    if b"-----BEGIN" in data and (policy is None or policy.secret_props is None):
        policy = msgspec.structs.replace(policy or PolicyJSON(), secret_props=SecretPropertiesJSON(PEM))
    view = call.broker.certificates.import_(
        call.caller,
        call.vault,
        call.name,
        imported,
        reviser(policy, required=False),
        changes(wanted.attributes, wanted.tags),
        preserve_order=wanted.preserve_order,
    )
    return Response(200, view_json(call, view))


def get(call: Call) -> Response:
    shown = view_json(call, call.broker.certificates.get(call.vault, call.name, call.version))
    etag = etag_of(shown)
    return unchanged(call, etag) or Response(200, shown, ((b"etag", etag),))


def update(call: Call) -> Response:
    wanted = decode(call.body, UpdateJSON)
    revise = None if wanted.policy is None else reviser(wanted.policy, required=False)
    view = call.broker.certificates.update(
        call.caller, call.vault, call.name, call.version, changes(wanted.attributes, wanted.tags), revise
    )
    return Response(200, view_json(call, view))


def get_policy(call: Call) -> Response:
    return Response(200, policy_json(call.links, call.name, call.broker.certificates.policy(call.vault, call.name)))


def update_policy(call: Call) -> Response:
    revise = reviser(decode(call.body, PolicyJSON), required=False)
    policy = call.broker.certificates.update_policy(call.caller, call.vault, call.name, revise)
    return Response(200, policy_json(call.links, call.name, policy))


def get_operation(call: Call) -> Response:
    operation = call.broker.certificates.operation(call.vault, call.name, call.query.get("request_id"))
    return Response(200, operation_json(call, operation))


def cancel(call: Call) -> Response:
    if not decode(call.body, CancelJSON).cancellation_requested:
        raise Invalid("cancellation_requested can only be set to true.")
    return Response(200, operation_json(call, call.broker.certificates.cancel(call.caller, call.vault, call.name)))


def forget(call: Call) -> Response:
    operation = call.broker.certificates.forget_operation(call.caller, call.vault, call.name)
    return Response(200, operation_json(call, operation))


def merge(call: Call) -> Response:
    wanted = decode(call.body, MergeJSON)
    certificates = tuple(der for text in wanted.x5c for der in _certificates(text))
    view = call.broker.certificates.merge(
        call.caller, call.vault, call.name, certificates, changes(wanted.attributes, wanted.tags)
    )
    return Response(201, view_json(call, view))


def view_json(call: Call, view: CertificateView) -> dict[str, Any]:
    """A certificate bundle with its policy and operation, as far as the view has them."""
    found = certificate_json(call, view.version)
    name = view.version.name
    if view.policy is not None:
        found["policy"] = policy_json(call.links, name, view.policy)
    if view.operation is not None:
        found["pending"] = {"id": call.links.pending(name)}
    if view.revocation is not None:
        found["revocation"] = revocation_json(view.revocation)
    return found


def certificate_json(call: Call, version: Version) -> dict[str, Any]:
    """A certificate bundle without policy and operation."""
    name, number = version.name, version.version
    found: dict[str, Any] = {
        "id": call.links.object(Kind.CERTIFICATE, name, number),
        "attributes": attributes_json(version.attributes, call.vault.recovery),
        "tags": version.tags,
    }
    facts = version.certificate
    if facts is not None:
        found |= {
            "kid": call.links.object(Kind.KEY, name, number),
            "sid": call.links.object(Kind.SECRET, name, number),
            "x5t": base64url(bytes.fromhex(facts.sha1)),
            "cer": base64.b64encode(facts.leaf).decode(),
            "contentType": version.content_type,
            "preserveCertOrder": facts.preserve_order,
        }
    return found


def operation_json(call: Call, operation: Operation) -> dict[str, Any]:
    """A certificate operation."""
    status, details, problem = _status(operation)
    csr = states.csr_of(operation.state)
    found: dict[str, Any] = {
        "id": call.links.pending(operation.name),
        "issuer": {"name": operation.issuer},
        "cancellation_requested": operation.cancellation_requested,
        "status": status,
        "status_details": f"{operation.cause.reason.rstrip('.')}. {details}" if operation.cause else details,
        "request_id": operation.id,
        "preserveCertOrder": operation.preserve_order,
    }
    if operation.cause is not None:
        found["cause"] = {
            "trigger": operation.cause.trigger,
            "reason": operation.cause.reason,
            "replaces": call.links.object(Kind.CERTIFICATE, operation.name, operation.cause.replaces),
        }
    if csr is not None:
        found["csr"] = base64.b64encode(csr).decode()
    if problem is not None:
        found["error"] = {"code": problem.code, "message": problem.message}
        if problem.detail:
            found["error"]["innererror"] = {"code": problem.code, "message": problem.detail}
    if status == "completed":
        found["target"] = call.links.object(Kind.CERTIFICATE, operation.name)
    return found


def _status(operation: Operation) -> tuple[str, str, Problem | None]:
    """The Key Vault status, who acts next, and what went wrong."""
    match operation.state:
        case states.Prepared():
            return "inProgress", "Pending certificate created. Its key is being made.", None
        case states.AwaitingIssuer(_, _, detail, _, problem):
            return "inProgress", detail, problem
        case states.AwaitingMerge():
            details = (
                "Pending certificate created. Please Perform Merge to complete the request: have its CSR signed, and "
                "merge the certificate."
            )
            return "inProgress", details, None
        case states.Completed() if operation.rest:
            details = "The certificate has been issued and stored. It rests before it becomes the current version."
            return "completed", details, None
        case states.Completed():
            return "completed", "The certificate has been issued and stored.", None
        case states.Failed(problem):
            return "failed", problem.message, problem
        case states.Cancelled():
            return "cancelled", "The operation was cancelled by its owner.", None


def _certificate_data(value: str) -> bytes:
    """What an import brings: a PFX in base64, PEM text, or PEM text in base64."""
    if "-----BEGIN" in value:
        return value.encode()
    return from_base64(value, "value")


def _certificates(text: str) -> list[bytes]:
    """The certificates in one item of x5c: DER in base64, PEM, or base64 of either (one SDK sends that)."""
    data = text.encode() if "-----BEGIN" in text else from_base64(text, "x5c")
    if data[:1] != b"\x30" and b"-----BEGIN" not in data:
        data = from_base64(data.decode("latin-1"), "x5c")
    if b"-----BEGIN" not in data:
        return [data]
    blocks = data.decode("latin-1").split("-----BEGIN CERTIFICATE-----")[1:]
    return [from_base64(block.partition("-----END")[0], "x5c") for block in blocks]


def register(router: Router) -> None:
    router.add(
        "POST",
        "/certificates/{name}/renew",
        Route("CertificateRenew", "certificates/create/action", renew, writes=True),
    )
    read = Route("CertificateGet", "certificates/read", get, quick=True)
    change = Route("CertificateUpdate", "certificates/update/action", update, writes=True)
    for pattern in ("/certificates/{name}", "/certificates/{name}/{version}"):
        router.add("GET", pattern, read)
        router.add("PATCH", pattern, change)
    for lane, handler, soon in (("create", create, create_soon), ("import", import_, None)):
        operation, action = f"Certificate{lane.capitalize()}", f"certificates/{lane}/action"
        route = Route(operation, action, handler, writes=True, lane=lane, soon=soon)
        router.add("POST", f"/certificates/{{name}}/{lane}", route)
    for method, pattern, operation, action, handler in (
        ("PATCH", "policy", "CertificatePolicySet", "update/action", update_policy),
        ("PATCH", "pending", "CertificatePendingUpdate", "update/action", cancel),
        ("DELETE", "pending", "CertificatePendingDelete", "update/action", forget),
        ("POST", "pending/merge", "CertificatePendingMerge", "create/action", merge),
    ):
        router.add(
            method,
            f"/certificates/{{name}}/{pattern}",
            Route(operation, f"certificates/{action}", handler, writes=True),
        )
    for segment, operation, handler in (
        ("policy", "CertificatePolicyGet", get_policy),
        ("pending", "CertificatePendingGet", get_operation),
    ):
        router.add(
            "GET", f"/certificates/{{name}}/{segment}", Route(operation, "certificates/read", handler, quick=True)
        )
