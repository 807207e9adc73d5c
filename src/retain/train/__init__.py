"""Runs: the loop, checkpoints, logs, evaluation, and the agent that people use."""
