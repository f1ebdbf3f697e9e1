"""Named places where a test can make the process die, fail or pause.

`CERTBROKER_FAILPOINT=name:n:action` arms one: at the n-th time that `failpoint(name)` is reached the action happens:
`kill` ends the process as `kill -9` would, `raise` raises OSError, `sleep` waits five seconds. A name may end in `*`.
Several are separated by commas. Without the variable a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

_VARIABLE: Final = "CERTBROKER_FAILPOINT"


class _Armed:
    def __init__(self, text: str) -> None:
        name, count, self.action = text.split(":")
        self.left = int(count)
        self.prefix = name.removesuffix("*")
        self.exact = not name.endswith("*")
        if self.action not in ("kill", "raise", "sleep"):
            raise ValueError(f"{_VARIABLE}: {self.action!r} is not one of kill, raise, sleep")

    def matches(self, name: str) -> bool:
        return name == self.prefix if self.exact else name.startswith(self.prefix)


_armed = [_Armed(text) for text in os.environ.get(_VARIABLE, "").split(",") if text]


def failpoint(name: str) -> None:
    """Do what is armed for `name`, if anything is."""
    for point in _armed:
        if point.matches(name):
            point.left -= 1
            if point.left == 0:
                _act(point.action, name)


def _act(action: str, name: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "raise":
        raise OSError(f"failpoint {name}")
    else:
        time.sleep(5)
