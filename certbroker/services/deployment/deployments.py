"""Putting certificates where they are used, on the broker's own machine: after each new version, and until it works.

What is to be deployed is in the operator's configuration, never in a request: commands are run. A deployment is tried
again by itself; whether it works never delays a renewal, and a renewal that fails never undoes a deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog
from msgspec.structs import replace

from certbroker.domain.audit import engine_caller, record
from certbroker.domain.deployment import Progress, begun_again, ended, failed, read_material, retry_at
from certbroker.domain.errors import BrokerError
from certbroker.domain.objects import Kind, Vault
from certbroker.domain.policy import PEM
from certbroker.domain.records import Version
from certbroker.failpoints import failpoint
from certbroker.ports.clock import Clock
from certbroker.ports.deployer import Deployer, DeploymentFailed
from certbroker.services.deployment import events
from certbroker.services.notification.outbox import publish
from certbroker.services.objects.secrets import Secrets
from certbroker.services.objects.vaults import Vaults
from certbroker.store.database import SQLiteStore
from certbroker.store.deployments import Deployment
from certbroker.store.transaction import SQLTransaction

# Longer than a deployer may take.
_LEASE: Final = timedelta(hours=1)

_UNEXPECTED: Final = "An unexpected error happened; the log has the details."
_log = structlog.get_logger("certbroker.deployments")


class Deployments:
    """Follows the version in use with what is deployed."""

    def __init__(
        self, store: SQLiteStore, vaults: Vaults, secrets: Secrets, clock: Clock, deployers: Mapping[str, Deployer]
    ) -> None:
        self._store = store
        self._vaults = vaults
        self._secrets = secrets
        self._clock = clock
        self._deployers = deployers

    def adopt(self) -> None:
        """Take over what the configuration says now: at each start."""
        now = self._clock.now()

        def work(transaction: SQLTransaction) -> None:
            known = {each.name: each for each in transaction.deployments.all()}
            for name in known.keys() - self._deployers.keys():
                transaction.deployments.remove(name)
                _gone(transaction, known[name], now)
            for name, deployer in self._deployers.items():
                vault, certificate = deployer.vault.lower(), deployer.certificate.lower()
                wanted = Deployment(name, vault, certificate, deployer.settings, act_at=now)
                _adopt(transaction, wanted, known.get(name), now)

        self._store.write(work)

    def listing(self) -> list[Deployment]:
        """All of them, by name."""
        return self._store.glance().deployments.all()

    def claim(self, count: int) -> list[Deployment]:
        """Take what is due; nobody else works on it before the lease is over."""
        now = self._clock.now()
        due = self._store.glance().deployments.due(now, count)
        if not due:
            return []

        def work(transaction: SQLTransaction) -> list[Deployment]:
            claimed = [transaction.deployments.claim(name, now, _LEASE) for name in due]
            return [each for each in claimed if each is not None]

        return self._store.write(work)

    def deploy(self, deployment: Deployment) -> None:
        """Deploy the version in use, unless it is deployed, and store how that went. Raises nothing."""
        try:
            found = self._current(deployment)
            if found is None:
                idle = replace(deployment, progress=ended(deployment.progress))
                self._store.write(lambda transaction: transaction.deployments.save(idle, None))
                return
            vault, version = found
            progress = self._attempt(deployment, vault, version)
            failpoint("deploy.settle.before")
            self._store.write(lambda transaction: self._settle(transaction, deployment, progress, vault, version))
            failpoint("deploy.settle.after")
        except Exception:
            # It is due again when the lease is over.
            _log.exception("deployment failed unexpectedly", deployment=deployment.name)

    def _current(self, deployment: Deployment) -> tuple[Vault, Version] | None:
        """The version in use, once there is one: its making makes the deployment due."""
        try:
            vault = self._vaults.find(deployment.vault)
        except BrokerError:
            return None
        version = self._store.glance().objects.get(vault.id, Kind.CERTIFICATE, deployment.certificate)
        if version is None or version.certificate is None:
            return None
        return vault, version

    def _attempt(self, deployment: Deployment, vault: Vault, version: Version) -> Progress:
        """Deploy a version. What has become of it is returned, not raised."""
        before = deployment.progress
        assert version.certificate is not None
        sha256 = version.certificate.sha256
        if before.sha256 == sha256 and not before.failures:
            return before
        try:
            secret = self._secrets.find(vault, deployment.certificate, version.version)
            pem = self._secrets.reveal(vault, replace(secret, content_type=PEM))
            material = read_material(vault.name, version.name, version.version, pem)
            failpoint("deploy.before")
            self._deployers[deployment.name].deploy(material)
            failpoint("deploy.after")
        except DeploymentFailed as error:
            return failed(before, str(error), self._clock.now())
        except BrokerError as error:
            return failed(before, error.message, self._clock.now())
        except Exception:
            _log.exception("deployment failed unexpectedly", deployment=deployment.name)
            return failed(before, _UNEXPECTED, self._clock.now())
        return Progress(sha256, version.version, self._clock.now())

    def _settle(
        self, transaction: SQLTransaction, deployment: Deployment, progress: Progress, vault: Vault, version: Version
    ) -> None:
        now, before = self._clock.now(), deployment.progress
        done = replace(deployment, progress=progress)
        if not transaction.deployments.save(done, retry_at(progress, now) if progress.failures else None):
            # A newer version was made meanwhile: it is due again, and what was done is remembered all the same.
            transaction.deployments.note(done)
        if progress == before:
            return
        caller = engine_caller("CertificateDeploy", vault.name, "")
        outcome = "DeploymentFailed" if progress.failures else "ok"
        target = f"/certificates/{version.name}/{version.version}/deployments/{deployment.name}"
        transaction.audit(record(caller, now, target, outcome, 0 if progress.failures else 200))
        if progress.failures:
            _log.warning("certificate not deployed", deployment=deployment.name, reason=progress.problem)
        else:
            _log.info("certificate deployed", deployment=deployment.name, version=version.version)
            transaction.endpoints.disturb(vault.id, version.name, now)
        if progress.told or before.told:
            _judge_again(transaction, vault, version.name, now)
        publish(transaction, *events.of_deployment(deployment.name, vault.id, before, progress, version, now))


def _adopt(transaction: SQLTransaction, wanted: Deployment, before: Deployment | None, now: datetime) -> None:
    """Take over one section. That of another certificate has nothing but the name of the one before."""
    if before is None:
        transaction.deployments.put(wanted)
    elif (before.vault, before.certificate) != (wanted.vault, wanted.certificate):
        _gone(transaction, before, now)
        transaction.deployments.put(replace(wanted, fence=before.fence))
    elif before.settings != wanted.settings:
        transaction.deployments.put(replace(wanted, progress=begun_again(before.progress), fence=before.fence))


def _gone(transaction: SQLTransaction, deployment: Deployment, now: datetime) -> None:
    """It is not wanted any more, so its certificate suffers from it no longer."""
    vault = transaction.vaults.find(deployment.vault)
    if deployment.progress.told and vault is not None:
        _judge_again(transaction, vault, deployment.certificate, now)


def _judge_again(transaction: SQLTransaction, vault: Vault, name: str, now: datetime) -> None:
    """Have the health of a certificate judged again, unless it was deleted: then there is nothing to look after."""
    if transaction.objects.get(vault.id, Kind.CERTIFICATE, name) is not None:
        transaction.lifecycles.disturb(vault.id, name, now)
