"""Get what the tests talk to: Pebble (the test CA), SoftHSM (a PKCS#11 module in software) and promtool (Prometheus's
checker of alert rules).

    python -m pebble.install [--optional] [pebble] [softhsm] [promtool]

Looks on PATH and in `.peers/` first, so the second run needs no network. Otherwise builds Pebble with Go, or takes
Debian's packages: installed as root, else unpacked into `.peers/`. Needs the standard library only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if not __package__:  # Run by its path: make the package importable.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pebble.binaries import PEERS, find_pebble, find_promtool, find_softhsm

PEBBLE_VERSION = "v2.10.1"
_GO_PACKAGES = [
    f"github.com/letsencrypt/pebble/v2/cmd/{name}@{PEBBLE_VERSION}" for name in ("pebble", "pebble-challtestsrv")
]


class MissingPeerError(Exception):
    """A peer is neither here nor to be had; the text says what to do."""


def install_pebble() -> None:
    """Make sure that `find_pebble` finds one, the newest that can be had."""
    found = find_pebble()
    if found and found.recent:
        return
    if shutil.which("go"):
        _say(f"building Pebble {PEBBLE_VERSION} with Go (about half a minute, once)")
        (PEERS / "bin").mkdir(parents=True, exist_ok=True)
        _run(["go", "install", *_GO_PACKAGES], env={"GOBIN": str(PEERS / "bin")})
    if not find_pebble():
        _take_debian_packages("pebble")
    found = find_pebble()
    if found is None:
        raise MissingPeerError(
            "Pebble, the test CA, is missing. Install Go 1.24 or newer, or put `pebble` and `pebble-challtestsrv` "
            f"({PEBBLE_VERSION}) on PATH; on Debian and Ubuntu: apt-get install pebble."
        )
    if not found.recent:
        _say(f"{found.pebble} is older than 2.10: tests of profiles and renewal information are skipped (Go helps)")


def install_softhsm() -> None:
    """Make sure that `find_softhsm` finds one."""
    if find_softhsm():
        return
    _take_debian_packages("softhsm2")
    if not find_softhsm():
        raise MissingPeerError(
            "SoftHSM 2 is missing. Install it: apt-get install softhsm2, dnf install softhsm, or brew install softhsm."
        )


def install_promtool() -> None:
    """Make sure that `find_promtool` finds one. Of Debian's package the tool alone is taken: the rest is a service."""
    if find_promtool():
        return
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        _say("taking promtool from Debian's package of prometheus")
        (PEERS / "debian").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as downloads:
            if _run(["apt-get", "download", "prometheus"], cwd=downloads):
                for package in Path(downloads).glob("*.deb"):
                    _unpack_one(package, "./usr/bin/promtool")
    if not find_promtool():
        raise MissingPeerError(
            "promtool is missing. It comes with Prometheus: put it on PATH; on Debian and Ubuntu: apt-get install "
            "prometheus."
        )


def _unpack_one(package: Path, member: str) -> None:
    """Unpack one file of a package into `.peers/debian`."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        if subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=archive, check=False).returncode == 0:
            _run(["tar", "-xf", archive.name, "-C", str(PEERS / "debian"), member])


def _take_debian_packages(name: str) -> None:
    if not shutil.which("apt-get"):
        return
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    take = _install_packages if as_root else _unpack_packages
    _say(f"taking Debian's package of {name}")
    # A fresh machine or container has no package lists, or old ones: then once more, after an update.
    if not take(name) and as_root and _run(["apt-get", "update", "--quiet"]):
        take(name)


def _install_packages(name: str) -> bool:
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", name]
    return _run(command, env={"DEBIAN_FRONTEND": "noninteractive"})


def _unpack_packages(name: str) -> bool:
    """Download the package, and what it needs and is not installed, and unpack all into `.peers/debian`."""
    plan = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", name],
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
    if not wanted or not shutil.which("dpkg"):
        return False
    (PEERS / "debian").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        if not _run(["apt-get", "download", *wanted], cwd=downloads):
            return False
        return all(_run(["dpkg", "-x", str(deb), str(PEERS / "debian")]) for deb in Path(downloads).glob("*.deb"))


def _run(command: list[str], *, env: dict[str, str] | None = None, cwd: str | None = None) -> bool:
    """Run quietly; when it fails, show the end of what it said."""
    result = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        tail = "\n".join(f"    {line}" for line in result.stdout.splitlines()[-8:])
        _say(f"`{' '.join(command[:2])} …` failed:\n{tail}")
    return result.returncode == 0


def _say(text: str) -> None:
    print(f"peers: {text}", flush=True)


INSTALLERS: dict[str, Callable[[], None]] = {
    "pebble": install_pebble,
    "softhsm": install_softhsm,
    "promtool": install_promtool,
}


def main(arguments: list[str] | None = None) -> int:
    """Install the named peers, or all. Non-zero when one cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m pebble.install", description="Get the peers of the tests.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"{' or '.join(INSTALLERS)}; all when none is named")
    parser.add_argument(
        "--optional", action="store_true", help="a missing peer is only a warning, except on CI (CI=true)"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.peers) - INSTALLERS.keys():
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")

    missing = False
    for name in options.peers or INSTALLERS:
        try:
            INSTALLERS[name]()
        except MissingPeerError as error:
            _say(str(error))
            missing = True
    if options.optional and os.environ.get("CI") != "true":
        return 0
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
