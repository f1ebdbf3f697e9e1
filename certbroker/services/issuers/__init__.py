"""The issuers of a vault: their settings, their limits, and whether they can be used."""
