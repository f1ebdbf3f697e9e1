"""Lengths of time on the calendar, as ISO 8601 writes them: a month is as long as it is."""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from certbroker.domain.errors import Invalid

_TEXT: Final = re.compile(r"P(?=[0-9])(?:([0-9]{1,3})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,5})D)?", re.ASCII)
_LONGEST: Final = timedelta(days=36525)


class Duration(Struct, frozen=True):
    """So many months, then so many days. `text` is how it was written."""

    text: str
    months: int
    days: int

    @property
    def shortest(self) -> timedelta:
        """How long it is at least, whenever it begins."""
        years, months = divmod(self.months, 12)
        return timedelta(days=365 * years + 28 * months + self.days)

    @property
    def longest(self) -> timedelta:
        """How long it is at most."""
        years, months = divmod(self.months, 12)
        return timedelta(days=366 * years + 31 * months + self.days)

    def after(self, moment: datetime) -> datetime:
        """The moment that is so much later."""
        return add_months(moment, self.months) + timedelta(days=self.days)

    def before(self, moment: datetime) -> datetime:
        """The moment that is so much earlier."""
        return add_months(moment - timedelta(days=self.days), -self.months)


def parse_duration(text: str, field: str) -> Duration:
    """A duration of years, months and days, such as `P1Y` or `P2M10D`. Raises Invalid."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise Invalid(
            f"{field} {text[:40]!r} is not a duration: write years, months and days, such as P90D, P2M or P1Y."
        )
    years, months, days = (int(part or 0) for part in match.groups())
    duration = Duration(text, 12 * years + months, days)
    if duration.shortest > _LONGEST:
        raise Invalid(f"{field} {text!r} is longer than a century.")
    return duration


def add_months(moment: datetime, months: int) -> datetime:
    """The same day of the month `months` later, or that month's last day where it has no such day."""
    years, month = divmod(moment.month - 1 + months, 12)
    year = moment.year + years
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))
