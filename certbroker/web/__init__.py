"""HTTP in, HTTP out: the Key Vault data plane, the token endpoints, and the broker's own administration."""
