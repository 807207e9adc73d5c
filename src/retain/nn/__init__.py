"""Encoders, distributions, heads and the policies made from them."""

from retain.nn.encoders import Encoder, register_encoder

__all__ = ["Encoder", "register_encoder"]
