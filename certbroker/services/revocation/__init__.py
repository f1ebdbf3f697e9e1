"""Revoking certificates, and finding out that others have."""
