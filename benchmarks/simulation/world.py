"""What the years bring: certificates, outages, one mass revocation, clocks that jump. All of it drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
YEAR = 365.25 * DAY

START = datetime(2027, 1, 1, tzinfo=UTC)

# One CA suggests when to renew (RFC 9773), as Let's Encrypt does; the other leaves it to the policy.
SUGGESTING, SILENT = "suggesting", "silent"

# Days of life, and the CA that issues certificates of that life; equally many of each.
LIVES = ((6, SUGGESTING), (45, SUGGESTING), (47, SILENT), (90, SUGGESTING), (200, SILENT))

_DOMAIN_SIZES = (5, 10, 20, 40)
_LARGEST_DOMAIN = 80  # More than a CA allows in a week, so some of these certificates have to wait.
_TEAMS = 4
_ROLL_OUT = 60 * DAY


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to before `end`."""

    start: datetime
    end: datetime

    def holds(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    @property
    def length(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Outage:
    """A CA that cannot be reached."""

    ca: str
    span: Span


@dataclass(frozen=True, slots=True)
class Jump:
    """For a while the broker's clock is wrong by so much."""

    span: Span
    by: timedelta


@dataclass(frozen=True, slots=True)
class Wanted:
    """One certificate that somebody asks for at `at`, from `ca`. The team has a vault and CA accounts of its own."""

    name: str
    team: str
    dns_names: tuple[str, ...]
    ca: str
    life: timedelta
    at: datetime


@dataclass(frozen=True, slots=True)
class World:
    """Everything that happens and is not the broker's doing."""

    start: datetime
    end: datetime
    certificates: tuple[Wanted, ...]
    outages: tuple[Outage, ...]
    incident: datetime
    """When the suggesting CA learns that half of what it has issued must be replaced."""
    jumps: tuple[Jump, ...]
    suspends: tuple[Span, ...]
    """When the machine sleeps."""

    def part(self, number: int, count: int) -> World:
        """What one of several brokers sees: some of the teams, and with them their domains and accounts at the CAs."""
        teams = sorted({wanted.team for wanted in self.certificates})[number::count]
        return replace(self, certificates=tuple(wanted for wanted in self.certificates if wanted.team in teams))

    def skew(self, moment: datetime) -> timedelta:
        """By how much the broker's clock is wrong."""
        return next((jump.by for jump in self.jumps if jump.span.holds(moment)), timedelta(0))


def draw(years: float, certificates: int, seed: int) -> World:
    """A world that is the same for the same arguments."""
    chance = random.Random(seed)
    end = START + years * YEAR
    incident = START + 0.45 * (end - START)
    return World(
        START,
        end,
        tuple(_certificates(certificates, chance)),
        tuple(sorted(_outages(end, incident, chance), key=lambda outage: outage.span.start)),
        incident,
        tuple(_jumps(years, incident, chance)),
        tuple(_suspends(years, chance)),
    )


def _certificates(count: int, chance: random.Random) -> Iterator[Wanted]:
    """Domain by domain, as a site is moved to a new tool: all certificates of one domain are asked for at once."""
    made, domain = 0, 0
    while made < count:
        size = min(_LARGEST_DOMAIN if domain == 0 else chance.choice(_DOMAIN_SIZES), count - made)
        at, team = START + chance.random() * _ROLL_OUT, f"team-{domain % _TEAMS}"
        base = f"site-{domain}.example"
        for number in range(size):
            days, ca = LIVES[made % len(LIVES)]
            host = base if number == 0 else f"host-{number}.{base}"
            names = (host, f"www.{host}")[: chance.choice((1, 2))]
            yield Wanted(f"cert-{made}", team, names, ca, days * DAY, at)
            made += 1
        domain += 1


def _outages(end: datetime, incident: datetime, chance: random.Random) -> Iterator[Outage]:
    """Each CA is away some hours every few months, once for three days, and once for a week."""
    for number, ca in enumerate((SUGGESTING, SILENT)):
        taken = [Span(incident - 10 * DAY, incident + 10 * DAY)]
        long = [(0.7 + number / 10, 7 * DAY), (0.25 + number / 10, 3 * DAY)]
        spans = [_span(START + part * (end - START), length) for part, length in long]
        moment = START + 90 * DAY
        while (moment := moment + chance.expovariate(1 / 75) * DAY) < end - 10 * DAY:
            spans.append(_span(moment, min(2.0, max(1 / 24, chance.lognormvariate(-1.5, 1.0))) * DAY))
        for span in spans:
            if all(span.end < other.start - DAY or span.start > other.end + DAY for other in taken):
                taken.append(span)
                yield Outage(ca, span)


def _jumps(years: float, incident: datetime, chance: random.Random) -> Iterator[Jump]:
    """Twice a year the clock goes an hour ahead, or back, for minutes to days; then it is put right again."""
    for number in range(round(2 * years)):
        start = START + (number / 2 + 0.5 * chance.random() * 0.9) * YEAR
        span = _span(start, chance.choice((10 * HOUR / 60, 5 * HOUR, 3 * DAY)))
        if abs(span.start - incident) > 5 * DAY:
            yield Jump(span, HOUR if number % 3 else -HOUR)


def _suspends(years: float, chance: random.Random) -> Iterator[Span]:
    """Once a year the machine sleeps for a day."""
    for number in range(round(years)):
        yield _span(START + (number + 0.2 + 0.7 * chance.random()) * YEAR, DAY)


def _span(start: datetime, length: timedelta) -> Span:
    return Span(start, start + length)
