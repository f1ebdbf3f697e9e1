"""The one way out: HTTP requests to other servers, and DNS look-ups, under the operator's egress policy.

`policy.py` says what may be contacted, `addresses.py` resolves names and checks every address, `network.py` connects to
what was checked within one deadline, `client.py` makes the request. `dns.py` reads DNS.
`tls_probe.py` looks at what a TLS server presents, `starttls.py` where TLS has to be asked for.
"""

from certbroker.egress.client import HTTPEgress
from certbroker.egress.dns import OutsideDNS
from certbroker.egress.policy import EgressPolicy
from certbroker.egress.tls_probe import TLSProbe

__all__ = ["EgressPolicy", "HTTPEgress", "OutsideDNS", "TLSProbe"]
