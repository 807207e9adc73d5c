"""Runs: the loop, checkpoints, logs, evaluation, and the agent as people use it."""
