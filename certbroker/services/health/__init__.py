"""How the broker is, as operators, monitoring and watchers are told."""
