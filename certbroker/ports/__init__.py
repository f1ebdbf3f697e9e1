"""What the services need from the outside, as small protocols. The docstring of a port is its contract."""
