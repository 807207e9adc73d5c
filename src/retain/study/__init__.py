"""Does it help? Several variants of a setting, several seeds each, and a verdict with its doubt."""

from retain.study.compare import Study, Variant, compare

__all__ = ["Study", "Variant", "compare"]
