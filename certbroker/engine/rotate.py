"""Which keys are to be made anew, and of whose end people are to be told."""

from __future__ import annotations

from typing import Final

import structlog

from certbroker.services.objects.key_rotation import KeyRotation

_COUNT: Final = 20

_log = structlog.get_logger("certbroker.rotation")


class RotateSweep:
    """Claims keys for which something is due and sees to each."""

    def __init__(self, rotation: KeyRotation) -> None:
        self._rotation = rotation

    def sweep(self) -> int:
        """Do what is due; return for how many keys that was."""
        claimed = self._rotation.claim(_COUNT)
        for each in claimed:
            try:
                self._rotation.attend(each)
            except Exception:
                # It is due again when its lease is over.
                _log.exception("key could not be looked after", vault=each.vault_id, key=each.name)
        return len(claimed)
