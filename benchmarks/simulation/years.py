"""The loop over the years, for one broker."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.simulation.ca import SimulatedCA
from benchmarks.simulation.issuer import SimulatedKind
from benchmarks.simulation.site import BrokerClock, Site
from benchmarks.simulation.tally import Tally
from benchmarks.simulation.watch import Watch
from benchmarks.simulation.world import DAY, HOUR, SILENT, SUGGESTING, World
from certbroker.services.issuers.registered_domains import registered_domain

# The engine looks for work every second. Here it does so when something is due, and at most this often: what comes
# due meanwhile is done together, later than it would be.
TICK = HOUR

# The engine keeps house every minute; here every hour, and a minute after the clock has jumped.
_KEEP_HOUSE = HOUR
_AFTER_JUMP = timedelta(minutes=1)

# How often the CA wants to be asked for windows. Let's Encrypt says every six hours; a day is the most that the broker
# takes from a CA, and questions alone would be most of the work otherwise.
ASK_AGAIN = DAY


class Simulation:
    """One run, on a fresh directory."""

    def __init__(
        self, world: World, directory: Path, seed: str, *, tick: timedelta = TICK, ask_again: timedelta = ASK_AGAIN
    ) -> None:
        self.world = world
        self.now = world.start
        self._counts = Tally()
        self._watch = Watch(world.start, self._counts)
        self._tick = tick
        self.cas = {ca: self._ca(ca, seed) for ca in (SUGGESTING, SILENT)}
        self._clock = BrokerClock(world.start)
        kind = SimulatedKind(self.cas, ask_again, self._count_question)
        self.site = Site(directory, self._clock, {"simulated": kind})
        self.site.on_certificate = lambda why: self._watch.made(self.now, why)
        self._to_ask = sorted(world.certificates, key=lambda wanted: wanted.at, reverse=True)
        edges = {edge for jump in world.jumps for edge in (jump.span.start, jump.span.end)}
        self._chores = sorted((edge + _AFTER_JUMP for edge in edges), reverse=True)
        self._next_chores = world.start

    def run(self, progress: Callable[[datetime, int], None]) -> Tally:
        """Live through all of it; `progress` is told the time and the number of orders."""
        before = time.process_time()
        try:
            while self.now < self.world.end:
                self._wake()
                progress(self.now, self._orders())
                self._sleep()
            return self._tally(time.process_time() - before)
        finally:
            self.site.close()

    def _wake(self) -> None:
        """One moment: what people and the engine do at it."""
        self._clock.skew = self.world.skew(self.now)
        self._clock.moment = self.now + self._clock.skew
        while self._to_ask and self._to_ask[-1].at <= self.now:
            self.site.ask(self._to_ask.pop())
        if self.now >= self._next_chores or (self._chores and self.now >= self._chores[-1]):
            while self._chores and self.now >= self._chores[-1]:
                self._chores.pop()
            self._next_chores = self.now + _KEEP_HOUSE
            self.site.keep_house()
        self.site.work()
        self._watch.health(self.now, self.site.health())
        self._watch.look(self.now)

    def _sleep(self) -> None:
        """Go to the next moment at which there is something to do."""
        moments = [self._next_chores]
        due = self.site.next_due()
        if due is not None:
            moments.append(due - self.world.skew(self.now))
        if self._chores:
            moments.append(self._chores[-1])
        if self._to_ask:
            moments.append(self._to_ask[-1].at)
        following = max(min(moments), self.now + self._tick)
        suspend = next((span for span in self.world.suspends if span.holds(following)), None)
        self.now = following if suspend is None else suspend.end

    def _ca(self, name: str, seed: str) -> SimulatedCA:
        world = self.world
        ca = SimulatedCA(
            name,
            lambda: self.now,
            suggests=name == SUGGESTING,
            lives={wanted.dns_names: wanted.life for wanted in world.certificates},
            domain_of=registered_domain,
            outages=tuple(outage.span for outage in world.outages if outage.ca == name),
            incident=world.incident if name == SUGGESTING else None,
            chance=random.Random(f"{name} {seed}"),
        )
        ca.on_issue = self._watch.listener(ca)
        for counters in ca.counters:
            counters.on_use = self._watch.uses(counters.what)
        return ca

    def _count_question(self) -> None:
        self._counts.questions += 1

    def _tally(self, cpu_seconds: float) -> Tally:
        tally, cas = self._counts, self.cas.values()
        tally.orders = self._orders()
        tally.refused_by_limits = sum((ca.refused for ca in cas), Counter())
        tally.doubled_orders = sum(ca.doubled for ca in cas)
        tally.needless_certificates = sum(ca.needless for ca in cas)
        tally.failed_validations = sum(ca.unvalidated for ca in cas)
        tally.replaced_for_incident = self.cas[SUGGESTING].replaced_for_incident
        tally.looks = self.site.looks
        newest = {wanted: self._watch.latest(wanted.dns_names) for wanted in self.world.certificates}
        tally.unwell = [*self.site.unwell(newest)]
        tally.database_mib = round(self.site.database.size / 2**20)
        tally.cpu_seconds = cpu_seconds
        return tally

    def _orders(self) -> int:
        return sum(ca.orders for ca in self.cas.values())
