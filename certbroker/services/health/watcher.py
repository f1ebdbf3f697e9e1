"""Telling a watcher outside that the broker is well, so that its silence is noticed even when nothing here works."""

from __future__ import annotations

from typing import Final

import structlog

from certbroker.ports.egress import Egress, EgressFailed, EgressRefused
from certbroker.services.health.meters import Meters
from certbroker.services.health.readiness import Readiness

_TIMEOUT: Final = 10.0
_MAX_ANSWER: Final = 64 * 1024
_log = structlog.get_logger("certbroker.watcher")


class Watcher:
    """Calls the URL of a dead-man's switch, such as healthchecks.io has, every `every` seconds.

    It is called only while the broker is ready, by the same reasons as `/readyz`. With `failures`, `/fail` is appended
    and called while it is not. Whoever knows the URL can silence the alarm: it is never logged.
    """

    def __init__(
        self, url: str, every: float, egress: Egress, readiness: Readiness, meters: Meters, *, failures: bool
    ) -> None:
        self.every = every
        self._url = url
        self._egress = egress
        self._readiness = readiness
        self._meters = meters
        self._failures = failures

    def __repr__(self) -> str:
        return f"Watcher(every={self.every})"

    def call(self) -> None:
        """Call now, if that is what there is to tell. Raises nothing: the next call is soon."""
        try:
            reasons = self._readiness.reasons()
            if reasons:
                _log.warning("the outside watcher is not told that all is well", reasons=reasons)
            if not reasons or self._failures:
                self._call(f"{self._url.rstrip('/')}/fail" if reasons else self._url)
        except Exception as error:
            # Its text may have the URL in it.
            _log.error("the outside watcher could not be called", error=type(error).__name__)
            self._meters.pinged("failed")

    def _call(self, url: str) -> None:
        try:
            reply = self._egress.request("POST", url, content=b"", max_bytes=_MAX_ANSWER, timeout=_TIMEOUT)
        except EgressRefused:
            problem = "the egress policy does not allow it: see [egress]"
        except EgressFailed as failure:
            problem = str(failure)
        else:
            problem = "" if 200 <= reply.status < 300 else f"it answered with the status {reply.status}"
        if problem:
            _log.warning("the outside watcher could not be called", reason=problem)
        self._meters.pinged("failed" if problem else "ok")
