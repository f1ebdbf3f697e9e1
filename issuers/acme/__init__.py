"""Certificates from a CA that speaks ACME (RFC 8555).

Two layers. Below: `settings` what is configured · `signing` keys and JWS · `nonces` · `transport` signed requests to
one CA · `messages` what comes back · `problem` what went wrong · `account`. Above: `order` one order from start to
certificate, with `ordering` and `lost_orders` for its beginning, `authorizing` and `challenges` for the names, and
`chain`; `renewal_info` when the CA wants a certificate renewed, `replacing` how an order says what it renews,
`abandoned` what an order held. `dns_update`, `dns_hook` and `dns_lexicon` publish dns-01 records, at the name that
`delegation` finds; `tls_alpn` makes what is shown for tls-alpn-01; `dns_persist` reads the records of dns-persist-01,
and `standing` waits for them. `caa` tells beforehand whether the CA may issue.
"""

from issuers.acme.kind import KIND, ACMEIssuer, ACMEKind

__all__ = ["KIND", "ACMEIssuer", "ACMEKind"]
