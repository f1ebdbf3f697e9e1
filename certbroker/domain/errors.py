"""Refusals a caller can act on.

They carry what went wrong and what to do about it, in the words of the domain and without any HTTP: `web/errors.py`
holds the one table that turns each class into a status and a code. A message never holds key material, a secret value
or a password.
"""

from __future__ import annotations


class BrokerError(Exception):
    """Base of every refusal. The text is shown to the caller as it is."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""


class Invalid(BrokerError):
    """The input breaks a rule; the message names the field and the rule."""


class TooLarge(Invalid):
    """The input is larger than we are willing to look at."""


class TooSlow(Invalid):
    """The input has not come to its end in the time that we are willing to wait."""


class Unauthenticated(BrokerError):
    """No token, or one that does not hold."""


class AccessDenied(BrokerError):
    """The caller is known and has no role that allows the action."""


class NotFound(BrokerError):
    """There is no such object. `kind` is the domain word for what was looked for."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Disabled(BrokerError):
    """The object exists and its owner has switched it off."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Forbidden(BrokerError):
    """The action is never allowed on this object in its present state."""


class Conflict(BrokerError):
    """Another object or operation stands in the way."""


class DeletedButRecoverable(Conflict):
    """The name belongs to a soft-deleted object: recover it, purge it, or choose another name."""


class OperationInProgress(Conflict):
    """A certificate operation of that name has not finished yet."""


class Unavailable(BrokerError):
    """Somebody outside is needed for it and cannot be asked now; trying later may help."""


class Sealed(BrokerError):
    """The key-encryption key is not at hand; nothing can be read or written until it is."""


class LeaseLost(BrokerError):
    """Another worker owns this work now; what this one still wanted to write has been discarded."""
