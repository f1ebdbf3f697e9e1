"""The ticker: APScheduler wakes the engine at intervals, a create at once. The work itself is in the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from certbroker import background
from certbroker.engine.deploy import DeploySweep
from certbroker.engine.discover import DiscoverSweep
from certbroker.engine.drill import DrillSweep
from certbroker.engine.issue import IssueSweep
from certbroker.engine.notify import NotifySweep
from certbroker.engine.probe import ProbeSweep
from certbroker.engine.publish import PublishSweep
from certbroker.engine.renew import RenewSweep
from certbroker.engine.revoke import RevokeSweep
from certbroker.engine.rotate import RotateSweep
from certbroker.engine.watch import WatchSweep
from certbroker.services.broker import Broker
from certbroker.services.health.pulse import Part
from certbroker.services.health.watcher import Watcher
from certbroker.services.issuance.inbox import Inbox

_TICK_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = 30.0
_HOUSEKEEPING_SECONDS: Final = 60.0
_SELDOM_SECONDS: Final = 3600.0
_JOBS: Final = 16

# Between being woken and sweeping, so that certificates that are asked for together are made and stored together.
_GATHER_SECONDS: Final = 0.02
_log = structlog.get_logger("certbroker.engine")


class Engine:
    """Sweeps as long as it runs. The `inbox` wakes it."""

    def __init__(
        self,
        broker: Broker,
        inbox: Inbox,
        chores: tuple[Callable[[], None], ...] = (),
        watcher: Watcher | None = None,
    ) -> None:
        self._broker = broker
        self._inbox = inbox
        self._meters = broker.meters
        self._chores = chores
        self._watcher = watcher
        self._issue = IssueSweep(broker.operations, inbox)
        self._renew = RenewSweep(broker.renewals)
        self._revoke = RevokeSweep(broker.revocations)
        self._drill = DrillSweep(broker.drills)
        self._discover = DiscoverSweep(broker.discovery_tasks)
        self._watch = WatchSweep(broker.watching)
        self._publish = PublishSweep(broker.publishing)
        self._notify = NotifySweep(broker.deliveries, inbox)
        self._probe = ProbeSweep(broker.endpoints)
        self._deploy = DeploySweep(broker.deployments)
        self._rotate = RotateSweep(broker.key_rotation)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        # A job that is late is late because the machine was suspended or busy: running it once is right, dropping it
        # after APScheduler's default second is not.
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        # A thread for each job, so that none waits for one that hangs; APScheduler has ten.
        threads = {"default": ThreadPoolExecutor(_JOBS, {"initializer": background.enter})}
        self._ticker = BackgroundScheduler(timezone=UTC, job_defaults=defaults, executors=threads)

    def start(self) -> None:
        self._ticker.add_job(self._inbox.wake, "interval", seconds=_TICK_SECONDS, id="tick")
        self._ticker.add_job(self._look_after, "interval", seconds=_TICK_SECONDS, id="renewals")
        for part, sweep in (
            (Part.REVOKE, self._revoke.sweep),
            (Part.DRILL, self._drill.sweep),
            (Part.DISCOVER, self._discover.sweep),
            (Part.WATCH, self._watch.sweep_all),
            (Part.PUBLISH, self._publish.sweep),
            (Part.PROBE, self._probe.sweep),
            (Part.DEPLOY, self._deploy.sweep),
            (Part.ROTATE, self._rotate.sweep),
        ):
            self._ticker.add_job(self._sweep, "interval", (part, sweep), seconds=_TICK_SECONDS, id=part)
        self._ticker.add_job(self._beat, "interval", seconds=_BEAT_SECONDS, id="beat", next_run_time=datetime.now(UTC))
        self._ticker.add_job(
            self._housekeeping,
            "interval",
            seconds=_HOUSEKEEPING_SECONDS,
            id="housekeeping",
            next_run_time=datetime.now(UTC),
        )
        self._ticker.add_job(
            self._seldom, "interval", seconds=_SELDOM_SECONDS, id="seldom", next_run_time=datetime.now(UTC)
        )
        if self._watcher is not None:
            self._ticker.add_job(self._watcher.call, "interval", seconds=self._watcher.every, id="watcher")
        self._meters.pulse.start()
        self._ticker.start()
        self._thread.start()

    def stop(self) -> None:
        """Finish the steps in hand and end."""
        self._stopping.set()
        self._ticker.shutdown(wait=True)
        self._inbox.wake()
        self._thread.join()
        self._renew.stop()
        self._revoke.stop()
        self._watch.stop()
        self._publish.stop()
        self._issue.stop()
        self._notify.stop()
        self._probe.stop()
        self._deploy.stop()
        self._discover.stop()

    def _run(self) -> None:
        background.enter()
        while not self._stopping.is_set():
            try:
                with self._meters.sweeping(Part.ISSUE):
                    claimed = self._issue.sweep()
                pause = 0.0 if claimed else self._pause()
            except Exception:
                _log.exception("sweep failed")
                pause = _TICK_SECONDS
            try:
                with self._meters.sweeping(Part.NOTIFY):
                    self._notify.sweep()
            except Exception:
                _log.exception("notifications could not be swept")
            self._inbox.wait(pause)
            time.sleep(_GATHER_SECONDS)

    def _pause(self) -> float:
        """Seconds until there is work that no tick or wake-up will announce."""
        due = self._broker.operations.next_due()
        if due is None:
            return _TICK_SECONDS
        # What is due already and was not claimed waits for a thread, and a thread that becomes free wakes us.
        ahead = (due - self._broker.clock.now()).total_seconds()
        return min(max(ahead, 0.02), _TICK_SECONDS)

    def _look_after(self) -> None:
        """See to the certificates that are due for a look."""
        try:
            while not self._stopping.is_set() and self._sweep_renewals():
                pass
        except Exception:
            _log.exception("sweep failed")

    def _sweep_renewals(self) -> int:
        with self._meters.sweeping(Part.RENEW), background.working():
            return self._renew.sweep()

    def _sweep(self, part: Part, sweep: Callable[[], object]) -> None:
        try:
            with self._meters.sweeping(part), background.working():
                sweep()
        except Exception:
            _log.exception("sweep failed", part=part)

    def _beat(self) -> None:
        """Leave a mark in the database. It has a thread of its own, so that no chore can keep it from its turn."""
        try:
            with self._meters.sweeping(Part.BEAT):
                self._broker.housekeeping.beat()
        except Exception:
            _log.exception("the engine could not leave its mark")

    def _housekeeping(self) -> None:
        """Chores that may be late. One that fails does not keep the next from its turn."""
        broker, keeping = self._broker, self._broker.housekeeping
        mine = (self._purge, keeping.forget_old_operations, keeping.forget_expired_entries, broker.governor.tidy)
        for chore in (*mine, broker.operations.bring_forward, broker.secret_expiry.tell, *self._chores):
            try:
                chore()
            except Exception:
                _log.exception("housekeeping failed", chore=chore.__name__)

    def _seldom(self) -> None:
        """Chores that look at much."""
        broker = self._broker
        mine = (broker.deliveries.prune, broker.digests.publish_due, broker.drills.forget_old)
        for chore in (*mine, self._publish.tidy, broker.watching.tidy):
            try:
                chore()
            except Exception:
                _log.exception("housekeeping failed", chore=chore.__name__)

    def _purge(self) -> None:
        while purged := self._broker.deletions.purge_due():
            _log.info("objects purged at the end of their recovery period", count=purged)
