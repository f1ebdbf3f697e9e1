"""The seal, and private keys in software."""
