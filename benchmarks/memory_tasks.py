"""The tasks of popgym.py under one module's name: `memory_tasks:popgym-RepeatFirstEasy-v0`."""

import contextlib
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from retain.envs.native import NATIVE
from retain.envs.suite.recall import MemoryChain

# popgym.py beside this has the package's name: its folder comes last.
HERE = str(Path(__file__).resolve().parent)
sys.path = [*(p for p in sys.path if Path(p).resolve() != Path(HERE)), HERE]
if Path(getattr(sys.modules.get("popgym"), "__file__", None) or "/").parent == Path(HERE):
    del sys.modules["popgym"]
for package in ("popgym", "minigrid"):
    with contextlib.suppress(ModuleNotFoundError):
        import_module(package)
NATIVE |= {f"TMaze{length}-v0": partial(MemoryChain, length=length) for length in (100, 500)}
