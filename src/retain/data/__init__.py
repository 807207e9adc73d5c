"""Acting, and the segments and sequences that come of it."""
