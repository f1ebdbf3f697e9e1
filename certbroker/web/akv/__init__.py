"""The Key Vault data plane: the only place that knows its wire format."""
