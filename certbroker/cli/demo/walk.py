"""The walk: every route by which a certificate comes into a vault, through the API that every client uses."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from certbroker.cli import waiting
from certbroker.cli.client import Client, CommandFailed, Connection, ExitCode
from certbroker.cli.demo.outside_ca import OutsideCA
from certbroker.cli.demo.stage import DNS_PUBLISHER, Stage
from certbroker.cli.leaf import Leaf, read_leaf
from certbroker.cli.output import remaining
from certbroker.cli.paths import at, within

_DOMAIN: Final = "shop.example"

_REPLACED_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a certificate."""

    name: str
    title: str
    take: Callable[[str], None]
    needs_ca: bool = False


@dataclass(frozen=True, slots=True)
class Landed:
    """A certificate that has arrived, and the seconds that it took."""

    route: Route
    leaf: Leaf
    seconds: float


class Walk:
    """Takes the routes one after another."""

    def __init__(self, stage: Stage, connection: Connection, console: Console) -> None:
        self._ca = stage.ca
        self._list = stage.list
        self._vault: Client = connection.vault(stage.url)
        self._console = console
        self._outside = OutsideCA()
        self._routes = (
            Route("self-signed", "Self-signed, by the broker itself", self._self_signed),
            Route("carried-out", "A CSR carried out to a company's CA, and its answer merged", self._carried_out),
            Route("acme-http", "ACME with http-01, answered by the broker", self._by_http, needs_ca=True),
            Route("acme-dns", "ACME with dns-01, a wildcard, by a DNS hook", self._by_dns, needs_ca=True),
            Route("from-pfx", "Import of a PFX with a password", self._from_pfx),
            Route("from-pem", "Import of a PEM file", self._from_pem),
        )

    def all(self) -> bool:
        """Take every route and show what has come of it; whether all that could be taken were."""
        landed: list[Landed] = []
        failed = 0
        for number, route in enumerate(self._routes, 1):
            self._console.print(f"\n[bold]{number}  {route.title}[/bold]")
            if route.needs_ca and self._ca is None:
                self._console.print("   [yellow]![/yellow] left out: there is no test CA")
                continue
            try:
                arrived = self._take(route)
            except CommandFailed as failure:
                failed += 1
                self._console.print(f"   [red]✗ {escape(failure.code)} {escape(str(failure))}[/red]")
            else:
                landed.append(arrived)
                self._console.print(_details(arrived))
        if any(each.route.take == self._by_http for each in landed):
            failed += not self._see_revocation(len(self._routes) + 1)
        self._console.print()
        self._console.print(_summary(landed))
        total = sum(each.seconds for each in landed)
        self._console.print(f"\n{len(landed)} certificates in {total:.1f} s" + f", {failed} failed" * bool(failed))
        return not failed

    def _take(self, route: Route) -> Landed:
        began = time.monotonic()
        route.take(route.name)
        view = self._vault.get(at("certificates", route.name, ""))
        return Landed(route, read_leaf(base64.b64decode(view["cer"])), time.monotonic() - began)

    def _see_revocation(self, number: int) -> bool:
        """The CA revokes what it has issued, and nobody tells the broker."""
        self._console.print(f"\n[bold]{number}  Revoked by its CA: found in its CRL, replaced with another key[/bold]")
        began = time.monotonic()
        try:
            found, before, after = self._revoked("acme-http")
        except CommandFailed as failure:
            self._console.print(f"   [red]✗ {escape(failure.code)} {escape(str(failure))}[/red]")
            return False
        rows: dict[str, str | Text] = {
            "found": found,
            "replaced": f"{before.sha1[:8]}… by {after.sha1[:8]}…",
            "took": f"{time.monotonic() - began:.2f} s",
        }
        self._console.print(_rows(rows))
        return True

    def _revoked(self, name: str) -> tuple[str, Leaf, Leaf]:
        """What was found, and the certificate before and after. Raises CommandFailed."""
        assert self._ca is not None
        path = at("certificates", name)
        before = read_leaf(base64.b64decode(self._vault.get(path)["cer"]))
        self._list.publish(self._ca.management, int(before.serial.replace(":", ""), 16))
        self._console.print("   [dim]the CA publishes a CRL that has the certificate on it[/dim]")
        found = self._vault.post(within(path, "revocation", "check"))["reason"]
        after = before
        end = time.monotonic() + _REPLACED_SECONDS
        while after.sha1 == before.sha1 and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            after = read_leaf(base64.b64decode(self._vault.get(path)["cer"]))
        if after.sha1 == before.sha1:
            raise CommandFailed(ExitCode.REFUSED, f"It was not replaced within {_REPLACED_SECONDS} s: {found}")
        return found, before, after

    def _self_signed(self, name: str) -> None:
        self._create(name, "Self", [f"intranet.{_DOMAIN}"])

    def _carried_out(self, name: str) -> None:
        operation = self._create(name, "Unknown", [f"legacy.{_DOMAIN}", f"www.legacy.{_DOMAIN}"])
        self._console.print("   [dim]the company's CA signs the request with its intermediate[/dim]")
        chain = self._outside.sign(base64.b64decode(operation["csr"]))
        body = {"x5c": [base64.b64encode(each).decode() for each in chain]}
        self._vault.post(at("certificates", name, "pending", "merge"), body)

    def _by_http(self, name: str) -> None:
        self._set_issuer("pebble-http", "challenge=http-01")
        self._create(name, "pebble-http", [f"www.{_DOMAIN}", _DOMAIN])

    def _by_dns(self, name: str) -> None:
        self._set_issuer("pebble-dns", f"challenge=dns-01;dns={DNS_PUBLISHER}")
        self._create(name, "pebble-dns", [f"*.{_DOMAIN}"])

    def _from_pfx(self, name: str) -> None:
        password = secrets.token_urlsafe(12)
        self._import(name, self._outside.pfx(f"mail.{_DOMAIN}", password), pwd=password)

    def _from_pem(self, name: str) -> None:
        self._import(name, self._outside.pem(f"vpn.{_DOMAIN}"))

    def _set_issuer(self, issuer: str, options: str) -> None:
        assert self._ca is not None
        body = {"provider": "ACME", "org_details": {"id": f"directory={self._ca.directory_url};{options}"}}
        self._vault.put(at("certificates", "issuers", issuer), body)

    def _create(self, name: str, issuer: str, hosts: list[str]) -> dict[str, Any]:
        """The operation, once it has ended or waits for a merge. Raises CommandFailed."""
        policy = {
            "issuer": {"name": issuer},
            "x509_props": {"subject": f"CN={hosts[0]}", "sans": {"dns_names": hosts}},
            "key_props": {"kty": "EC", "crv": "P-256"},
        }
        operation = self._vault.post(at("certificates", name, "create"), {"policy": policy})
        operation = waiting.wait(self._vault, name, operation, console=self._console, indent="   ")
        waiting.check(operation)
        return operation

    def _import(self, name: str, data: bytes, **extra: str) -> None:
        body = {"value": base64.b64encode(data).decode(), **extra}
        self._vault.post(at("certificates", name, "import"), body)


def _details(landed: Landed) -> Table:
    leaf = landed.leaf
    return _rows({
        "names": ", ".join(leaf.names),
        "issuer": leaf.issuer,
        "not after": remaining(leaf.not_after),
        "thumbprint": leaf.sha1,
        "took": f"{landed.seconds:.2f} s",
    })  # fmt: skip


def _rows(rows: dict[str, str | Text]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for number, (label, value) in enumerate(rows.items()):
        table.add_row("  [green]✓[/green]" if number == 0 else "", label, value)
    return table


def _summary(landed: list[Landed]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for label in ("certificate", "names", "issuer", "not after", "thumbprint", "took"):
        table.add_column(label, overflow="fold", justify="right" if label == "took" else "left")
    for each in landed:
        leaf = each.leaf
        date = remaining(leaf.not_after).plain.partition(",")[0]
        more = f" +{len(leaf.names) - 1}" if len(leaf.names) > 1 else ""
        # The beginning is enough to tell them apart; the whole stands above.
        table.add_row(
            each.route.name, f"{leaf.names[0]}{more}", leaf.issuer, date, f"{leaf.sha1[:8]}…", f"{each.seconds:.2f} s"
        )
    return table
