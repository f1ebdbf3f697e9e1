"""What it would take to replace everything from one issuer."""
