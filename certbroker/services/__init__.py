"""The use cases: each method is one thing that a caller can want, in one transaction with its audit record."""
