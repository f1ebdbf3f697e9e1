"""The test CA: Pebble and its DNS server, found or built, configured and started on the loopback interface.

    with Pebble(tmp_path, nonce_reject=20) as ca:
        ca.directory_url, ca.ca_path   # what an ACME client needs
        ca.http_port                   # where Pebble looks for http-01 answers
        ca.dns.set_txt(name, value)    # what Pebble sees in DNS
        ca.management.root()           # what the CA signed with

`python -m pebble` runs one in the foreground; `python -m pebble.install` finds or builds the binaries. Nothing here is
part of the certbroker distribution.
"""

from pebble.binaries import PebbleBinaries, SoftHSM, find_pebble, find_softhsm
from pebble.challenge_dns import ChallengeDNS
from pebble.launcher import Pebble, PebbleError, Profile
from pebble.management import CertificateStatus, Management

__all__ = [
    "CertificateStatus",
    "ChallengeDNS",
    "Management",
    "Pebble",
    "PebbleBinaries",
    "PebbleError",
    "Profile",
    "SoftHSM",
    "find_pebble",
    "find_softhsm",
]
