"""`kill -9` while something is published: no revocation is lost, no number is used twice, and the old list stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus

from tests.support.publishing_bench import PublishingBench

_ROOT = Path(__file__).resolve().parents[2]
_PUBLISH = """
import sys
from pathlib import Path
from tests.support.publishing_bench import PublishingBench
PublishingBench(Path(sys.argv[1])).publish()
"""

# A list is signed and published first, then the replies.
POINTS = [
    ("publishing.numbered", 1),
    ("publishing.signed", 1),
    ("publishing.stored", 1),
    ("publishing.published", 1),
    ("publishing.signed", 2),
    ("publishing.published", 2),
]


@pytest.mark.parametrize(("point", "count"), POINTS)
def test_a_broker_killed_while_it_publishes_loses_no_revocation(
    tmp_path: Path, empty_database: Path, point: str, count: int
) -> None:
    (tmp_path / "certbroker.db").write_bytes(empty_database.read_bytes())
    bench = PublishingBench(tmp_path)
    ca = bench.ca("ca")
    leaf = bench.issue(ca)
    bench.publish()
    bench.revoke(ca, leaf)
    before = bench.crl(ca)
    bench.close()
    done = subprocess.run(
        [sys.executable, "-c", _PUBLISH, str(tmp_path)],
        cwd=_ROOT,
        env=os.environ | {"CERTBROKER_FAILPOINT": f"{point}:{count}:kill"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert -signal.SIGKILL == done.returncode, done.stderr
    bench = PublishingBench(tmp_path)
    served = bench.crl(ca)
    bench.clock.forward(timedelta(seconds=1))
    bench.publish()
    after, status = bench.crl(ca), bench.status(ca, leaf)
    bench.close()

    # What is served meanwhile is whole: the list from before, or already the one after.
    assert served == (after if (point, count) in POINTS[3:] else before)
    assert [leaf.serial_number] == [each.serial_number for each in after]
    assert OCSPCertStatus.REVOKED is status.certificate_status
    # A number that was taken for a list that nobody has seen is not given out again.
    assert (2 if (point, count) in POINTS[3:] else 3) == number(after)


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
