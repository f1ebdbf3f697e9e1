"""How commands print: tables for people, the API's own JSON for programs."""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_DAY = 86_400
_SOON_DAYS = 30

# Wider than any row: what is piped on is neither wrapped nor cut.
_UNLIMITED = 10_000

Columns = Mapping[str, Callable[[Any], object]]


class Format(StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"


class Output:
    """Prints results on standard output, and everything else on standard error."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.console = Console(width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False)
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)

    def listing(self, items: Iterable[Any], columns: Columns, nothing: str) -> None:
        """Rows with named columns, without those that are empty; `nothing` is said, on standard error, of no rows."""
        found = list(items)
        if self.form is Format.JSON:
            self.json(found)
        elif not found:
            self.note(nothing)
        else:
            cells = {label: [_text(read(item)) for item in found] for label, read in columns.items()}
            shown = {label: column for label, column in cells.items() if any(text.plain for text in column)}
            table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
            for label in shown:
                table.add_column(label, overflow="fold")
            for row in zip(*shown.values(), strict=True):
                table.add_row(*row)
            self.console.print(table)

    def record(self, item: Any, rows: Mapping[str, object] | Callable[[], Mapping[str, object]]) -> None:
        """One thing: its JSON, or labelled rows, of which those without a value are left out."""
        if self.form is Format.JSON:
            self.json(item)
            return
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for label, value in (rows() if callable(rows) else rows).items():
            if (text := _text(value)).plain:
                table.add_row(label, text)
        self.console.print(table)

    @property
    def is_json(self) -> bool:
        """Whether a program reads it."""
        return self.form is Format.JSON

    def heading(self, text: str) -> None:
        """What the next list is about."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def json(self, value: object) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def value(self, value: str, item: object) -> None:
        """A value as it is, for a shell to take, or the JSON that it came in."""
        if self.form is Format.JSON:
            self.json(item)
        else:
            sys.stdout.write(value if value.endswith("\n") else value + "\n")

    def note(self, message: str) -> None:
        """What a person should know and a program can ignore."""
        self.notes.print(escape(printable(message)))

    def done(self, message: str, item: object = None) -> None:
        """That it has worked; programs get the API's answer instead, if it gave one."""
        if self.form is Format.JSON:
            if item is not None:
                self.json(item)
        else:
            self.notes.print(f"[green]✓[/green] {escape(message)}")


def fail(code: str, message: str) -> None:
    """One line on standard error."""
    line = " ".join(f"{code}: {message}".split()) if code else " ".join(message.split())
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]certbroker:[/red] {escape(printable(line))}")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, also where there was one that others could. Raises CommandFailed."""
    from certbroker.cli.client import CommandFailed, ExitCode

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"{path} cannot be written: {error.strerror}.") from None


def when(seconds: int | None) -> str:
    """A time of the API."""
    return "" if seconds is None else _written(seconds, "%Y-%m-%d %H:%MZ")


def remaining(seconds: int | None) -> Text:
    """A date of expiry and how far away it is, in colour when that is not far."""
    if seconds is None:
        return Text()
    # In whole seconds: a float does not have each second of a time that is very far away.
    days = (seconds - math.ceil(datetime.now(UTC).timestamp())) // _DAY
    date = _written(seconds, "%Y-%m-%d")
    if days < 0:
        return Text(f"{date}, expired", "red")
    distance = "today" if days == 0 else f"in {days} day{'s' * (days != 1)}"
    return Text(f"{date}, {distance}", "yellow" if days <= _SOON_DAYS else "")


def _written(seconds: int, form: str) -> str:
    """A time in that form. Secrets and keys may expire later than a calendar here goes."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return "after the year 9999"


def thumbprint(x5t: str | None) -> str:
    """The SHA-1 thumbprint in hexadecimal digits, as other tools show it."""
    if not x5t:
        return ""
    return base64.urlsafe_b64decode(x5t + "=" * (-len(x5t) % 4)).hex().upper()


def last(url: str) -> str:
    """The last segment of an identifier."""
    return url.rstrip("/").rpartition("/")[2]


def name_of(url: str) -> str:
    """The object's name in an identifier with or without a version."""
    return url.split("/")[4]


def version_of(url: str) -> str:
    """The version in an identifier; empty where there is none."""
    return "/".join(url.split("/")[5:6])


def tags(item: Mapping[str, Any]) -> str:
    """The tags of an object as `name=value`."""
    return ", ".join(f"{name}={value}" for name, value in (item.get("tags") or {}).items())


def _text(value: object) -> Text:
    """A cell. Data is never markup, and never a control sequence for the terminal."""
    match value:
        case Text():
            return value
        case None:
            return Text()
        case bool():
            return Text("yes" if value else "no")
        case list() | tuple():
            return Text("\n".join(printable(str(each)) for each in value))
        case _:
            return Text(printable(str(value)))


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
