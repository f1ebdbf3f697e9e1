"""Waiting for dns-persist-01 records, and telling of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certbroker.domain.errors import Invalid
from certbroker.domain.policy import is_dns_name
from certbroker.ports.clock import Clock
from certbroker.ports.dns import DNS
from certbroker.ports.issuer import StillWaiting
from certbroker.ports.issuer_abilities import StandingRecord
from issuers.acme.dns_persist import Wanted, look, not_ready, pause_for_a_person, to_do
from issuers.acme.messages import Directory, Identifier
from issuers.acme.pauses import stamped
from issuers.acme.steps import Steps

STEP: Final = "dns-persist"

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StandingRecords:
    """The records of one issuer's names. One that ends within `warning` is told of."""

    names: DNS
    clock: Clock
    warning: timedelta

    def of(self, name: str, directory: Directory, account: str) -> StandingRecord:
        """The record for a name, which may begin with `*.`, and how it stands. Raises Invalid."""
        wanted = _wanted([name], directory, account)
        if not wanted:
            raise Invalid(
                "The CA's directory does not say which name (caaIdentities) the record should have. Create the "
                "certificate with challenge=dns-persist-01: its pending operation shows the record."
            )
        return look(wanted, self.names, self.clock.now(), self.warning)[0]

    def await_for(
        self, identifiers: Iterable[Identifier], directory: Directory, account: str, steps: Steps
    ) -> StillWaiting | None:
        """As `await_all`, before there is an order that could say it better."""
        return self.await_all(_wanted([each.value for each in identifiers], directory, account), steps)

    def await_all(self, wanted: Sequence[Wanted], steps: Steps) -> StillWaiting | None:
        """None when the CA can be asked to look; else what somebody has to publish first.

        Nothing is written while waiting. Then what was found goes into the journal, and into the log when somebody
        should know.
        """
        now = self.clock.now()
        records = look(wanted, self.names, now, self.warning)
        missing = not_ready(records)
        if missing:
            since = stamped((steps.recorded("order") or steps.intended("order") or {}).get("at"))
            return StillWaiting(pause_for_a_person(since, now), to_do(missing))
        for record in records:
            if record.status != "good":
                _log.warning("The record %s for dns-persist-01 is %s: %s", record.name, record.status, record.detail)
        found = [[record.name, record.status, record.until and record.until.isoformat()] for record in records]
        steps.record(STEP, records=json.dumps(found))
        return None


def _wanted(names: Sequence[str], directory: Directory, account: str) -> list[Wanted]:
    """The records for names, by what the CA's directory says; none when it does not say enough."""
    issuers = tuple(name for name in directory.caa_identities if is_dns_name(name))
    if not issuers:
        return []
    wildcards = {name.removeprefix("*."): False for name in names}
    wildcards |= {name.removeprefix("*."): True for name in names if name.startswith("*.")}
    return [Wanted(name, wildcard, issuers, account) for name, wildcard in wildcards.items()]
