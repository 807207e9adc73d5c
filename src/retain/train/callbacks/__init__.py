"""The parts that watch a run, one file each; all are `Callback`s without privileges."""
