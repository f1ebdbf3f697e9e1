"""Publishing dns-01 records by a command of the operator's.

The command gets its task by environment variables: CERTBROKER_DNS_ACTION (`publish` or `withdraw`),
CERTBROKER_DNS_NAME (the record's name, without the final dot) and CERTBROKER_DNS_VALUE; and, so that certbot's hooks
can be used, CERTBOT_DOMAIN and CERTBOT_VALIDATION. It ends with status 0 when the record is there, or is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from certbroker.commands import CommandFailed, run_command
from certbroker.domain.operation import Problem
from certbroker.ports.issuer import IssuerUnavailable


@dataclass(frozen=True, slots=True)
class DNSHook:
    """A command that publishes and withdraws TXT records."""

    command: tuple[str, ...]
    """The program by its absolute path, and its arguments. No shell reads them."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the command gets besides; for its credentials. These values never appear in messages."""
    timeout: float = 120.0
    """Seconds. Then the command and what it has started are killed."""
    label: str | None = None
    """What messages call it, where that is not the program."""

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what cannot work."""
        if not self.command or not Path(self.command[0]).is_absolute():
            raise ValueError("command begins with the absolute path of a program.")
        if not 0 < self.timeout <= 3600:
            raise ValueError("timeout is at most 3600 seconds.")


class DNSHookPublisher:
    """The `DNSPublisher` port over a command. Thread-safe: the command may run several times at once."""

    def __init__(self, hook: DNSHook) -> None:
        self._hook = hook

    def publish(self, name: str, value: str) -> None:
        self._run("publish", name, value)

    def withdraw(self, name: str, value: str) -> None:
        self._run("withdraw", name, value)

    def _run(self, action: str, name: str, value: str) -> None:
        environment = dict(self._hook.environment) | {
            "CERTBROKER_DNS_ACTION": action,
            "CERTBROKER_DNS_NAME": name,
            "CERTBROKER_DNS_VALUE": value,
            "CERTBOT_DOMAIN": name.removeprefix("_acme-challenge."),
            "CERTBOT_VALIDATION": value,
        }
        secrets = {value, *self._hook.environment.values()}
        try:
            run_command(self._hook.command, environment, self._hook.timeout, secrets)
        except CommandFailed as failure:
            label = self._hook.label or f"The DNS hook {self._hook.command[0]}"
            raise IssuerUnavailable(Problem("DNSPublisherFailed", f"{label} {failure}.")) from failure
