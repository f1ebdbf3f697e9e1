"""Which handler serves which request, and which data action it needs.

Key Vault paths defeat ordinary routers: an empty last segment stands for the current version, a double slash for an
unversioned key, and words such as `contacts` or `restore` stand where a name would. So the paths are split at every
slash, literal segments are matched first and without regard to case, and nothing is collapsed, decoded or redirected.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from msgspec import Struct

from certbroker.domain.audit import Caller
from certbroker.domain.errors import Invalid
from certbroker.domain.objects import Vault, check_name, check_version
from certbroker.services.broker import Broker
from certbroker.services.objects.listings import MAX_PAGE
from certbroker.web.akv.ids import Links
from certbroker.web.http import MAX_BODY, Response


class Call(Struct, frozen=True):
    """What a handler gets: who calls, about what, with what."""

    broker: Broker
    caller: Caller
    vault: Vault
    links: Links
    path: str
    parameters: dict[str, str]
    query: dict[str, str]
    body: bytes
    quick: bool = False
    """Whether the handler runs on the event loop, where it may raise TakesLong."""
    if_none_match: str = ""
    """The tags of what the client has."""

    @property
    def name(self) -> str:
        """The name in the path. Raises Invalid."""
        return check_name(self.parameters["name"])

    @property
    def version(self) -> str:
        """The version in the path, in lower case; empty for the current one. Raises Invalid."""
        version = self.parameters.get("version")
        return check_version(version) if version else ""

    @property
    def include_pending(self) -> bool:
        """Whether a listing is to have certificates that have no version yet."""
        return self.query.get("includePending", "").lower() in ("1", "true")

    def page_size(self) -> int:
        """`maxresults`. Raises Invalid."""
        text = self.query.get("maxresults", str(MAX_PAGE))
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= MAX_PAGE:
            raise Invalid(f"maxresults is a number between 1 and {MAX_PAGE}.")
        return int(text)


class TakesLong(Exception):
    """A handler on the event loop found that it is not quick this time; the call goes to a thread."""


Handler = Callable[[Call], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. A quick one runs on the event loop; one that writes makes its own audit record.

    One that can take seconds has a lane, which has threads of its own, so that such operations wait for each other
    and nobody waits for them. `soon` does the same on the event loop where nothing but a commit has to be waited for;
    otherwise it raises TakesLong.
    """

    operation: str
    action: str
    handler: Handler
    writes: bool = False
    max_body: int = MAX_BODY
    quick: bool = False
    lane: str = ""
    soon: Callable[[Call], Coroutine[Any, Any, Response]] | None = None


class _Node:
    __slots__ = ("literals", "parameter", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: tuple[str, _Node] | None = None
        self.routes: dict[str, Route] = {}


class Router:
    """A trie over path segments."""

    def __init__(self) -> None:
        self._root = _Node()
        # The walk costs a tenth of a whole read of a secret, and clients read the same few over and over.
        self.find = lru_cache(maxsize=1024)(self._find)

    def add(self, method: str, pattern: str, route: Route) -> None:
        """Serve `method` on `pattern`, in which `{name}` stands for any one segment."""
        node = self._root
        for segment in pattern.split("/")[1:]:
            if segment.startswith("{"):
                if node.parameter is None:
                    node.parameter = (segment[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.literals.setdefault(segment, _Node())
        node.routes[method] = route

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and its parameters, which are shared and not to be changed; None when there is none."""
        return _find(self._root, method, path.split("/"), 1, {})


def _find(
    node: _Node, method: str, segments: list[str], position: int, parameters: dict[str, str]
) -> tuple[Route, dict[str, str]] | None:
    if position == len(segments):
        route = node.routes.get(method)
        return None if route is None else (route, parameters)
    segment = segments[position]
    literal = node.literals.get(segment.lower())
    if literal is not None:
        found = _find(literal, method, segments, position + 1, parameters)
        if found is not None:
            return found
    if node.parameter is None:
        return None
    name, child = node.parameter
    return _find(child, method, segments, position + 1, parameters | {name: segment})
