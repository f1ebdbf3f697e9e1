"""The broker as a process: its listeners, what they serve, and the engine, from the start to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from certbroker.app import Core, authority_of, hosts_of, publication_of, publications_of, unseal
from certbroker.config import ConfigurationError, split_address
from certbroker.domain.errors import Sealed
from certbroker.engine.scheduler import Engine
from certbroker.foundation import Foundation
from certbroker.ports.issuer import IssuerKind
from certbroker.services.health.metrics import Metrics
from certbroker.services.health.watcher import Watcher
from certbroker.services.server_certificate import CHAIN_FILE, KEY_FILE, ServerCertificate
from certbroker.supervision import Supervision
from certbroker.unsealing import retry_pauses
from certbroker.web.akv.vault import VaultApp
from certbroker.web.challenges import ChallengeApp
from certbroker.web.monitoring import MonitoringApp
from certbroker.web.own import own_site
from certbroker.web.publication import PublicationApp
from certbroker.web.sealed import Entrance, SealedSite
from certbroker.web.served_certificate import Certificate, UnusableCertificate, read_certificate
from certbroker.web.server import Listener, bind
from certbroker.web.site import Site

if TYPE_CHECKING:
    from certbroker.web.tls_alpn import Prepared, ValidationListener

# Requests that write wait for a commit that they share, so the more wait, the more share it. asyncio has six on two
# cores.
_REQUEST_THREADS: Final = 32
_log = structlog.get_logger("certbroker")


class Application:
    """The whole process: listeners, web and engine. While the seal cannot be opened, only HTTPS is served, to say so.

    `prepare` is called when the seal is open and before anything is served from it. `kinds` of issuers stand beside
    those that are installed. Raises Sealed when there is not
    even a certificate to say so with, which can only be at the first start.
    """

    def __init__(
        self,
        foundation: Foundation,
        prepare: Callable[[Core], None] = lambda core: None,
        kinds: Mapping[str, IssuerKind] | None = None,
    ) -> None:
        server = foundation.configuration.server
        listening = _bind("server.listen", server.listen)
        port: int = listening.getsockname()[1]
        self.authority = authority_of(foundation.configuration, port)
        self.hosts = hosts_of(foundation, self.authority)
        self.server_certificate: ServerCertificate | None = None
        self._foundation = foundation
        self._publication = _publication(foundation)
        self._prepare = prepare
        self._kinds = kinds
        self._core: Core | None = None
        self._sealed = SealedSite(self.hosts)
        self._entrance = Entrance(self._sealed)
        self._pauses = retry_pauses()
        try:
            self._open()
        except Sealed as reason:
            if not all(path.exists() for path in self._files()):
                raise
            self._remain_sealed(reason)
        try:
            self._served = self._certificate(None)
        except UnusableCertificate as error:
            raise ConfigurationError(f"tls.{error.part}: {error}") from None
        self._listener = Listener(listening, self._entrance, self._served)
        self._http01 = None if server.http01_listen is None else _bind("server.http01_listen", server.http01_listen)
        self._tls_alpn01 = (
            None if server.tls_alpn01_listen is None else _bind("server.tls_alpn01_listen", server.tls_alpn01_listen)
        )
        self._monitoring = _monitoring(foundation)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def monitoring_port(self) -> int | None:
        """Where health and metrics are told; None where they are not."""
        return None if self._monitoring is None else self._monitoring.port

    @property
    def publication_url(self) -> str | None:
        """Where private CAs publish; None where they do not."""
        return (
            None
            if self._publication is None
            else publication_of(self._foundation.configuration, self._publication.port)
        )

    async def run(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        """Serve until `stop` is set; `ready` is called once the broker is open and requests are answered."""
        _collect_seldom()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_REQUEST_THREADS, "request"))
        with self._foundation.store.reading_on_this_loop():
            await self._run(stop, ready)
        (self._core or self._foundation).close()

    async def _run(self, stop: asyncio.Event, ready: Callable[[Application], None]) -> None:
        await self._listener.start()
        if self._monitoring is not None:
            await self._monitoring.start()
        if self._publication is not None:
            await self._publication.start()
        loop = asyncio.get_running_loop()
        watcher = loop.create_task(self._watch_certificate())
        supervision = Supervision(os.environ)
        feeding = loop.create_task(supervision.feed(lambda: self._foundation.meters.pulse.is_moving))
        # A sealed broker has started: it serves, says so, and goes on by itself.
        supervision.started("Sealed" if self._core is None else "Starting")
        core = await self._opened(stop)
        engine = None
        challenges: list[Listener | ValidationListener] = []
        if core is not None:
            challenges = self._challenge_listeners(core)
            for listener in challenges:
                await listener.start()
            engine = Engine(core.broker, core.inbox, (core.broker.rotation.resume,), _watcher(core))
            engine.start()
            _collect_seldom()
            supervision.status("Working")
            ready(self)
            await stop.wait()
        supervision.stopping()
        watcher.cancel()
        await self._listener.stop()
        if engine is not None:
            await asyncio.to_thread(engine.stop)
        for listener in challenges:
            await listener.stop()
        if self._monitoring is not None:
            await self._monitoring.stop()
        if self._publication is not None:
            await self._publication.stop()
        feeding.cancel()

    def _challenge_listeners(self, core: Core) -> list[Listener | ValidationListener]:
        board, clock = core.broker.board, core.broker.clock
        listeners: list[Listener | ValidationListener] = []
        if self._http01 is not None:
            listeners.append(Listener(self._http01, ChallengeApp(partial(board.answer, "http-01"))))
        if self._tls_alpn01 is not None:
            from certbroker.web.tls_alpn import ValidationListener
            from issuers.acme.tls_alpn import validation_certificate

            def prepare(place: str) -> Prepared | None:
                answer = board.answer("tls-alpn-01", place)
                return None if answer is None else validation_certificate(place, answer, clock.now())

            listeners.append(ValidationListener(self._tls_alpn01, prepare))
        return listeners

    async def _opened(self, stop: asyncio.Event) -> Core | None:
        """The broker as soon as its seal can be opened; None when it is to stop before that."""
        while self._core is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._sealed.retry_in)
            if stop.is_set():
                return None
            try:
                await asyncio.to_thread(self._open)
                _log.info("the broker is unsealed")
            except Sealed as reason:
                self._remain_sealed(reason)
        return self._core

    def _open(self) -> None:
        """Open the seal, and let the broker answer instead of the notice that it is sealed. Raises Sealed."""
        core = unseal(self._foundation, self.authority, self._kinds, publication=self.publication_url)
        core.broker.issuers.prepare()
        self._prepare(core)
        own = _server_certificate(core, self.authority)
        if own is not None:
            own.refresh()
        self.server_certificate = own
        self._entrance.application = Site(VaultApp(core.broker), self.hosts, own_site(core.broker, self.hosts))
        self._core = core

    def _remain_sealed(self, reason: Sealed) -> None:
        self._foundation.readiness.sealed = reason.message
        self._sealed.explain(reason.message, next(self._pauses))
        _log.warning("the broker is sealed", reason=reason.message, retry_in=self._sealed.retry_in)

    def _files(self) -> tuple[Path, Path]:
        """The files to serve TLS with: the operator's, or those that we keep."""
        tls, directory = self._foundation.configuration.tls, self._foundation.configuration.data.directory
        return tls.certificate or directory / CHAIN_FILE, tls.key or directory / KEY_FILE

    def _certificate(self, known: Certificate | None) -> Certificate:
        """What to serve TLS with, after a renewal where that is ours to do; `known` itself where that has not changed.

        Raises UnusableCertificate.
        """
        if self.server_certificate is not None:
            self.server_certificate.refresh()
        return read_certificate(*self._files(), known)

    async def _watch_certificate(self) -> None:
        """Swap the certificate whenever its files have changed, by our renewal or by somebody else's."""
        while True:
            await asyncio.sleep(self._foundation.configuration.tls.check_seconds)
            try:
                certificate = await asyncio.to_thread(self._certificate, self._served)
                if certificate is not self._served:
                    await self._listener.swap(certificate)
                    self._served = certificate
            # What is served goes on being served, and the files may be whole again at the next look.
            except UnusableCertificate as error:
                _log.error("the server certificate cannot be exchanged", problem=str(error))
            except Exception:
                _log.exception("the server certificate could not be looked after")


