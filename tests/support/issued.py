"""What a Pebble has issued, as Pebble itself says."""

from __future__ import annotations

import re

from cryptography import x509

from pebble.launcher import Pebble
from tests.support.acme_ports import names_in


def issued_for(pebble: Pebble, host: str) -> list[int]:
    """The serial numbers of all certificates that name a host, by the CA's log and its management interface."""
    serials = re.findall(r"Issued certificate serial ([0-9a-f]+) for order", pebble.log_path.read_text())
    found = []
    for serial in (int(text, 16) for text in serials):
        status = pebble.management.certificate_status(serial)
        if status is not None and host in names_in(x509.load_pem_x509_certificate(status.certificate.encode())):
            found.append(serial)
    return found
