"""What the operating system does to keep the memory of the process to itself."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

# From linux/prctl.h.
_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """Leave no core files, and let no other process of the same user read our memory.

    Memory holds keys in the clear, and Python cannot promise to erase them. Where the system has no such switch,
    nothing happens: this makes theft harder, and nothing depends on it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
