"""Runs on the Hugging Face hub: `push` writes one, `pull` reads one without running its code."""

from retain.share.hub import pull, push

__all__ = ["pull", "push"]
