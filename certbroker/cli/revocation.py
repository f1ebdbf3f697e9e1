"""`certbroker certificate revoke`."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import typer

from certbroker.cli.options import CertificateName, Yes, confirm, present
from certbroker.cli.output import version_of, when
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command

_Version = Annotated[str, typer.Argument(metavar="[VERSION]", help="A version; the current one otherwise.")]
_Reason = Annotated[
    str,
    typer.Option(
        help="keyCompromise, superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn or unspecified."
    ),
]
_Issuer = Annotated[
    str | None, typer.Option(metavar="NAME", help="The issuer that can revoke it, where that is not known.")
]
_Renew = Annotated[
    bool | None,
    typer.Option("--renew/--no-renew", help="Make a successor at once; by default where the key is compromised."),
]


@vault_command
def revoke(
    session: Session,
    name: CertificateName,
    version: _Version = "",
    *,
    reason: _Reason,
    issuer: _Issuer = None,
    renew: _Renew = None,
    yes: Yes = False,
) -> None:
    """Revoke a certificate at its CA, for good."""
    from certbroker.cli.leaf import read_leaf

    if not version or not yes:
        view = session.vault.get(at("certificates", name, version))
        version = version_of(view["id"])
        leaf = read_leaf(base64.b64decode(view.get("cer") or ""))
        what = f"{name}, version {version}: {leaf.subject or ', '.join(leaf.names)}, serial {leaf.serial}"
        confirm(f"Revoke the certificate {what}, for ever?", yes=yes)
    body = present(reason=reason, issuer=issuer, renew=renew)
    found = session.vault.post(at("certificates", name, version, "revoke"), body)
    if found["status"] == "pending":
        text = f"is not revoked yet; the broker goes on asking. {found.get('problem', '')}".rstrip()
    else:
        text = "is revoked." if not found["renew"] else "is revoked, and its successor is made."
    session.output.done(f"certificate {name}, version {version}, {text}", found)


def told(revocation: dict[str, Any] | None) -> str | None:
    """One line about the revocation of a certificate, if there is anything to tell."""
    if revocation is None:
        return None
    status, reason = revocation["status"], revocation["reason"]
    at = when(revocation.get("revoked"))
    return " ".join(part for part in (status, at, f"({reason})", revocation.get("problem")) if part)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(revoke)
