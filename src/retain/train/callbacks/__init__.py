"""What watches a run: one file each, all of them `Callback`s with no privilege."""
