"""Text from outside, made fit to be kept and shown to people."""

from __future__ import annotations


def one_line(text: str, most: int) -> str:
    """The text on one line, without control characters, and of so many characters at most."""
    # What comes from outside may be long, and white space shrinks.
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * most])
    line = " ".join(shown.split())
    return line if len(line) <= most else line[: most - 1] + "…"
