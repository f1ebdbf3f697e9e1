"""The certificate policy that a command line asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from certbroker.cli.options import present

_KEY = "Key"
_NAMES = "Names and issuer"
_LIFE = "Lifetime"

Issuer = Annotated[
    str | None,
    typer.Option(help="Self, Unknown (you carry the CSR out), or an issuer of the vault.", rich_help_panel=_NAMES),
]
Subject = Annotated[str | None, typer.Option(help="Subject, such as CN=www.example.com.", rich_help_panel=_NAMES)]
DNSNames = Annotated[
    list[str] | None, typer.Option("--dns", help="A DNS name; may be repeated.", rich_help_panel=_NAMES)
]
IPAddresses = Annotated[
    list[str] | None, typer.Option("--ip", help="An IP address; may be repeated.", rich_help_panel=_NAMES)
]
Emails = Annotated[
    list[str] | None, typer.Option("--email", help="A mail address; may be repeated.", rich_help_panel=_NAMES)
]
URIs = Annotated[list[str] | None, typer.Option("--uri", help="A URI; may be repeated.", rich_help_panel=_NAMES)]
KeyType = Annotated[str | None, typer.Option("--kty", help="RSA or EC.", rich_help_panel=_KEY)]
KeySize = Annotated[
    int | None, typer.Option("--size", help="Bits of an RSA key: 2048, 3072 or 4096.", rich_help_panel=_KEY)
]
Curve = Annotated[
    str | None, typer.Option("--curve", help="P-256, P-384, P-521 or P-256K; means EC.", rich_help_panel=_KEY)
]
PEM = Annotated[
    bool | None, typer.Option("--pem/--pfx", help="Form of the secret with key and chain.", rich_help_panel=_KEY)
]
Exportable = Annotated[
    bool | None,
    typer.Option("--exportable/--not-exportable", help="Whether the key can leave the vault.", rich_help_panel=_KEY),
]
ReuseKey = Annotated[
    bool | None, typer.Option("--reuse-key/--new-key", help="Keep the key at renewals.", rich_help_panel=_KEY)
]
Validity = Annotated[int | None, typer.Option("--validity", metavar="MONTHS", help="Validity.", rich_help_panel=_LIFE)]
RenewAt = Annotated[
    int | None,
    typer.Option(
        "--renew-at", min=1, max=99, metavar="PERCENT", help="Renew at this part of its life.", rich_help_panel=_LIFE
    ),
]
RenewBefore = Annotated[
    int | None,
    typer.Option(
        "--renew-before", min=1, metavar="DAYS", help="Renew so long before it expires.", rich_help_panel=_LIFE
    ),
]
Standby = Annotated[
    list[str] | None,
    typer.Option(
        "--standby",
        metavar="ISSUER",
        help="Asked when the issuer is down, limited, or refuses; may be repeated.",
        rich_help_panel=_NAMES,
    ),
]
ActivationDelay = Annotated[
    int | None,
    typer.Option(
        "--activation-delay",
        min=0,
        metavar="HOURS",
        help="A renewed version becomes current so long after it was made.",
        rich_help_panel=_LIFE,
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", exists=True, dir_okay=False, help="A policy in JSON; the other options go before it."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say; None where they say nothing."""

    issuer: str | None = None
    subject: str | None = None
    dns: list[str] | None = None
    ip: list[str] | None = None
    email: list[str] | None = None
    uri: list[str] | None = None
    kty: str | None = None
    size: int | None = None
    curve: str | None = None
    pem: bool | None = None
    exportable: bool | None = None
    reuse_key: bool | None = None
    validity: int | None = None
    renew_at: int | None = None
    renew_before: int | None = None
    standby: list[str] | None = None
    activation_delay: int | None = None
    file: Path | None = None

    def policy(self, *, keep_subject: bool = False) -> dict[str, Any]:
        """The policy in the form of the API, with only the parts that were given."""
        policy = {} if self.file is None else _read(self.file)
        kty = self.kty or ("EC" if self.curve else None)
        _update(
            policy,
            "key_props",
            present(kty=kty, key_size=self.size, crv=self.curve, exportable=self.exportable, reuse_key=self.reuse_key),
        )
        form = None if self.pem is None else ("application/x-pem-file" if self.pem else "application/x-pkcs12")
        _update(policy, "secret_props", present(contentType=form))
        sans = present(dns_names=self.dns, ipAddresses=self.ip, emails=self.email, uris=self.uri)
        _update(
            policy,
            "x509_props",
            present(
                subject=self.subject if keep_subject else self._subject(policy),
                sans=sans or None,
                validity_months=self.validity,
            ),
        )
        _update(policy, "issuer", present(name=self.issuer))
        if self.renew_at is not None or self.renew_before is not None:
            trigger = present(lifetime_percentage=self.renew_at, days_before_expiry=self.renew_before)
            policy["lifetime_actions"] = [{"trigger": trigger, "action": {"action_type": "AutoRenew"}}]
        renewal = present(standby_issuers=self.standby, activation_delay_hours=self.activation_delay)
        _update(policy, "renewal", renewal)
        return policy

    def _subject(self, policy: dict[str, Any]) -> str | None:
        """The subject: without one, the first DNS name is the common name, if it is short enough."""
        if self.subject is not None or "subject" in policy.get("x509_props", {}):
            return self.subject
        first = (self.dns or [""])[0]
        # RFC 5280 appendix A.1: ub-common-name is 64.
        return f"CN={first}" if first and len(first) <= 64 else None


def _update(policy: dict[str, Any], part: str, values: dict[str, object]) -> None:
    if values:
        policy[part] = {**(policy.get(part) or {}), **values}


def _read(path: Path) -> dict[str, Any]:
    try:
        policy = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}.", param_hint="--policy") from None
    if not isinstance(policy, dict):
        raise typer.BadParameter(f"{path} does not hold a policy.", param_hint="--policy")
    return policy
