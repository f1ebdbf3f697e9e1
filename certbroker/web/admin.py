"""Administration of the broker itself: vaults, applications, secrets of applications, and roles.

Only callers with the role Broker Administrator at `/` come in; tokens must be for the broker's own host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from certbroker.domain.access import MANAGE, ROLES
from certbroker.domain.audit import Caller, record
from certbroker.domain.errors import BrokerError, Unauthenticated
from certbroker.domain.objects import Vault
from certbroker.services.broker import Broker
from certbroker.services.health.doctor import Wanted
from certbroker.web.admin_discovery import DiscoveryAdministration
from certbroker.web.admin_drills import DrillAdministration
from certbroker.web.akv.messages import decode
from certbroker.web.errors import refusal
from certbroker.web.hosts import Hosts
from certbroker.web.http import receive_body
from certbroker.web.status_json import checkup_json, source_json, status_json

_MAX_BODY: Final = 64 * 1024
_MOST_SOURCES: Final = 1000

Handler = Callable[[Caller, Request, bytes], Any]


class VaultBody(msgspec.Struct, forbid_unknown_fields=True):
    """A vault to make."""

    name: str
    tier: str = "standard"
    soft_delete_days: int = 90
    purge_protection: bool = False


class ApplicationBody(msgspec.Struct, forbid_unknown_fields=True):
    """An application to make."""

    name: str


class SecretBody(msgspec.Struct, forbid_unknown_fields=True):
    """A client secret to make."""

    days: int = 180


class EnabledBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whether an application may come in."""

    enabled: bool


class AssignmentBody(msgspec.Struct, forbid_unknown_fields=True):
    """A role to give."""

    application: str
    role: str
    scope: str


