"""Tasks that need nothing but memory, batched, with known returns."""
