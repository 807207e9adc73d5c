"""Environments in worker processes; a worker that dies loses nothing."""