class Administration:
    """The endpoints below `/admin`."""

    def __init__(self, broker: Broker, hosts: Hosts) -> None:
        self._broker = broker
        self._hosts = hosts

    def routes(self) -> list[Route]:
        """Where they are served."""
        application = "/admin/applications/{application}"
        return [
            self._route("GET", "/admin/vaults", "VaultList", self.list_vaults),
            self._route("POST", "/admin/vaults", "VaultCreate", self.create_vault),
            self._route("GET", "/admin/status", "BrokerStatus", self.status),
            self._route("POST", "/admin/doctor", "CheckupStart", self.start_checkup),
            self._route("GET", "/admin/doctor/{checkup}", "CheckupGet", self.see_checkup),
            self._route("GET", "/admin/revocation/sources", "RevocationSourceList", self.list_sources),
            self._route("GET", "/admin/seal", "SealStatus", self.seal_status),
            self._route("POST", "/admin/seal/rotate", "SealRotate", self.rotate_seal),
            self._route("GET", "/admin/roles", "RoleList", self.list_roles),
            self._route("GET", "/admin/applications", "ApplicationList", self.list_applications),
            self._route("POST", "/admin/applications", "ApplicationCreate", self.create_application),
            self._route("DELETE", application, "ApplicationDelete", self.delete_application),
            self._route("PATCH", application, "ApplicationUpdate", self.update_application),
            self._route("GET", f"{application}/secrets", "ApplicationSecretList", self.list_secrets),
            self._route("POST", f"{application}/secrets", "ApplicationSecretAdd", self.add_secret),
            self._route("DELETE", f"{application}/secrets/{{secret}}", "ApplicationSecretRemove", self.remove_secret),
            self._route("GET", "/admin/assignments", "RoleAssignmentList", self.list_assignments),
            self._route("POST", "/admin/assignments", "RoleAssignmentCreate", self.assign),
            self._route("DELETE", "/admin/assignments/{assignment}", "RoleAssignmentDelete", self.unassign),
            *(self._route(*each) for each in DrillAdministration(self._broker).handlers()),
            *(self._route(*each) for each in DiscoveryAdministration(self._broker).handlers()),
        ]

    def list_vaults(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [_vault_json(vault) for vault in self._broker.vaults.listing()]}

    def create_vault(self, caller: Caller, request: Request, body: bytes) -> Any:
        wanted = decode(body, VaultBody)
        vault = self._broker.vaults.create(
            caller,
            wanted.name,
            tier=wanted.tier,
            days=wanted.soft_delete_days,
            purge_protection=wanted.purge_protection,
        )
        return _vault_json(vault)

    def status(self, caller: Caller, request: Request, body: bytes) -> Any:
        return status_json(self._broker.status.report())

    def start_checkup(self, caller: Caller, request: Request, body: bytes) -> Any:
        wanted = decode(body or b"{}", Wanted)
        self._note(caller, request.url.path)
        return checkup_json(self._broker.doctor.start(wanted))

    def see_checkup(self, caller: Caller, request: Request, body: bytes) -> Any:
        return checkup_json(self._broker.doctor.seen(request.path_params["checkup"]))

    def list_sources(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [source_json(source) for source in self._broker.watching.listing(_MOST_SOURCES)]}

    def seal_status(self, caller: Caller, request: Request, body: bytes) -> Any:
        return msgspec.to_builtins(self._broker.rotation.status())

    def rotate_seal(self, caller: Caller, request: Request, body: bytes) -> Any:
        return msgspec.to_builtins(self._broker.rotation.rotate(caller))

    def list_roles(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [{"name": name, "actions": list(actions)} for name, actions in ROLES.items()]}

    def list_applications(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [msgspec.to_builtins(application) for application in self._broker.access.applications()]}

    def create_application(self, caller: Caller, request: Request, body: bytes) -> Any:
        return msgspec.to_builtins(self._broker.access.create_application(caller, decode(body, ApplicationBody).name))

    def delete_application(self, caller: Caller, request: Request, body: bytes) -> Any:
        self._broker.access.delete_application(caller, request.path_params["application"])
        self._broker.tokens.forget()

    def update_application(self, caller: Caller, request: Request, body: bytes) -> Any:
        enabled = decode(body, EnabledBody).enabled
        application = self._broker.access.enable_application(
            caller, request.path_params["application"], enabled=enabled
        )
        self._broker.tokens.forget()
        return msgspec.to_builtins(application)

    def list_secrets(self, caller: Caller, request: Request, body: bytes) -> Any:
        secrets = self._broker.access.secrets_of(request.path_params["application"])
        return {"value": [{"id": each.id, "created": each.created, "expires": each.expires} for each in secrets]}

    def add_secret(self, caller: Caller, request: Request, body: bytes) -> Any:
        days = decode(body or b"{}", SecretBody).days
        credential, secret = self._broker.access.add_secret(caller, request.path_params["application"], days)
        return {"id": credential.id, "secret": secret, "expires": credential.expires}

    def remove_secret(self, caller: Caller, request: Request, body: bytes) -> Any:
        parameters = request.path_params
        self._broker.access.remove_secret(caller, parameters["application"], parameters["secret"])

    def list_assignments(self, caller: Caller, request: Request, body: bytes) -> Any:
        return {"value": [msgspec.to_builtins(assignment) for assignment in self._broker.access.assignments()]}

    def assign(self, caller: Caller, request: Request, body: bytes) -> Any:
        wanted = decode(body, AssignmentBody)
        application = self._broker.access.application(wanted.application)
        return msgspec.to_builtins(self._broker.access.assign(caller, application.object_id, wanted.role, wanted.scope))

    def unassign(self, caller: Caller, request: Request, body: bytes) -> Any:
        self._broker.access.unassign(caller, request.path_params["assignment"])

    def _route(self, method: str, path: str, operation: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            request.scope["path_params"] = {name: unquote(value) for name, value in request.path_params.items()}
            address = request.client.host if request.client else ""
            caller = Caller("", operation, "", address, request.headers.get("x-ms-client-request-id", "")[:64])
            principal = self._authenticate(request)
            caller = replace(caller, principal=principal)
            try:
                self._broker.access.authorize(principal, MANAGE, "/")
                body = await receive_body(request.receive, _MAX_BODY)
                result = await run_in_threadpool(handler, caller, request, body)
            except BrokerError as error:
                refused = refusal(error)
                self._audit(caller, path, refused.body["error"]["code"], refused.status)
                raise
            if method == "GET":
                self._audit(caller, path, "ok", 200)
            return Response(status_code=204) if result is None else JSONResponse(result)

        return Route(path, endpoint, methods=[method])

    def _audit(self, caller: Caller, target: str, outcome: str, status: int) -> None:
        self._broker.store.audit_read(record(caller, self._broker.clock.now(), target, outcome, status))

    def _note(self, caller: Caller, target: str) -> None:
        """Put on record, durably, what asks the outside world and changes nothing here."""
        self._broker.store.audit(record(caller, self._broker.clock.now(), target))

    def _authenticate(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(f"A bearer token for {self._hosts.management_audience} is missing.")
        principal = self._broker.tokens.verify(token.strip())
        if principal.audience != self._hosts.management_audience:
            raise Unauthenticated(f"The token is for {principal.audience}, not {self._hosts.management_audience}.")
        return principal.object_id


def _vault_json(vault: Vault) -> dict[str, Any]:
    return {
        "name": vault.name,
        "tier": vault.tier,
        "soft_delete_days": vault.recovery.days,
        "purge_protection": vault.recovery.purge_protection,
        "created": vault.created,
    }
