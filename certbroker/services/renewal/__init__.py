"""When a certificate is looked at, and what comes of it."""
