"""Run the test CA in the foreground until Ctrl-C: `python -m pebble`."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from pebble.launcher import DEFAULT, SHORT_LIVED, Pebble, PebbleError


def main() -> int:
    """Start, print what a client needs, wait."""
    parser = argparse.ArgumentParser(prog="python -m pebble", description=__doc__)
    parser.add_argument("--workdir", type=Path, help="for configuration, CA certificate and log; default: a new folder")
    parser.add_argument("--port", type=int, help="of the ACME directory")
    parser.add_argument("--http-port", type=int, help="where http-01 answers are looked for")
    parser.add_argument("--tls-port", type=int, help="where tls-alpn-01 answers are looked for")
    parser.add_argument("--nonce-reject", type=int, help="percentage of good nonces refused (default: 5)")
    parser.add_argument("--always-valid", action="store_true", help="accept every challenge without looking")
    parser.add_argument("--profiles", action="store_true", help="offer `shortlived` beside `default`")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="certbroker-pebble-") as temporary:
        try:
            with Pebble(
                options.workdir or Path(temporary),
                port=options.port,
                http_port=options.http_port,
                tls_port=options.tls_port,
                nonce_reject=options.nonce_reject,
                always_valid=options.always_valid,
                profiles={"default": DEFAULT, "shortlived": SHORT_LIVED} if options.profiles else None,
            ) as ca:
                print(f"directory    {ca.directory_url}")
                print(f"trust        {ca.ca_path}")
                print(f"management   {ca.management_url}")
                print(f"http-01      127.0.0.1:{ca.http_port}")
                print(f"tls-alpn-01  127.0.0.1:{ca.tls_port}")
                print(f"DNS          {ca.dns_address}, managed at http://127.0.0.1:{ca.dns.http.port}")
                print(f"log          {ca.log_path}")
                print("Ctrl-C stops it.", flush=True)
                signal.pause()
        except PebbleError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
