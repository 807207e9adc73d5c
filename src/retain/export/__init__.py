"""A trained policy as one file that runs without this library (docs/deployment.md)."""

from retain.export.write import FORMATS, Exported, Format, export

__all__ = ["FORMATS", "Exported", "Format", "export"]
