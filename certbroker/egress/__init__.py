"""The one way out: HTTP requests to other servers, and DNS look-ups, under the operator's egress policy.

`policy.py` says what may be contacted, `addresses.py` resolves names and checks every address, `network.py` connects to
what was checked within one deadline, `client.py` makes the request. `dns.py` reads DNS.
"""

from certbroker.egress.client import HTTPEgress
from certbroker.egress.dns import OutsideDNS
from certbroker.egress.policy import EgressPolicy

__all__ = ["EgressPolicy", "HTTPEgress", "OutsideDNS"]
