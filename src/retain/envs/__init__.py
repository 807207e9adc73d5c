"""Environments behind one contract; nothing here imports torch."""
