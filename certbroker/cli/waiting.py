"""Waiting for a certificate, and showing what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from certbroker.cli.client import Client, CommandFailed, ExitCode
from certbroker.cli.output import printable
from certbroker.cli.paths import at

# A self-signed certificate is there in milliseconds, so the first looks follow quickly; a CA takes seconds or days.
_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 2.0
_GROWTH: Final = 1.3


def wait(
    vault: Client,
    name: str,
    operation: dict[str, Any],
    enough: Callable[[dict[str, Any]], bool] = lambda operation: False,
    console: Console | None = None,
    indent: str = "",
) -> dict[str, Any]:
    """The operation once it has ended, waits for a person to merge, or is `enough`. Raises CommandFailed."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    began, pause, said = time.monotonic(), _FIRST_PAUSE, ""
    path = at("certificates", name, "pending")
    with console.status(f"{indent}{_line(name, operation, 0)}") as status:
        while is_open(operation) and not enough(operation):
            time.sleep(pause)
            pause = min(_LAST_PAUSE, pause * _GROWTH)
            operation = vault.get(path, request_id=operation["request_id"])
            line = indent + _line(name, operation, time.monotonic() - began)
            status.update(line)
            if not console.is_terminal and operation["status_details"] != said:
                said = operation["status_details"]
                console.print(line)
    return operation


def is_open(operation: dict[str, Any]) -> bool:
    """Whether it goes on by itself."""
    return operation["status"] == "inProgress" and not waits_for_merge(operation)


def waits_for_merge(operation: dict[str, Any]) -> bool:
    """Whether a person carries the CSR out; until it is there, the key is still being made."""
    return (
        operation["status"] == "inProgress"
        and "csr" in operation
        and "merge" in (operation.get("status_details") or "").lower()
    )


def check(operation: dict[str, Any]) -> None:
    """Raise CommandFailed when the operation ended without a certificate."""
    if operation["status"] in ("completed", "inProgress"):
        return
    error = operation.get("error") or {}
    message = error.get("message") or operation.get("status_details") or operation["status"]
    detail = (error.get("innererror") or {}).get("message")
    raise CommandFailed(
        ExitCode.REFUSED, f"{message} {detail}" if detail else message, error.get("code") or operation["status"]
    )


def _line(name: str, operation: dict[str, Any], seconds: float) -> str:
    detail = escape(printable(operation.get("status_details") or ""))
    return f"[bold]{escape(name)}[/bold] {operation['status']} [dim]{seconds:.0f} s[/dim]  {detail}"
