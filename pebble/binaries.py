"""Where the peers of the tests are on this machine. Only looks; `pebble.install` gets what is missing."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / ".peers"
"""The folder, ignored by git, for what was built or unpacked for this checkout alone."""

_SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True)
class PebbleBinaries:
    """The test CA and the DNS server it asks."""

    pebble: Path
    challtestsrv: Path
    recent: bool
    """2.10 or newer: has renewal information, profiles and dns-persist-01. Debian 12 ships 2.4."""


@dataclass(frozen=True)
class SoftHSM:
    """A PKCS#11 module in software. `util` needs `--module`, since it may not be where it was compiled to be."""

    module: Path
    util: Path


def find_pebble() -> PebbleBinaries | None:
    """The first recent Pebble, or else the first of any age."""
    found = list(_pebbles())
    return next((candidate for candidate in found if candidate.recent), found[0] if found else None)


def find_softhsm() -> SoftHSM | None:
    """The PKCS#11 module and its command, from the system or from this checkout."""
    unpacked = PEERS / "debian"
    util = _executable("softhsm2-util", unpacked / "usr/bin")
    module = next((Path(path) for path in _SOFTHSM_MODULES if Path(path).is_file()), None) or next(
        unpacked.glob("usr/lib/**/libsofthsm2.so"), None
    )
    return SoftHSM(module=module, util=util) if util and module else None


def find_promtool() -> Path | None:
    """Prometheus's tool that checks and tests alert rules."""
    return _executable("promtool", PEERS / "debian/usr/bin")


def _pebbles() -> Iterator[PebbleBinaries]:
    for folder in (None, PEERS / "bin", PEERS / "debian/usr/bin"):
        path = str(folder) if folder else None
        pebble, challtestsrv = shutil.which("pebble", path=path), shutil.which("pebble-challtestsrv", path=path)
        if pebble and challtestsrv:
            yield PebbleBinaries(Path(pebble), Path(challtestsrv), recent=_is_recent(Path(pebble)))


def _is_recent(pebble: Path) -> bool:
    # `pebble -version` does not exist in 2.4 and says "dev" in what `go install` builds. The challenge type that came
    # with 2.10 is in the binary or it is not.
    return b"dns-persist-01" in pebble.read_bytes()


def _executable(name: str, fallback: Path) -> Path | None:
    found = shutil.which(name) or shutil.which(name, path=str(fallback))
    return Path(found) if found else None
