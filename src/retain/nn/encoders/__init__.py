"""Turns observations into feature vectors: one encoder per space, composed for Dict
observations."""

from retain.nn.encoders.base import (
    ACTION_MASK,
    ENCODERS,
    Encoder,
    encoder_class,
    encoder_name,
    register_encoder,
)
from retain.nn.encoders.compose import DictEncoder, action_mask, allowed_actions, make_encoder
from retain.nn.encoders.image import (
    GridCNN,
    ImpalaResNet,
    NatureCNN,
    channels_last,
    is_image,
    is_small_image,
)
from retain.nn.encoders.vector import MLP, FlatEncoder, OneHotEncoder, VectorEncoder, orthogonal

__all__ = [
    "ACTION_MASK",
    "ENCODERS",
    "MLP",
    "DictEncoder",
    "Encoder",
    "FlatEncoder",
    "GridCNN",
    "ImpalaResNet",
    "NatureCNN",
    "OneHotEncoder",
    "VectorEncoder",
    "action_mask",
    "allowed_actions",
    "channels_last",
    "encoder_class",
    "encoder_name",
    "is_image",
    "is_small_image",
    "make_encoder",
    "orthogonal",
    "register_encoder",
]
