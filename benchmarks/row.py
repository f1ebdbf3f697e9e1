"""One row of the result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A figure and, where there is one, the baseline of the same run; `ratio` is ours to the baseline."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
