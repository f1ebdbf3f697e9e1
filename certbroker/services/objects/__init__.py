"""What a vault holds: secrets, keys and certificates, from the first version to the purge."""
