"""Environments in worker processes, and nothing lost when one of them dies."""
