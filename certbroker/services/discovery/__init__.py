"""Certificates that others have: at servers, and in CT logs."""
