"""Acting, and the segments and sequences that it produces."""
