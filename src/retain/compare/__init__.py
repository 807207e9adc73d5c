"""Does it help? Several variants of a setting, several seeds each, and a verdict with its doubt."""

from retain.compare.study import Study, Variant, compare

__all__ = ["Study", "Variant", "compare"]
