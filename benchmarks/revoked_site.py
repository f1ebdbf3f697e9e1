"""A broker that serves, with very many certificates from one CA, all of which are revoked when it is told to.

A process of its own: `python -m benchmarks.revoked_site DIRECTORY COUNT`. It prints where it is as JSON, once it knows
of all certificates that they are good; a line on its standard input puts all of them on the CA's CRL, and when all are
replaced it prints how long that took. The CA is in the process too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.simulation.ca import SimulatedCA
from benchmarks.simulation.issuer import SimulatedKind
from benchmarks.simulation.world import DAY
from certbroker import background
from certbroker.app import Core
from certbroker.config import build
from certbroker.domain import chain as chains
from certbroker.domain.audit import Caller
from certbroker.domain.csr import build_csr
from certbroker.domain.keys import KeySpec
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames
from certbroker.foundation import lay_foundation
from certbroker.keystore.software import SoftwareKeyStore
from certbroker.process import Application
from certbroker.services.issuance.completion import Completion, store
from certbroker.services.issuers.issuers import IssuerChanges
from certbroker.services.objects.naming import new_version
from certbroker.store.transaction import SQLTransaction
from tests.support.revocation import Publisher

CA: Final = "simulated"
MANY: Final = "many"
OTHER: Final = "other"
DOMAIN: Final = "vault.localhost"
HOST: Final = "localhost"

# Certificates that one account may order at once; afterwards orders say what they replace, and count nowhere.
_PER_ACCOUNT: Final = 250
_BATCH: Final = 200
_CRL: Final = "/crl"
_OPERATOR: Final = Caller("operator", "Benchmark")


class Site:
    """The certificates and their CA."""

    def __init__(self, count: int, publisher: Publisher) -> None:
        self.names = [f"host-{number}.example" for number in range(count)]
        lives: dict[tuple[str, ...], timedelta] = {(name,): 90 * DAY for name in self.names}
        self.ca = SimulatedCA(CA, lambda: datetime.now(UTC), suggests=True, lives=lives, domain_of=lambda name: name)
        self.kind = SimulatedKind({CA: self.ca}, DAY, lambda: None)
        self.token = ""
        self._keystore = SoftwareKeyStore()
        self._core: Core | None = None
        self._first: dict[str, str] = {}
        self._certificates: list[bytes] = []
        self._publisher = publisher
        self.crl = publisher.put(_CRL, self.ca.crl(()))

    def prepare(self, core: Core) -> None:
        """Make vaults, an application, and all certificates, as if they had been issued one by one."""
        self._core, broker = core, core.broker
        vault = broker.vaults.create(_OPERATOR, MANY)
        broker.vaults.create(_OPERATOR, OTHER)
        broker.issuers.set(_OPERATOR, vault, CA, IssuerChanges(provider="Simulated", account_id="one"))
        application = broker.access.create_application(_OPERATOR, "benchmark")
        broker.access.assign(_OPERATOR, application.object_id, "Key Vault Administrator", "/")
        secret = broker.access.add_secret(_OPERATOR, application.id)[1]
        issuer = f"https://login.{DOMAIN}/{core.tenant}"
        self.token = broker.tokens.issue(application.id, secret, f"https://{DOMAIN}", issuer)
        for start in range(0, len(self.names), _BATCH):
            works = [self._making(vault, core, start + n) for n in range(len(self.names[start : start + _BATCH]))]
            for outcome in broker.store.write_all(works):
                if isinstance(outcome, BaseException):
                    raise outcome

    def _making(self, vault: Vault, core: Core, number: int) -> Callable[[SQLTransaction], None]:
        name, now = f"cert-{number}", datetime.now(UTC)
        sans = SubjectAlternativeNames(dns_names=(self.names[number],))
        policy = CertificatePolicy(KeySpec("EC"), sans=sans, issuer=CA, created=int(now.timestamp()) - 9)
        key = self._keystore.generate(policy.key)
        order = self.ca.new_order(f"account-{number // _PER_ACCOUNT}", sans.dns_names)
        chain = self.ca.finalize(order, build_csr(policy, key))
        assert isinstance(chain, tuple)
        parsed = chains.parse(chain)
        facts = chains.facts_of(parsed, exportable=True, made_by=CA)
        version = self._first[name] = new_version()
        self._certificates.append(chain[0])
        made = Completion(vault.id, name, version, policy, facts, enabled=True, tags={})
        versions = made.versions(core.seal, self._keystore, key, now)

        def work(transaction: SQLTransaction) -> None:
            transaction.objects.put_policy(vault.id, name, policy)
            store(transaction, vault.id, versions, now)
            # It is looked at for its revocation at once, and for nothing else.
            care = transaction.lifecycles.get(vault.id, name)
            assert care is not None
            transaction.lifecycles.rewrite(care, now + DAY)
            transaction.watches.disturb(vault.id, name, now)

        return work

    def wait_until_good(self) -> None:
        """Return when it is known of all certificates that they are not revoked."""
        assert self._core is not None
        while self._core.broker.store.glance().watches.counts():
            time.sleep(0.1)

    def revoke(self) -> dict[str, float]:
        """Put all of them on the CRL, and have that fetched; returns how long it took until all were replaced."""
        assert self._core is not None
        broker = self._core.broker
        vault = broker.vaults.find(MANY)
        self._publisher.put(_CRL, self.ca.crl(self._certificates))
        before, started, cpu = self.ca.issued, time.perf_counter(), time.process_time()
        names = list(self._first)
        broker.watching.check_now(_OPERATOR, vault, names[0])
        left = names
        while left:
            time.sleep(0.2)
            if self.ca.issued - before >= len(names) or time.perf_counter() - started > 3600:
                left = [name for name in left if self._version(vault, name) == self._first[name]]
        seconds = time.perf_counter() - started
        spent = time.process_time() - cpu
        return {"seconds": seconds, "cpu": spent, "issued": self.ca.issued - before, "doubled": self.ca.doubled}

    def _version(self, vault: Vault, name: str) -> str:
        assert self._core is not None
        head = self._core.broker.store.glance().objects.head(vault.id, Kind.CERTIFICATE, name)
        assert head is not None
        return head.current


def main() -> None:
    with Publisher() as publisher:
        _run(Path(sys.argv[1]), Site(int(sys.argv[2]), publisher))


def _run(directory: Path, site: Site) -> None:
    settings = {
        "server": {
            "listen": "127.0.0.1:0",
            "base_domain": DOMAIN,
            "authority": f"https://login.{DOMAIN}",
            "vault_hosts": {HOST: OTHER},
        },
        "data": {"directory": directory},
        "log": {"level": "warning"},
        "egress": {"allowed_networks": ["127.0.0.0/8"]},
        "revocation": {"sources": {CA: {"issuer": "CN=Simulated CA*", "crl": site.crl}}},
    }
    application = Application(lay_foundation(build(settings)), site.prepare, {"simulated": site.kind})
    uvloop.run(_serve(application, site, directory))


async def _serve(application: Application, site: Site, directory: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def obey(where: dict[str, Any]) -> None:
        background.enter()
        site.wait_until_good()
        print(json.dumps(where), flush=True)
        for _ in sys.stdin:
            print(json.dumps(site.revoke()), flush=True)
        loop.call_soon_threadsafe(stop.set)

    def ready(running: Application) -> None:
        where = {"port": running.port, "ca": str(directory / "ca.pem"), "token": site.token}
        threading.Thread(target=obey, args=(where,), daemon=True).start()

    await application.run(stop, ready)


if __name__ == "__main__":
    main()
