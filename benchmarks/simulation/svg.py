"""The little of SVG that a picture needs. Coordinates are in pixels, from the upper left; colours are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape


@dataclass(frozen=True, slots=True)
class Box:
    """Where something is drawn, and what its lower and upper edge stand for."""

    left: float
    top: float
    width: float
    height: float
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, part: float) -> float:
        """Where a part of the width ends."""
        return self.left + part * self.width

    def y(self, value: float) -> float:
        """Where a value lies; one that is outside lies on the edge."""
        part = (value - self.lowest) / (self.highest - self.lowest)
        return self.bottom - min(1.0, max(0.0, part)) * self.height


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{_n(x)}" y="{_n(y)}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, style: str, radius: float = 0) -> str:
    corner = f' rx="{_n(radius)}"' if radius else ""
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{corner} class="{style}"/>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" class="{style}"/>'


def steps(box: Box, lower: Sequence[float], upper: Sequence[float], style: str) -> str:
    """The area between two rows of values, each of which holds for an equal part of the width."""
    path, begin = "", 0
    for end in range(1, len(upper) + 1):
        # One piece for as long as there is something between them.
        if end == len(upper) or (lower[end] == upper[end]) != (lower[begin] == upper[begin]):
            if lower[begin] != upper[begin]:
                path += _piece(box, lower, upper, begin, end)
            begin = end
    return f'<path d="{path}" class="{style}"/>'


def _piece(box: Box, lower: Sequence[float], upper: Sequence[float], begin: int, end: int) -> str:
    count = len(upper)
    there = _edge(box, [(upper[i], (i + 1) / count) for i in range(begin, end)])
    back = _edge(box, [(lower[i], i / count) for i in reversed(range(begin, end))])
    return f"M{_n(box.x(begin / count))} {_n(box.y(lower[begin]))}{there}{back}Z"


def _edge(box: Box, points: Sequence[tuple[float, float]]) -> str:
    """To each value, and along it to a part of the width; what goes straight on is one line."""
    path = ""
    for (value, part), following in zip(points, [*points[1:], None], strict=True):
        if following is None or following[0] != value:
            path += f"V{_n(box.y(value))}H{_n(box.x(part))}"
    return path


def outline(box: Box, values: Sequence[float | None], style: str) -> str:
    """The same as a line; where there is no value the one before goes on."""
    points: list[tuple[float, float]] = []
    for i, value in enumerate(values):
        if value is not None or points:
            points.append((points[-1][0] if value is None else value, (i + 1) / len(values)))
    begin = 1 - len(points) / len(values)
    start = f"M{_n(box.x(begin))} {_n(box.y(points[0][0]))}" if points else ""
    return f'<path d="{start}{_edge(box, points)}" class="{style}"/>'


def _n(number: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{number:.1f}".removesuffix(".0")