def _collect_seldom() -> None:
    """Have the garbage collector look seldom, and only at what comes from now on.

    Once before anything is served, because a broker may stay sealed for long, and once when it is open. What is there
    already stays to the end. And a request leaves no cycles, but more than the 700 objects after which a
    collection is due by default.
    """
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def _watcher(core: Core) -> Watcher | None:
    section, broker = core.configuration.monitoring, core.broker
    if section.ping_url is None:
        return None
    url = section.ping_url.get_secret_value()
    return Watcher(
        url, section.ping_seconds, core.egress, broker.readiness, broker.meters, failures=section.ping_failures
    )


def _monitoring(foundation: Foundation) -> Listener | None:
    """The listener for health and metrics, which is there from the start, sealed or not."""
    section = foundation.configuration.monitoring
    if section.listen is None:
        return None
    listening = _bind("monitoring.listen", section.listen)
    readiness = foundation.readiness
    limit = section.certificate_metrics
    metrics = Metrics(foundation.store, foundation.clock, foundation.meters, readiness, limit)
    return Listener(listening, MonitoringApp(readiness, metrics))


def _publication(foundation: Foundation) -> Listener | None:
    """The listener of private CAs, which is there from the start, sealed or not."""
    section = foundation.configuration.pki
    if section.listen is None or section.url is None:
        return None
    app = PublicationApp(publications_of(foundation), foundation.clock, urlsplit(section.url).path)
    return Listener(_bind("pki.listen", section.listen), app)


def _server_certificate(core: Core, authority: str) -> ServerCertificate | None:
    """The keeper of our own certificate, unless the operator brings one."""
    configuration = core.configuration
    if configuration.tls.certificate is not None:
        return None
    server = configuration.server
    host = authority.removeprefix("https://").partition("/")[0].rpartition(":")[0].strip("[]")
    names = dict.fromkeys((f"*.{server.base_domain}", server.base_domain, host, "localhost", *server.vault_hosts))
    store, seal = core.broker.store, core.seal
    return ServerCertificate(store, seal, core.broker.clock, configuration.data.directory, tuple(names))


def _bind(key: str, address: str) -> socket.socket:
    try:
        return bind(*split_address(address))
    except OSError as error:
        raise ConfigurationError(f"{key}: cannot listen on {address}: {error.strerror}.") from None
