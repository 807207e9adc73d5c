"""Encoders, distributions, heads and the policy they make up."""
