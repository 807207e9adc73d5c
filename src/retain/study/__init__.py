"""Compares several variants of a setting on several seeds each, and gives a verdict and its
doubt."""

from retain.study.compare import Study, Variant, compare

__all__ = ["Study", "Variant", "compare"]
