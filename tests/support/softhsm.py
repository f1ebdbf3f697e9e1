"""Tokens of SoftHSM, each new."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import require_softhsm

PIN = "pin-of-the-user"


@dataclass(frozen=True)
class SoftToken:
    """A token, and what a configuration needs to name it."""

    module: Path
    label: str
    pin: str = PIN


class TokenFolder:
    """Where tokens are kept. SOFTHSM2_CONF has to name `configuration` in every process that uses them."""

    def __init__(self, folder: Path) -> None:
        self._softhsm = require_softhsm()
        tokens = folder / "tokens"
        tokens.mkdir(parents=True)
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    def make(self) -> SoftToken:
        """A token that nobody has used."""
        label = f"token-{secrets.token_hex(4)}"
        command = [str(self._softhsm.util), "--module", str(self._softhsm.module), "--init-token", "--free"]
        command += ["--label", label, "--so-pin", "pin-of-the-officer", "--pin", PIN]
        environment = {"SOFTHSM2_CONF": str(self.configuration)}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=30)
        return SoftToken(self._softhsm.module, label)
