"""What is imported of the kinds of issuers, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from certbroker.app import open_core
from certbroker.config import build
from certbroker.domain.audit import Caller
from certbroker.services.issuers.issuers import IssuerChanges
from issuers import Kinds

_ACME = IssuerChanges(provider="acme", organization_id="directory=https://ca.example/directory")
_OPENED = """
import sys
from pathlib import Path
from certbroker.app import open_core
from certbroker.config import build

core = open_core(build({"data": {"directory": Path(sys.argv[1])}}))
vault = core.broker.vaults.find("vault")
try:
    core.broker.issuers.kind(vault.id, "odd")
except Exception as error:
    print(error)
print("issuers.acme" in sys.modules)
core.broker.issuers.prepare()
print("issuers.acme" in sys.modules)
core.close()
"""


def test_kinds_are_found_in_any_case_and_named_as_they_are_spelled() -> None:
    kinds = Kinds()

    assert ["ACME", "PrivateCA", "Self", "Unknown"] == sorted(kinds)
    assert kinds["acme"] is kinds["ACME"]
    assert kinds.get("other") is None


def test_the_broker_names_all_kinds_and_imports_those_alone_that_its_issuers_are_of(
    tmp_path: Path, caller: Caller
) -> None:
    core = open_core(build({"data": {"directory": tmp_path}}))
    vault = core.broker.vaults.create(caller, "vault")
    core.broker.issuers.set(caller, vault, "odd", IssuerChanges(provider="Odd"))
    core.broker.issuers.set(caller, vault, "ca", _ACME)
    core.close()

    command = [sys.executable, "-c", _OPENED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()

    assert ["provider 'Odd' is not one that is installed here; there are: ACME, PrivateCA.", "False", "True"] == said
