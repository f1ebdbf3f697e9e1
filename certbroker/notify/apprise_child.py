"""Tells by Apprise, as a process of its own. `notify/apprise.py` starts it and says why."""

from __future__ import annotations

import json
import logging
import os
import sys


def main() -> None:
    """Read one request from standard input, and write one word on what became of it."""
    request = json.load(sys.stdin)
    # What a service's module prints must not be taken for the answer.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable(logging.CRITICAL)
    answer.write(_tell(request["urls"], request["title"], request["body"], warning=request["warning"]))
    answer.close()


def _tell(urls: list[str], title: str, body: str, *, warning: bool) -> str:
    from apprise import Apprise, NotifyFormat, NotifyType

    apprise = Apprise()
    if not all(apprise.add(url) for url in urls):
        return "unknown"
    kind = NotifyType.WARNING if warning else NotifyType.INFO
    return "told" if apprise.notify(body, title, kind, NotifyFormat.TEXT) else "refused"


if __name__ == "__main__":
    main()
