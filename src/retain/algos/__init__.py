"""One file an algorithm: its configuration, its loss, its update."""
