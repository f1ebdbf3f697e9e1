"""The years of a run in one picture, drawn from its record.

Weeks go from left to right through everything; what happened to the site is above, how it went below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from benchmarks.simulation.record import Record
from benchmarks.simulation.svg import Box, line, outline, rectangle, steps, text
from benchmarks.simulation.world import SILENT, SUGGESTING

_WIDTH: Final = 1200
_HEIGHT: Final = 1040
_LEFT, _RIGHT = 196, 1168

_LEGEND: Final = (
    "Bands: a CA was away for a day or longer. "
    "Dashed: a CA wanted half of what it had issued in two months replaced at once."
)

# An outage that lasts for less is marked above only.
_LONG: Final = timedelta(days=1)
_VERY_LONG: Final = timedelta(days=6)

# From the bottom of the pile to its top, each with its class and what a reader calls it.
_REASONS: Final = (
    ("SuggestedByCA", "suggested", "the CA suggested it"),
    ("LifetimeAction", "planned", "the policy's point had come"),
    ("First", "first", "asked for"),
    ("Incident", "incident", "the CA had to replace it"),
)
_HEALTHS: Final = (
    ("Healthy", "healthy", "healthy"),
    ("Renewing", "renewing", "being made"),
    ("Failing", "failing", "failing, tried again"),
    ("NeedsPerson", "person", "needs a person"),
    ("Expired", "expired", "expired"),
)
_LIMITS: Final = (
    ("new orders by the account", "orders of an account", "300 in 3 hours"),
    ("certificates for the registered domain", "for a registered domain", "50 in 7 days"),
    ("certificates for the exact set of names", "for the same names", "5 in 7 days"),
    ("failed validations of a name", "failed for a name", "5 in an hour"),
)

# A classic palette for those who see few colours. What a reader is to worry about is warm.
_STYLE: Final = """
text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
.page { fill: #ffffff }
.title { font-size: 27px; font-weight: 650 }
.said { fill: #57606a }
.small { font-size: 11.5px; fill: #57606a }
.name { font-weight: 600 }
.figure { font-size: 25px; font-weight: 650 }
.good { fill: #1a7f4b }
.tile { fill: #f3f5f8 }
.plot { fill: #f8f9fb }
.grid { stroke: #24292f; stroke-opacity: .1 }
.limit { stroke: #c0392b; stroke-width: 1.2 }
.refused { fill: #b03a2e; font-size: 11.5px }
.away { fill: #e0871f; fill-opacity: .16 }
.struck { stroke: #c0392b; stroke-width: 1.2; stroke-dasharray: 4 3 }
.outage { fill: #d9822b }
.clock { fill: #7d5bbe }
.asleep { fill: #5c6773 }
.suggested { fill: #3b78b8 }
.planned { fill: #35a08f }
.first { fill: #9aa3ad }
.incident { fill: #c0392b }
.healthy { fill: #a9d8bd }
.renewing { fill: #3b78b8 }
.failing { fill: #e0871f }
.person { fill: #7d5bbe }
.expired { fill: #c0392b }
.used { fill: #3b78b8; fill-opacity: .75 }
.left { fill: none; stroke: #24786b; stroke-width: 1.4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.page { fill: #0f141a }
.said, .small { fill: #9aa7b4 }
.good { fill: #56d394 }
.tile { fill: #1a222c }
.plot { fill: #151c24 }
.grid { stroke: #e6edf3; stroke-opacity: .13 }
.limit, .struck { stroke: #ff7b72 }
.refused { fill: #ff8f87 }
.away { fill: #ffb454; fill-opacity: .15 }
.outage { fill: #f0a04b }
.clock, .person { fill: #b392f0 }
.asleep { fill: #8b98a5 }
.suggested, .renewing { fill: #58a0e8 }
.planned { fill: #3fbfa9 }
.first { fill: #7d8894 }
.incident, .expired { fill: #ff7b72 }
.healthy { fill: #1f5c40 }
.failing { fill: #f0a04b }
.used { fill: #58a0e8; fill-opacity: .75 }
.left { stroke: #4fd1bd }
}
"""


def draw_picture(record: Record) -> str:
    """The SVG."""
    span = _Span(record)
    parts = [
        *_head(record),
        *_events(span, record),
        *_reasons(span, record),
        *_healths(span, record),
        *_limits(span, record),
        *_closeness(span, record),
        *_foot(record),
    ]
    title, told = _title(record), _told(record)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{title}</title>',
            f'<desc id="desc">{told}</desc>',
            f"<style>{_STYLE}</style>",
            rectangle(0, 0, _WIDTH, _HEIGHT, "page", 14),
            *parts,
            "</svg>\n",
        ]
    )


class _Span:
    """The time that passes from left to right."""

    def __init__(self, record: Record) -> None:
        self.start = datetime.fromisoformat(record["start"])
        self.end = datetime.fromisoformat(record["end"])
        weeks = len(record["orders_by_week"])
        # The last week is cut off by the end, so it says less than the others.
        self.weeks = max(1, weeks - 1)
        self.incident = self.part(record["incident"])
        self.outages = [(ca, self.part(start), self.part(end)) for ca, start, end in record["outages"]]

    def part(self, moment: str) -> float:
        return (datetime.fromisoformat(moment) - self.start) / (self.end - self.start)

    def starts(self, length: timedelta) -> list[float]:
        """Where outages begin that last for so long."""
        return [start for _, start, end in self.outages if (end - start) * (self.end - self.start) >= length]

    def box(self, top: float, height: float, highest: float) -> Box:
        """A plot of its own."""
        return Box(_LEFT, top, _RIGHT - _LEFT, height, 0.0, highest)

    def weekly(self, values: Sequence[Any]) -> list[Any]:
        return [*values[: self.weeks]]

    def behind(self, box: Box) -> Iterator[str]:
        """The ground of a plot, with the years."""
        yield rectangle(box.left, box.top, box.width, box.height, "plot")
        for year in range(self.start.year, self.end.year + 1):
            part = (datetime(year, 1, 1, tzinfo=self.start.tzinfo) - self.start) / (self.end - self.start)
            if 0 <= part <= 1:
                yield line(box.x(part), box.top, box.x(part), box.bottom, "grid")

    def before(self, box: Box) -> Iterator[str]:
        """What lies above a plot: when a CA was away for long, and the incident."""
        for _, start, end in self.outages:
            if (end - start) * (self.end - self.start) >= _LONG:
                yield rectangle(box.x(start), box.top, max(1.5, box.x(end) - box.x(start)), box.height, "away")
        yield line(box.x(self.incident), box.top, box.x(self.incident), box.bottom, "struck")


def _head(record: Record) -> Iterator[str]:
    figures = record["figures"]
    yield text(32, 50, _title(record), "title")
    yield text(32, 76, _subtitle(record), "said")
    tiles = (
        (f"{figures['certificates']:,}", "certificates looked after", ""),
        (f"{figures['orders']:,}", f"orders; {figures['ideal_orders']:,} are ideal", ""),
        (f"{figures['expired']}", "expired while a CA was up", "good"),
        (f"{figures['limit_violations']}", "refused because of a limit", "good"),
        (f"{figures['outages']}", f"outages, {figures['outage_hours'] / 24:,.0f} days in all", ""),
        (hours(figures["incident_replaced_hours"]), "for all that was revoked", ""),
    )
    width, gap = (_WIDTH - 64 - 5 * 12) / 6, 12
    for number, (figure, words, style) in enumerate(tiles):
        x = 32 + number * (width + gap)
        good = style if figure == "0" else ""
        yield rectangle(x, 94, width, 68, "tile", 8)
        yield text(x + 14, 126, figure, f"figure {good}".strip())
        yield text(x + 14, 149, words, "small")


def _events(span: _Span, record: Record) -> Iterator[str]:
    top, lane = 186, 21
    lanes = (
        ("CA that suggests: away", "outage", [(a, b) for ca, a, b in span.outages if ca == SUGGESTING]),
        ("CA that is silent: away", "outage", [(a, b) for ca, a, b in span.outages if ca == SILENT]),
        ("broker's clock wrong", "clock", [(span.part(a), span.part(b)) for a, b, _ in record["jumps"]]),
        ("machine asleep", "asleep", [(span.part(a), span.part(b)) for a, b in record["suspends"]]),
    )
    box = span.box(top, lane * len(lanes), 1.0)
    yield from span.behind(box)
    for number, (name, style, spans) in enumerate(lanes):
        y = top + number * lane
        yield text(box.left - 12, y + 15, name, "small", "end")
        for start, end in spans:
            yield rectangle(box.x(start), y + 4, max(2.5, box.x(end) - box.x(start)), lane - 8, style, 1)
    yield from span.before(box)
    yield text(box.x(span.incident) + 6, box.top - 5, "a mass revocation", "refused")
    for start in span.starts(_VERY_LONG):
        yield text(box.x(start) + 6, box.top - 5, "a week away", "small")


def _reasons(span: _Span, record: Record) -> Iterator[str]:
    rows = {name: span.weekly(record["certificates_by_week"].get(name, [0])) for name, _, _ in _REASONS}
    rows |= {name: [0] * span.weeks for name, row in rows.items() if len(row) != span.weeks}
    pile = [sum(week) for week in zip(*rows.values(), strict=True)]
    box = span.box(318, 170, _round_up(max(pile)))
    yield from _titled(box, "Made each week", "by what made it happen", _REASONS)
    yield from span.behind(box)
    yield from _scale(box, "{:,.0f}")
    yield from _piled(box, rows, _REASONS)
    yield from span.before(box)


def _healths(span: _Span, record: Record) -> Iterator[str]:
    weeks = span.weekly(record["health_by_week"])
    rows = {name: [week.get(name, 0) for week in weeks] for name, _, _ in _HEALTHS}
    box = span.box(548, 120, max(sum(week) for week in zip(*rows.values(), strict=True)) or 1)
    yield from _titled(box, "Certificates", "at the worst hour of each week", _HEALTHS)
    yield from span.behind(box)
    yield from _scale(box, "{:,.0f}")
    yield from _piled(box, rows, _HEALTHS)
    yield from span.before(box)


def _limits(span: _Span, record: Record) -> Iterator[str]:
    top, height, gap = 728, 30, 12
    yield text(32, top - 22, "Limits of the CAs", "name")
    yield text(_LEFT, top - 22, "how much of each was used up, in the fullest moment of each week", "said")
    for number, (name, words, allowed) in enumerate(_LIMITS):
        box = span.box(top + number * (height + gap), height, 1.0)
        used = span.weekly(record["most_used_by_week"].get(name, [0.0] * (span.weeks + 1)))
        yield text(box.left - 12, box.top + 13, words, "small", "end")
        yield text(box.left - 12, box.top + 27, allowed, "small", "end")
        yield from span.behind(box)
        yield steps(box, [0.0] * span.weeks, used, "used")
        yield line(box.left, box.top, box.right, box.top, "limit")
        yield from span.before(box)
    yield text(_RIGHT, top - 6, "here the CA refuses", "refused", "end")


def _closeness(span: _Span, record: Record) -> Iterator[str]:
    box = span.box(934, 52, 0.5)
    yield text(32, box.top - 12, "The closest call", "name")
    yield text(_LEFT, box.top - 12, "the least of its life that a certificate had left when its successor came", "said")
    yield from span.behind(box)
    yield from _scale(box, "{:.0%}", 2)
    yield line(box.left, box.bottom, box.right, box.bottom, "limit")
    yield outline(box, span.weekly(record["least_life_left_by_week"]), "left")
    yield from span.before(box)


def _foot(record: Record) -> Iterator[str]:
    start, end = (datetime.fromisoformat(record[name]) for name in ("start", "end"))
    for year in range(start.year, end.year + 1):
        middle = datetime(year, 7, 1, tzinfo=start.tzinfo)
        if start < middle < end:
            yield text(_LEFT + (middle - start) / (end - start) * (_RIGHT - _LEFT), 1006, str(year), "small", "middle")
    yield text(
        _LEFT,
        1028,
        _LEGEND,
        "small",
    )


def _titled(box: Box, name: str, words: str, legend: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield text(32, box.top - 14, name, "name")
    yield text(_LEFT, box.top - 14, words, "said")
    x = box.right
    for _, style, told in reversed(legend):
        x -= 6.1 * len(told)
        yield text(x, box.top - 14, told, "small")
        x -= 17
        yield rectangle(x, box.top - 24, 11, 11, style, 2)
        x -= 12


def _scale(box: Box, form: str, parts: int = 4) -> Iterator[str]:
    for number in range(parts + 1):
        value = box.lowest + (box.highest - box.lowest) * number / parts
        yield line(box.left, box.y(value), box.right, box.y(value), "grid")
        yield text(box.left - 12, box.y(value) + 4, form.format(value), "small", "end")


def _piled(box: Box, rows: Mapping[str, Sequence[float]], legend: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Rows upon each other; what is nowhere is left out."""
    lower = [0.0] * len(next(iter(rows.values())))
    for name, style, _ in legend:
        upper = [below + value for below, value in zip(lower, rows[name], strict=True)]
        if any(rows[name]):
            yield steps(box, lower, upper, style)
        lower = upper


def _title(record: Record) -> str:
    years, certificates = record["figures"]["years"], record["figures"]["certificates"]
    return f"{years:g} {'year' if years == 1 else 'years'} of {certificates:,} certificates, unattended"


def _subtitle(record: Record) -> str:
    figures = record["figures"]
    return (
        f"The real engine and store under a clock moved by hand, against two simulated CAs that enforce their limits: "
        f"{figures['cpu_seconds'] / 60:,.0f} minutes of CPU."
    )


def _told(record: Record) -> str:
    """The picture in words."""
    figures = record["figures"]
    return (
        f"{figures['orders']:,} orders were made where {figures['ideal_orders']:,} are ideal. While their CA was up, "
        f"{figures['expired']} certificates expired, and the CAs refused {figures['limit_violations']} orders because "
        f"of their limits. There were {figures['outages']} outages, {figures['clock_jumps']} times at which the clock "
        f"was wrong, {figures['suspends']} days asleep, and one mass revocation, after which "
        f"{figures['incident_certificates']} certificates were replaced within "
        f"{hours(figures['incident_replaced_hours'])}. From top to bottom: what happened; certificates made each week "
        f"by reason; certificates by health; how much of each limit was used; the least life left at a renewal."
    )


def hours(hours: float | None) -> str:
    return "none" if hours is None else f"{hours:,.0f} h"


def _round_up(value: float) -> float:
    """The next number that is easy to divide by four."""
    step = 10.0 ** max(0, len(str(int(value))) - 2) * 4
    return max(4.0, -(-value // step) * step)
