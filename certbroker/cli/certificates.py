"""`certbroker certificate`: certificates, their making and their downloading."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from certbroker.cli import endpoints, lifecycle, policies, revocation, wanted
from certbroker.cli.options import CertificateName, Enabled, PasswordFile, Tags, Version, first_line, present, read_tags
from certbroker.cli.output import name_of, remaining, tags, thumbprint, version_of, when, write_private
from certbroker.cli.paths import at
from certbroker.cli.session import Session, vault_command
from certbroker.domain import pem

_PENDING = "While it is being made"

app = typer.Typer(no_args_is_help=True)
app.add_typer(policies.app, name="policy", help="What the next version will be: show, set.")
app.add_typer(endpoints.app, name="endpoint", help="Where it should be served: add, list, remove.")

_CSRFile = Annotated[
    Path | None, typer.Option("--csr-file", dir_okay=False, help="Write the signing request there, as PEM.")
]
_Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is there, or could not be made.")]


@app.command()
@vault_command
def create(
    session: Session,
    name: CertificateName,
    *,
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
    policy: wanted.PolicyFile = None,
    tag: Tags = None,
    enabled: Enabled = None,
    wait: _Wait = False,
    csr_file: _CSRFile = None,
) -> None:
    """Make a certificate, or its next version; without options, by the policy that it has."""
    from certbroker.cli import waiting

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
    )
    body = present(policy=asked.policy() or None, tags=read_tags(tag), attributes=present(enabled=enabled) or None)
    vault = session.vault
    operation = vault.post(at("certificates", name, "create"), body)
    if csr_file is not None:
        operation = waiting.wait(vault, name, operation, enough=lambda each: "csr" in each)
        waiting.check(operation)
        _write_csr(session, operation, csr_file)
    if wait:
        operation = waiting.wait(vault, name, operation)
        waiting.check(operation)
    if operation["status"] == "completed":
        view = vault.get(at("certificates", name, ""))
        session.output.done(f"certificate {name} is there, version {version_of(view['id'])}.", view)
        return
    if waiting.waits_for_merge(operation):
        text = "waits for you: have its signing request signed, then run `certbroker certificate merge`."
    else:
        text = "is being made; `certbroker certificate pending` shows how far it is."
    session.output.done(f"certificate {name} {text}", operation)


@app.command("list")
@vault_command
def list_certificates(
    session: Session,
    *,
    pending: Annotated[bool, typer.Option("--pending", help="Also those that have no version yet.")] = False,
) -> None:
    """List the certificates."""
    columns = {
        "name": lambda item: name_of(item["id"]),
        "enabled": lambda item: item["attributes"].get("enabled"),
        "expires": lambda item: remaining(item["attributes"].get("exp")),
        "thumbprint": lambda item: thumbprint(item.get("x5t")),
        "tags": tags,
    }
    query = {"includePending": "true"} if pending else {}
    session.output.listing(session.vault.items(at("certificates"), **query), columns, "No certificates.")


@app.command()
@vault_command
def show(session: Session, name: CertificateName, version: Version = "") -> None:
    """Show a certificate."""
    view = session.vault.get(at("certificates", name, version))
    session.output.record(view, lambda: _rows(view))


@app.command(rich_help_panel=_PENDING)
@vault_command
def pending(session: Session, name: CertificateName, *, csr_file: _CSRFile = None) -> None:
    """Show how far the making of a certificate is, who acts next, and what went wrong."""
    operation = session.vault.get(at("certificates", name, "pending"))
    if csr_file is not None:
        _write_csr(session, operation, csr_file)
    error = operation.get("error") or {}
    rows = {
        "name": name,
        "issuer": operation["issuer"]["name"],
        "status": operation["status"],
        "details": operation.get("status_details"),
        "error": error.get("code"),
        "CA said": (error.get("innererror") or {}).get("message"),
        "request": operation["request_id"],
        "signing request": "--csr-file writes it" if "csr" in operation and csr_file is None else None,
    }
    session.output.record(operation, rows)


@app.command()
@vault_command
def health(session: Session, name: CertificateName) -> None:
    """Show how a certificate is looked after: its health, why, and what comes next."""
    found = session.vault.get(at("certificates", name, "lifecycle"))
    session.output.record(found, lambda: _health_rows(found))


@app.command()
@vault_command
def renew(
    session: Session,
    name: CertificateName,
    *,
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")] = "",
    wait: _Wait = False,
) -> None:
    """Renew a certificate now. A renewal that fails is tried again by itself."""
    from certbroker.cli import waiting

    operation = session.vault.post(at("certificates", name, "renew"), {"reason": reason})
    if wait:
        operation = waiting.wait(session.vault, name, operation)
        waiting.check(operation)
    ended = operation["status"] == "completed"
    session.output.done(f"certificate {name} {'is renewed' if ended else 'is being renewed'}.", operation)


@app.command(rich_help_panel=_PENDING)
@vault_command
def cancel(
    session: Session,
    name: CertificateName,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Forget the operation, whatever its state.")] = False,
) -> None:
    """Stop the making of a certificate; a version that exists stays."""
    path = at("certificates", name, "pending")
    if delete:
        session.output.done(f"The operation of {name} is deleted.", session.vault.delete(path))
    else:
        operation = session.vault.patch(path, {"cancellation_requested": True})
        session.output.done(f"The operation of {name} will be cancelled.", operation)


@app.command(rich_help_panel=_PENDING)
@vault_command
def merge(
    session: Session,
    name: CertificateName,
    file: Annotated[
        list[Path],
        typer.Option("--file", "-f", exists=True, dir_okay=False, help="PEM or DER; may be repeated for a chain."),
    ],
    *,
    tag: Tags = None,
) -> None:
    """Bring the certificate that a CA has issued for the signing request, with its chain."""
    chain = [base64.b64encode(der).decode() for path in file for der in _certificates(path)]
    view = session.vault.post(at("certificates", name, "pending", "merge"), present(x5c=chain, tags=read_tags(tag)))
    session.output.done(f"certificate {name} is merged, version {version_of(view['id'])}.", view)


@app.command("import")
@vault_command
def import_certificate(
    session: Session,
    name: CertificateName,
    file: Annotated[Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="PFX, or PEM with the key.")],
    *,
    password_file: PasswordFile = None,
    exportable: wanted.Exportable = None,
    tag: Tags = None,
) -> None:
    """Take over a certificate that exists, with its key and chain."""
    data = file.read_bytes()
    policy = None if exportable is None else {"key_props": {"exportable": exportable}}
    body = present(
        value=base64.b64encode(data).decode(),
        pwd=None if password_file is None else first_line(password_file),
        policy=policy,
        tags=read_tags(tag),
    )
    view = session.vault.post(at("certificates", name, "import"), body)
    session.output.done(f"certificate {name} is imported, version {version_of(view['id'])}.", view)


@app.command()
@vault_command
def download(
    session: Session,
    name: CertificateName,
    file: Annotated[Path, typer.Option("--file", "-f", dir_okay=False, help="Where to; with a key in it, mode 0600.")],
    version: Version = "",
    *,
    der: Annotated[bool, typer.Option("--der", help="The certificate alone, in DER instead of PEM.")] = False,
    chain: Annotated[bool, typer.Option("--chain", help="With its chain, in PEM.")] = False,
    key: Annotated[bool, typer.Option("--key", help="With its chain and private key, in PEM.")] = False,
    pfx: Annotated[
        bool, typer.Option("--pfx", help="With its chain and private key, as a PFX without password.")
    ] = False,
) -> None:
    """Write a certificate to a file. A chain or key needs the right to read its secret."""
    if der + chain + key + pfx > 1:
        raise typer.BadParameter("Choose one.", param_hint="--der, --chain, --key, --pfx")
    vault = session.vault
    if chain or key:
        found = vault.get(at("secrets", name, version), outContentType="application/x-pem-file")
        text = found["value"].encode()
        write_private(file, text if key else b"".join(block + b"\n" for block in _certificate_blocks(text)))
    elif pfx:
        found = vault.get(at("secrets", name, version))
        if found.get("contentType") != "application/x-pkcs12":
            raise typer.BadParameter(f"The secret of {name} is kept as PEM: use --key.", param_hint="--pfx")
        write_private(file, base64.b64decode(found["value"]))
    else:
        cer = base64.b64decode(vault.get(at("certificates", name, version))["cer"])
        file.write_bytes(cer if der else _pem("CERTIFICATE", cer).encode())
    session.output.note(f"certificate {name} is in {file}.")


@app.command()
@vault_command
def update(
    session: Session, name: CertificateName, version: Version = "", *, tag: Tags = None, enabled: Enabled = None
) -> None:
    """Change tags, as a whole, or switch a version on or off."""
    body = present(tags=read_tags(tag), attributes=present(enabled=enabled) or None)
    changed = session.vault.patch(at("certificates", name, version), body)
    session.output.done(f"certificate {name} is changed.", changed)


revocation.register(app)
lifecycle.register(app, "certificate")


def _rows(view: dict[str, Any]) -> dict[str, object]:
    from certbroker.cli.leaf import read_leaf

    policy = view.get("policy") or {}
    rows: dict[str, object] = {"name": name_of(view["id"]), "version": version_of(view["id"])}
    if "cer" in view:
        leaf = read_leaf(base64.b64decode(view["cer"]))
        rows |= {
            "subject": leaf.subject,
            "names": leaf.names,
            "issued by": leaf.issuer,
            "key": leaf.key,
            "serial": leaf.serial,
            "valid from": when(leaf.not_before),
            "expires": remaining(leaf.not_after),
            "SHA-1": leaf.sha1,
            "SHA-256": leaf.sha256,
        }
    return rows | {
        "issuer": policy.get("issuer", {}).get("name"),
        "enabled": view["attributes"].get("enabled"),
        "revocation": revocation.told(view.get("revocation")),
        "tags": tags(view),
    }


def _health_rows(found: dict[str, Any]) -> dict[str, object]:
    window, point, failure = found.get("ca_window"), found.get("renewal_point"), found.get("failure")
    rows: dict[str, object] = {
        "health": found["health"],
        "reason": found["reason"],
        "since": when(found.get("since")),
        "next action": when(found.get("next_action")),
        "next look": when(found.get("next_look")),
        "renewal point": point and f"{when(point['at'])}, {point['rule']}",
        "CA suggests": window and f"{when(window['at'])}, of {when(window['start'])} to {when(window['end'])}",
        "the CA says why": window and window.get("explanation"),
        "expires": remaining(found.get("expires")),
        "revocation": _standing(found["revocation"]),
    }
    if failure:
        rows["last failure"] = f"{failure['code']}: {failure['message']}"
        rows["failures in a row"] = failure["in_a_row"]
        rows["tried again"] = when(failure["retry_at"])
    if staged := found.get("staged"):
        rows["next version"] = f"{version_of(staged['id'])}, in use from {when(staged['activates'])}"
    return rows


def _standing(found: dict[str, Any]) -> str:
    """Whether it is revoked, who says so, and how old that is."""
    asked = when(found.get("confirmed"))
    parts = (found["standing"], found.get("reason"), asked and f"Last heard {asked}.")
    return " ".join(str(part) for part in parts if part)


def _write_csr(session: Session, operation: dict[str, Any], path: Path) -> None:
    from certbroker.cli.client import CommandFailed, ExitCode

    if "csr" not in operation:
        raise CommandFailed(ExitCode.REFUSED, "There is no signing request yet: the key is still being made.")
    path.write_text(_pem("CERTIFICATE REQUEST", base64.b64decode(operation["csr"])))
    session.output.note(f"The signing request is in {path}.")


def _certificates(path: Path) -> list[bytes]:
    """The certificates in a file, in DER."""
    from certbroker.cli.client import CommandFailed, ExitCode

    data = path.read_bytes()
    try:
        blocks = _certificate_blocks(data)
    except ValueError as error:
        raise CommandFailed(ExitCode.USAGE, f"{path} was cut off, or its lines are garbled: {error}.") from None
    return [base64.b64decode(b"".join(block.splitlines()[1:-1])) for block in blocks] or [data]


def _certificate_blocks(data: bytes) -> list[bytes]:
    """The certificates in a text, as the blocks that they are."""
    return [block.text for block in pem.blocks(data) if block.label == pem.CERTIFICATE]


def _pem(label: str, der: bytes) -> str:
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[start : start + 64] for start in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
