"""`crl_1m_ingest_s`, `crl_1m_ingest_mb` and `crl_1m_lookup_us`: a CRL of a million entries, read once and looked up."""

from __future__ import annotations

import random
import resource
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.row import Row
from certbroker.services.revocation.lists import RevocationLists
from tests.support.certificates import Authority, der, pem

_ENTRIES = 1_000_000
_LOOKUPS = 20_000
_SERIAL_BITS = 127


def revocation(scratch: Path) -> list[Row]:
    authority, file = Authority("Busy CA"), scratch / "million.crl"
    serials = _publish(authority, file)
    lists = RevocationLists(scratch / "lists")
    with lists.incoming():
        pass  # Makes the directory.
    began = time.perf_counter()
    facts, name = lists.take_in(file, der(authority.certificate))
    ingested = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    assert facts.entries == _ENTRIES
    reference = _by_openssl(authority, file, scratch)
    looked_up = _look_up(lists, name, serials)
    return [
        Row("crl_1m_ingest_s", ingested, "s", reference, ingested / reference),
        Row("crl_1m_ingest_mb", peak, "MiB"),
        Row("crl_1m_lookup_us", looked_up, "µs"),
    ]


def _publish(authority: Authority, file: Path) -> list[int]:
    """Write the CRL; the serial numbers on it. It takes longer than all that is measured."""
    now, chance = datetime.now(UTC).replace(microsecond=0), random.Random(1)
    serials = [chance.getrandbits(_SERIAL_BITS) | 1 << _SERIAL_BITS for _ in range(_ENTRIES)]
    reason = x509.CRLReason(x509.ReasonFlags.superseded)
    entries = [
        x509.RevokedCertificateBuilder(serial, now).add_extension(reason, critical=False).build() for serial in serials
    ]
    builder = x509.CertificateRevocationListBuilder(
        authority.certificate.subject, now, now + timedelta(days=7), revoked_certificates=entries
    )
    file.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER))
    return serials


def _by_openssl(authority: Authority, file: Path, scratch: Path) -> float:
    """Seconds that openssl needs to read the CRL and to check its signature, and keeps nothing."""
    (scratch / "busy.pem").write_text(pem(authority.certificate))
    command = ["openssl", "crl", "-inform", "DER", "-in", str(file), "-noout", "-CAfile", str(scratch / "busy.pem")]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def _look_up(lists: RevocationLists, name: str, serials: list[int]) -> float:
    """Microseconds for one look-up; every other number is not on the list."""
    assert lists.is_whole(name)
    chance = random.Random(2)
    wanted = [chance.choice(serials) ^ (number & 1) << 100 for number in range(_LOOKUPS)]
    began = time.perf_counter()
    found = sum(lists.find(name, serial) is not None for serial in wanted)
    spent = time.perf_counter() - began
    assert found == _LOOKUPS // 2
    return spent / _LOOKUPS * 1e6
