"""`python -m certbroker`."""

from certbroker.cli import main

main()
