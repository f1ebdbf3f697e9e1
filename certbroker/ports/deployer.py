"""Putting a certificate where it is used."""

from __future__ import annotations

from typing import Protocol

from certbroker.domain.deployment import Material


class DeploymentFailed(Exception):
    """It is not certain that the certificate is used now. The text says why, without secrets and on one line."""


class Deployer(Protocol):
    """Puts one certificate into one place, as the operator has configured it. Used by one thread at a time."""

    name: str
    """In the configuration."""
    vault: str
    certificate: str
    settings: str
    """A digest of how it is configured; another one means that what was deployed may not be where it should."""

    def deploy(self, material: Material) -> None:
        """Write the files and run the commands. Blocking, for 40 minutes at most; never retries.

        Safe to repeat, also after it was cut short at any point: files are replaced as a whole, and a key never stands
        beside the certificate of another. The commands are run again then. Raises DeploymentFailed.
        """
        ...
