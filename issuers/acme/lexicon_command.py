"""One change of one TXT record by dns-lexicon, as a program of its own: see `dns_lexicon`.

    python -I lexicon_command.py PROVIDER ZONE TTL

The record comes in the variables of a DNS hook, the provider's options in LEXICON_<PROVIDER>_<OPTION>, which lexicon
reads itself. Run by its path, so that nothing of certbroker is loaded.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import tldextract
from lexicon import client
from lexicon.config import ConfigResolver, DictConfigSource


def change(provider: str, zone: str, ttl: str) -> None:
    """Publish or withdraw the record. Raises whatever the provider's own code raises."""
    # The zone is known. Lexicon would guess it, and fetch the public suffix list from the Internet for that.
    offline = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    vars(client)["tldextract"] = SimpleNamespace(TLDExtract=lambda **options: offline)
    resolver: Any = ConfigResolver  # Untyped.
    config = resolver().with_env().with_dict({"provider_name": provider, "domain": zone, "ttl": int(ttl)})
    lexicon = client.Client(config)
    # Some providers look for the domain among their own options.
    config.add_config_source(DictConfigSource({"domain": zone, provider: {"domain": zone}}), 0)
    name, value = os.environ["CERTBROKER_DNS_NAME"], os.environ["CERTBROKER_DNS_VALUE"]
    with lexicon as operations:
        if os.environ["CERTBROKER_DNS_ACTION"] == "publish":
            operations.create_record("TXT", name, value)
        else:
            operations.delete_record(rtype="TXT", name=name, content=value)


def main(arguments: list[str]) -> int:
    """Exit status 1 and one line when the provider failed; its log and tracebacks might show what is secret."""
    try:
        change(*arguments)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
