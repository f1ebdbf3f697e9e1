"""Start Pebble and its DNS server, on free loopback ports, and stop them again."""

import json
import os
import ssl
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pebble.binaries import PebbleBinaries, find_pebble
from pebble.challenge_dns import ChallengeDNS
from pebble.loopback import HOST, LoopbackHTTP, free_ports
from pebble.management import Management
from pebble.tls import write_endpoint_certificate

_START_SECONDS = 30
_POLL_SECONDS = 0.02
_DEFAULT_NONCE_REJECT = 5


class PebbleError(Exception):
    """Pebble is not here, or did not start; the text has the end of its log."""


@dataclass(frozen=True)
class Profile:
    """What an ACME order may name as its profile."""

    days: float
    description: str = "A profile of the test CA"


DEFAULT = Profile(days=90)
SHORT_LIVED = Profile(days=6, description="Short-lived, as public CAs offer it")


class Pebble:
    """One running CA. A context manager; or call `start` and `stop`, which may be repeated.

    workdir            receives configuration, the endpoint's certificate and logs; made when missing
    always_valid       accept every challenge without looking
    nonce_reject       percentage of good nonces refused as bad; 5, or the environment's CERTBROKER_TEST_NONCE_REJECT
    authz_reuse        percentage of cases in which a valid authorization is used again
    validation_sleep   wait a random time before validating, up to so many seconds (True: five)
    eab                external account binding is required, with these MAC keys (base64url) by key id
    alternate_roots    how many other chains are offered by Link headers
    chain_length       how many intermediates
    port               of the directory; a free one when not given, as with all ports
    http_port          where http-01 answers are looked for; nobody listens there until you do
    tls_port           where tls-alpn-01 answers are looked for
    retry_after        seconds in the Retry-After of authorizations and orders; Pebble writes them as number or as date
    profiles           by name. One by default, because an order that names none gets *any* of them
    rsa                the CA's keys are RSA, which `management` gives to tests; those on a curve Pebble keeps to itself
    domain_blocklist   names that are refused with rejectedIdentifier
    dns_server         address and port of another DNS server for the CA to ask; `dns` is without effect then

    All state is in memory: a restart loses accounts, orders and the CA's keys, while ports and `ca_path` stay.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        always_valid: bool = False,
        nonce_reject: int | None = None,
        authz_reuse: int = 50,
        validation_sleep: bool | int = False,
        eab: Mapping[str, str] | None = None,
        alternate_roots: int = 0,
        chain_length: int = 1,
        port: int | None = None,
        http_port: int | None = None,
        tls_port: int | None = None,
        retry_after: int = 1,
        profiles: Mapping[str, Profile] | None = None,
        rsa: bool = False,
        domain_blocklist: tuple[str, ...] = (),
        dns_server: str | None = None,
        binaries: PebbleBinaries | None = None,
    ) -> None:
        found = binaries or find_pebble()
        if found is None:
            raise PebbleError("Pebble is not installed: run `make peers`.")
        self._binaries = found
        self._dns_server = dns_server
        self.workdir = workdir.resolve()
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.workdir / "pebble.log"

        free = iter(free_ports(7))
        self.port = port or next(free)
        self.http_port = http_port or next(free)
        self.tls_port = tls_port or next(free)
        self._management_port, self._dns_port, self._dns_management_port = next(free), next(free), next(free)

        self.ca_path, self._certificate_path, self._key_path = write_endpoint_certificate(self.workdir)
        self._tls = ssl.create_default_context(cafile=str(self.ca_path))
        self.dns = ChallengeDNS(LoopbackHTTP(self._dns_management_port), self._dns_port)
        self.management = Management(LoopbackHTTP(self._management_port, self._tls))

        if nonce_reject is None:
            nonce_reject = int(os.environ.get("CERTBROKER_TEST_NONCE_REJECT", _DEFAULT_NONCE_REJECT))
        self._environment = {
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
            "PEBBLE_CHAIN_LENGTH": str(chain_length),
            "PEBBLE_VA_ALWAYS_VALID": str(int(always_valid)),
            "PEBBLE_VA_NOSLEEP": str(int(not validation_sleep)),
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
        }
        if validation_sleep and validation_sleep is not True:
            self._environment["PEBBLE_VA_SLEEPTIME"] = str(validation_sleep)
        self._configuration = {
            "listenAddress": f"{HOST}:{self.port}",
            "managementListenAddress": f"{HOST}:{self._management_port}",
            "certificate": str(self._certificate_path),
            "privateKey": str(self._key_path),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(eab),
            "externalAccountMACKeys": dict(eab or {}),
            "domainBlocklist": list(domain_blocklist),
            "keyAlgorithm": "rsa" if rsa else "ecdsa",
            "retryAfter": {"authz": retry_after, "order": retry_after},
            "profiles": {
                name: {"description": profile.description, "validityPeriod": int(profile.days * 86_400)}
                for name, profile in (profiles or {"default": DEFAULT}).items()
            },
            # Read instead of profiles by versions before 2.7.
            "certificateValidityPeriod": int(DEFAULT.days * 86_400),
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def directory_url(self) -> str:
        """What an ACME client is configured with."""
        return f"https://{HOST}:{self.port}/dir"

    @property
    def management_url(self) -> str:
        """The root of the management interface; `management` speaks to it."""
        return f"https://{HOST}:{self._management_port}"

    @property
    def dns_address(self) -> str:
        """Address and port of the DNS server that Pebble asks, UDP and TCP."""
        return f"{HOST}:{self._dns_port}"

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(process.pid for process in self._processes if process.poll() is None)

    def start(self) -> Self:
        """Return when both servers answer."""
        if self._processes:
            raise PebbleError("This Pebble runs already.")
        configuration = self.workdir / "pebble.json"
        configuration.write_text(json.dumps({"pebble": self._configuration}, indent=2))
        try:
            with self.log_path.open("ab") as log:
                dns = self._spawn(self._challtestsrv_command(), log)
                self._wait("pebble-challtestsrv", dns, self._dns_answers)
                command = [
                    str(self._binaries.pebble),
                    "-config",
                    str(configuration),
                    "-dnsserver",
                    self._dns_server or self.dns_address,
                ]
                ca = self._spawn(command, log)
                self._wait("pebble", ca, self._ca_answers)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End both processes, and wait until they have ended. Safe to repeat."""
        while self._processes:
            _end(self._processes.pop())

    def restart(self) -> None:
        """Come back at the same address with everything forgotten, as after the loss of a CA's database."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _challtestsrv_command(self) -> list[str]:
        usage = subprocess.run([self._binaries.challtestsrv, "-help"], capture_output=True, check=False, timeout=10)
        flags = usage.stdout + usage.stderr
        return [
            str(self._binaries.challtestsrv),
            # Called dns01 up to 2.4, as Debian 12 has it.
            *("-dns01" if b"-dns01" in flags else "-dnsserver", self.dns_address),
            *("-management", f"{HOST}:{self._dns_management_port}"),
            *("-defaultIPv4", HOST),
            *("-defaultIPv6", ""),  # Else Pebble connects to ::1, where a solver on 127.0.0.1 does not listen.
            *("-http01", "", "-https01", "", "-tlsalpn01", ""),
            # Since 2.5, and then on all interfaces unless told otherwise.
            *(("-doh", "") if b"-doh" in flags else ()),
        ]

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PEBBLE_")}
        process = subprocess.Popen(
            command,
            cwd=self.workdir,
            env=environment | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches us, and we end them in order.
        )
        # Also when the test run ends without `stop`.
        weakref.finalize(self, _end, process)
        self._processes.append(process)
        return process

    def _wait(self, name: str, process: subprocess.Popen[bytes], answers: Callable[[], object]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PebbleError(f"{name} ended with status {process.returncode}:\n{self._log_tail()}")
            try:
                answers()
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return
        raise PebbleError(f"{name} did not answer within {_START_SECONDS} s:\n{self._log_tail()}")

    def _dns_answers(self) -> None:
        self.dns.queries("ready.invalid")

    def _ca_answers(self) -> None:
        LoopbackHTTP(self.port, self._tls).get("/dir")
        self.management.root()

    def _log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
