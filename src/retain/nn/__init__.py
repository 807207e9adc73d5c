"""Encoders, distributions, heads and the policy they make up."""

from retain.nn.encoders import Encoder, register_encoder

__all__ = ["Encoder", "register_encoder"]
