"""Several waits at once: for name servers, for providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from certbroker.ports.issuer import IssuerUnavailable

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 8


def each(items: Sequence[T], action: Callable[[T], R]) -> list[R]:
    """What the action brought for each, in their order. All are tried; then the first IssuerUnavailable is raised."""
    if not items:
        return []
    results: list[R] = []
    failure: IssuerUnavailable | None = None
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), "dns") as pool:
        for done in [pool.submit(action, item) for item in items]:
            try:
                results.append(done.result())
            except IssuerUnavailable as error:
                failure = failure or error
    if failure is not None:
        raise failure
    return results
