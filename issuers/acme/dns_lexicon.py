"""Publishing dns-01 records at some 90 DNS providers, by dns-lexicon.

The code of the providers is other people's: some of it waits for ever, writes secrets into its log, or changes the
process. So each change runs in a process of its own, which is ended when its time is up, with a small environment.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from certbroker.domain.operation import Problem
from certbroker.domain.policy import is_dns_name
from certbroker.ports.dns import DNS, DNSUnanswered
from certbroker.ports.issuer import IssuerUnavailable
from issuers.acme.dns_hook import DNSHook, DNSHookPublisher

_COMMAND: Final = Path(__file__).with_name("lexicon_command.py")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_FIRST_LOOK: Final = 0.5
_LONGEST_LOOK: Final = 10.0


@dataclass(frozen=True, slots=True)
class LexiconProvider:
    """An account at a DNS provider."""

    provider: str
    """The provider's name in dns-lexicon, such as `cloudflare`."""
    zones: tuple[str, ...]
    """The zones that may be written."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The provider's own options, such as `auth_token`. Their values never appear in messages."""
    ttl: int = 300
    """Seconds. Many providers refuse less."""
    timeout: float = 60.0
    """Seconds for one change; then it is ended."""
    propagation: float = 120.0
    """Seconds to wait until the zone's servers answer with the record. Then the CA is asked all the same."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an http proxy."""

    def __post_init__(self) -> None:
        """ValueError, naming the field, for what cannot work."""
        if importlib.util.find_spec("lexicon") is None:
            raise ValueError("dns-lexicon is not installed: run pip install 'certbroker[lexicon]'.")
        if not _WORD.fullmatch(self.provider):
            raise ValueError("provider is the name of a provider in dns-lexicon, such as cloudflare.")
        if not self.zones or not all(is_dns_name(zone) for zone in self.zones):
            raise ValueError("zones has at least one zone, such as example.com.")
        wrong = [name for name in self.options if not _WORD.fullmatch(name)]
        if wrong:
            raise ValueError(f"options has {wrong[0][:64]!r}: options are named as in dns-lexicon, such as auth_token.")
        if not 0 <= self.ttl <= 86_400:
            raise ValueError("ttl is between 0 and 86400 seconds.")
        if not 0 < self.timeout <= 3600 or not 0 <= self.propagation <= 3600:
            raise ValueError("timeout and propagation are at most 3600 seconds.")


class LexiconPublisher:
    """The `DNSPublisher` port over such an account. Thread-safe."""

    def __init__(self, provider: LexiconProvider, names: DNS) -> None:
        self._provider = provider
        self._names = names
        # Many providers know only whole sets of records, so lexicon reads one and writes it back: two changes at once
        # would lose one.
        self._changing = {zone.lower(): threading.Lock() for zone in provider.zones}
        self._commands = {zone: DNSHookPublisher(_hook(provider, zone)) for zone in self._changing}

    def publish(self, name: str, value: str) -> None:
        zone = self._zone(name)
        with self._change(zone):
            self._commands[zone].publish(name, value)
        self._wait(name, value)

    def withdraw(self, name: str, value: str) -> None:
        zone = self._zone(name)
        with self._change(zone):
            self._commands[zone].withdraw(name, value)

    def _zone(self, name: str) -> str:
        """The longest of our zones that the name is in."""
        name = name.lower()
        fitting = [zone for zone in self._changing if name == zone or name.endswith(f".{zone}")]
        if not fitting:
            raise self._failed(f"{name} is in none of its zones {', '.join(self._changing)}")
        return max(fitting, key=len)

    @contextmanager
    def _change(self, zone: str) -> Iterator[None]:
        lock = self._changing[zone]
        if not lock.acquire(timeout=self._provider.timeout):
            raise self._failed(f"other changes of {zone} are taking too long")
        try:
            yield
        finally:
            lock.release()

    def _wait(self, name: str, value: str) -> None:
        """Return once the record can be seen, or the wait for that is over."""
        deadline = time.monotonic() + self._provider.propagation
        pause = _FIRST_LOOK
        while not self._serves(name, value):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_LOOK)

    def _serves(self, name: str, value: str) -> bool:
        try:
            return value in self._names.txt(name)
        except DNSUnanswered:
            return False

    def _failed(self, what: str) -> IssuerUnavailable:
        return IssuerUnavailable(Problem("DNSPublisherFailed", f"DNS provider {self._provider.provider}: {what}."))


def _hook(provider: LexiconProvider, zone: str) -> DNSHook:
    """The command that makes one change."""
    prefix = f"LEXICON_{provider.provider.upper()}_"
    environment = {f"{prefix}{name.upper()}": value for name, value in provider.options.items()}
    if provider.proxy is not None:
        environment |= {"HTTP_PROXY": provider.proxy, "HTTPS_PROXY": provider.proxy}
    return DNSHook(
        (sys.executable, "-I", str(_COMMAND), provider.provider, zone, str(provider.ttl)),
        environment,
        provider.timeout,
        f"dns-lexicon's provider {provider.provider}",
    )
