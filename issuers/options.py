"""Options of an issuer, as they stand in `org_details.id`: `key=value`, separated by `;` or white space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from certbroker.domain.errors import Invalid

_MAX: Final = 2048


def read_options(text: str, known: Sequence[str]) -> dict[str, str]:
    """The options by key in lower case. Raises Invalid when one is unknown, without a value, or given twice."""
    if len(text) > _MAX:
        raise Invalid(f"org_details.id is longer than {_MAX} characters.")
    given: dict[str, str] = {}
    for part in filter(None, re.split(r"[;\s]+", text)):
        key, equals, value = part.partition("=")
        key = key.lower()
        if key not in known:
            raise Invalid(f"org_details.id has the option {key[:64]!r}: known are {', '.join(known)}.")
        if not equals or not value:
            raise Invalid(f"org_details.id: the option {key} has no value; write {key}=….")
        if key in given:
            raise Invalid(f"org_details.id has the option {key} twice.")
        given[key] = value
    return given
