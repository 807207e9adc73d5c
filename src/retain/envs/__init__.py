"""Environments behind one contract; no module here imports torch."""
