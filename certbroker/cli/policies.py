"""`certbroker certificate policy`: what the next version of a certificate will be."""

from __future__ import annotations

from typing import Any

import typer

from certbroker.cli import wanted
from certbroker.cli.options import CertificateName
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

app = typer.Typer(no_args_is_help=True)


@app.command()
@vault_command
def show(session: Session, name: CertificateName) -> None:
    """Show the policy of a certificate. `-o json` prints what `--policy` takes."""
    policy = session.vault.get(at("certificates", name, "policy"))
    session.output.record(policy, lambda: rows(policy))


@app.command("set")
@vault_command
def set_policy(
    session: Session,
    name: CertificateName,
    *,
    policy: wanted.PolicyFile = None,
    issuer: wanted.Issuer = None,
    subject: wanted.Subject = None,
    dns: wanted.DNSNames = None,
    ip: wanted.IPAddresses = None,
    email: wanted.Emails = None,
    uri: wanted.URIs = None,
    kty: wanted.KeyType = None,
    size: wanted.KeySize = None,
    curve: wanted.Curve = None,
    pem: wanted.PEM = None,
    exportable: wanted.Exportable = None,
    reuse_key: wanted.ReuseKey = None,
    validity: wanted.Validity = None,
    renew_at: wanted.RenewAt = None,
    renew_before: wanted.RenewBefore = None,
    standby: wanted.Standby = None,
    activation_delay: wanted.ActivationDelay = None,
) -> None:
    """Change the policy from the next version on; what is not given stays as it is."""
    asked = wanted.Wanted(
        issuer=issuer,
        subject=subject,
        dns=dns,
        ip=ip,
        email=email,
        uri=uri,
        kty=kty,
        size=size,
        curve=curve,
        pem=pem,
        exportable=exportable,
        reuse_key=reuse_key,
        validity=validity,
        renew_at=renew_at,
        renew_before=renew_before,
        standby=standby,
        activation_delay=activation_delay,
        file=policy,
    ).policy(keep_subject=True)
    if not asked:
        raise typer.BadParameter("Nothing to change was given.", param_hint="--policy")
    changed = session.vault.patch(at("certificates", name, "policy"), asked)
    session.output.done(f"The policy of {name} is changed.", changed)


def rows(policy: dict[str, Any]) -> dict[str, object]:
    """A policy for people."""
    key, x509 = policy.get("key_props", {}), policy.get("x509_props", {})
    names = [name for values in (x509.get("sans") or {}).values() for name in values]
    return {
        "issuer": policy.get("issuer", {}).get("name"),
        "subject": x509.get("subject"),
        "names": names,
        "key": " ".join(
            str(part)
            for part in (
                key.get("kty"),
                key.get("crv") or key.get("key_size"),
                "exportable" if key.get("exportable") else "not exportable",
                "kept at renewal" if key.get("reuse_key") else "new at renewal",
            )
        ),
        "secret": policy.get("secret_props", {}).get("contentType"),
        "validity": f"{x509.get('validity_months')} months",
        "key usage": ", ".join(x509.get("key_usage") or ()),
        "extended key usage": ", ".join(x509.get("ekus") or ()),
        "lifetime": [_action(action) for action in policy.get("lifetime_actions") or ()],
        "standby issuers": (policy.get("renewal") or {}).get("standby_issuers"),
        "activation": _activation((policy.get("renewal") or {}).get("activation_delay_hours")),
    }


def _action(action: dict[str, Any]) -> str:
    trigger, kind = action["trigger"], action["action"]["action_type"]
    if trigger.get("lifetime_percentage") is not None:
        return f"{kind} at {trigger['lifetime_percentage']} %"
    return f"{kind} {trigger.get('days_before_expiry')} days before it expires"


def _activation(hours: int | None) -> str | None:
    return None if hours is None else f"{hours} hours after a renewal"
