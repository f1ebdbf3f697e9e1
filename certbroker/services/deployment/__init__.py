"""Where certificates are put, and whether they are served there."""
