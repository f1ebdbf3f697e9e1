"""What people are told of certificates that do not get to where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from msgspec.structs import replace

from certbroker.domain.deployment import Progress
from certbroker.domain.endpoints import Alarm, Standing
from certbroker.domain.events import Event, EventType, event_id
from certbroker.domain.objects import Kind
from certbroker.domain.records import Version
from certbroker.store.endpoints import Endpoint


def of_endpoint(before: Endpoint, after: Standing, version: Version, now: datetime) -> Iterator[Event]:
    """That the version in use is not served, once for each version, once more when what is served has expired; and
    that it is served at last, to those who have been told that it was not.
    """
    place, alarm, known = before.place, after.alarm, before.standing.alarm
    since = f"{after.missing_since:%Y%m%d%H%M%S}" if after.missing_since else ""
    if alarm is not None and _key(alarm) != _key(known):
        text = f"{place.text} does not serve it as it should. {alarm.reason}"
        step = f"{place.id}:{'expired' if alarm.grave else 'late'}:{since}"
        yield _event(EventType.CERTIFICATE_NOT_DEPLOYED, before.vault_id, version, step, text, now, place.text)
    elif alarm is None and known is not None and after.missing_since is None:
        text = f"{place.text} serves the version in use."
        step = f"{place.id}:{now:%Y%m%d%H%M%S}"
        yield _event(EventType.CERTIFICATE_DEPLOYED, before.vault_id, version, step, text, now, place.text)


def of_deployment(
    name: str, vault_id: int, before: Progress, after: Progress, version: Version, now: datetime
) -> Iterator[Event]:
    """That a deployment goes on failing, and that it has succeeded at last."""
    since = after.failing_since or before.failing_since
    step = f"deploy {name}:{since:%Y%m%d%H%M%S}" if since else ""
    if after.told and not before.told:
        text = f"Its deployment {name} has failed {after.failures} times, and is tried again. {after.problem}"
        yield _event(EventType.CERTIFICATE_NOT_DEPLOYED, vault_id, version, step, text, now, name)
    elif before.told and not after.told:
        text = f"Its deployment {name} has succeeded."
        yield _event(EventType.CERTIFICATE_DEPLOYED, vault_id, version, step, text, now, name)


def _key(alarm: Alarm | None) -> tuple[str, bool] | None:
    return None if alarm is None else (alarm.version, alarm.grave)


def _event(kind: EventType, vault_id: int, version: Version, step: str, text: str, now: datetime, where: str) -> Event:
    event = Event(
        event_id(kind, vault_id, Kind.CERTIFICATE, version.name, version.version, step),
        kind,
        vault_id,
        Kind.CERTIFICATE,
        version.name,
        version.version,
        now,
        version.attributes.not_before,
        version.attributes.expires,
        message=text,
    )
    return replace(event, details={"where": where})
