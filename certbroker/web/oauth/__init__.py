"""The broker as an OAuth 2.0 authority (RFC 6749) for its own vaults."""
