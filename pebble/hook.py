"""The DNS hook of the demo: puts TXT records where the test CA looks for them.

    python pebble/hook.py PORT

PORT is that of pebble-challtestsrv's management interface; certbroker gives the rest in the environment. Run by its
path, because a hook gets a small environment and any directory.
"""

import os
import sys
from pathlib import Path

if not __package__:  # Run by its path: make the package importable.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from pebble.challenge_dns import ChallengeDNS
from pebble.loopback import LoopbackHTTP


def main(arguments: list[str]) -> int:
    """Publish or withdraw one record."""
    if len(arguments) != 1 or not arguments[0].isdigit():
        print("usage: hook.py PORT", file=sys.stderr)
        return 2
    dns = ChallengeDNS(LoopbackHTTP(int(arguments[0])), 0)
    name, value = os.environ["CERTBROKER_DNS_NAME"], os.environ["CERTBROKER_DNS_VALUE"]
    if os.environ["CERTBROKER_DNS_ACTION"] == "publish":
        dns.set_txt(name, value)
    else:
        # challtestsrv forgets all values of a name at once; each is withdrawn when its order is done with it.
        dns.clear_txt(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
