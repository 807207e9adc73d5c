"""Tasks that ask for memory and nothing else, batched, with known returns."""
