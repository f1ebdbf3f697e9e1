"""Speed and memory, measured against a baseline in the same run. `make bench` runs all of it."""
