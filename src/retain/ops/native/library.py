"""The compiled kernels: built at first use for this processor, kept in a cache, loaded by ctypes.

Built at first use and not with the package, so that one wheel serves every machine, and a checkout,
an editable install and a wheel behave alike; `--compile` asks for a compiler at that time too. A
library is built once per processor and per change of its sources (some 5 s), and needs no compiler
afterwards.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

SOURCES = ("vector.hpp", "recurrent.cpp", "mlp.cpp", "adam.cpp")
FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-math-errno",
    "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip
PROCESSORS: dict[str, tuple[str, ...]] = {
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
    "DEFAULT": (),
}
"""The compiler's flags for each kind of processor that torch tells apart."""

ARGUMENTS = {"n": ctypes.c_long, "p": ctypes.c_void_p, "i": ctypes.c_int, "d": ctypes.c_double}
FUNCTIONS = {
    "lstm_forward": "nnn ppppppppi",
    "lstm_backward": "nnn ppppppppppi",
    "gru_forward": "nnn pppppppi",
    "gru_backward": "nnn ppppppppppi",
    "outer_sum": "nnn pppi",
    "mlp_forward": "nnn pppppi",
    "mlp_backward": "nnn pppppppppi",
    "adam_step": "n pppppppppp ddddddd",
}
"""The arguments of each function: a long, a pointer, an int or a double."""


WORTH_STARTING, WORTH_WAITING = 1 << 20, 1 << 16
"""Multiplications from which a second thread gains more than its start and each wait cost."""


Kernels = Literal["torch", "native"]


class NativeError(RuntimeError):
    """The kernels cannot be built or loaded here; one line says why."""


def processor() -> str:
    """The kind of this processor, one of `PROCESSORS`."""
    capability = torch.backends.cpu.get_cpu_capability()
    return capability if capability in PROCESSORS else "DEFAULT"


@cache
def library(kind: str | None = None) -> ctypes.CDLL:
    """The library of kernels; it is built first if the cache does not hold it.

    Args:
        kind: the kind of processor to build for; None means this one.
    Raises:
        NativeError: this machine has no C++ compiler, or it does not compile the kernels.
    """
    kind = kind or processor()
    flags = [*FLAGS, *PROCESSORS[kind]]
    here = Path(__file__).parent
    key = hashlib.sha256(" ".join((*flags, platform.machine(), torch.__version__)).encode())
    for source in SOURCES:
        key.update((here / source).read_bytes())
    name = f"kernels-{kind.lower()}-{key.hexdigest()[:16]}.so"
    path = cache_folder() / name
    if not path.exists():
        path = _build(path, flags, [here / one for one in SOURCES if one.endswith(".cpp")])
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeError(f"the kernels in {path} do not load ({error})") from None
    for function, arguments in FUNCTIONS.items():
        own = getattr(loaded, function)
        own.restype = None
        own.argtypes = [ARGUMENTS[letter] for letter in arguments.replace(" ", "")]
    return loaded


def cache_folder() -> Path:
    """The folder of built libraries: retain/ in the user's folder of caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retain"


def _build(path: Path, flags: Sequence[str], sources: Sequence[Path]) -> Path:
    """Compiles the sources, and moves the result to `path` in one step, for others build too."""
    compiler = _compiler()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=path.parent)
    except OSError:  # no home to write to: built for this process alone
        folder = tempfile.mkdtemp()
        path = Path(folder) / path.name
    made = Path(folder) / "built.so"
    # torch's own OpenMP, if it brings one: a second one would have threads of its own.
    runtime = [str(one) for one in Path(torch.__file__).parent.glob("lib/libgomp*")]
    command = [*compiler, *flags, *map(str, sources), "-o", str(made)]
    for threads in (["-fopenmp", *runtime], []):
        done = subprocess.run([*command, *threads], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            os.replace(made, path)
            if path.parent != Path(folder):
                shutil.rmtree(folder)
            return path
    shutil.rmtree(folder)
    said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
    raise NativeError(f"{compiler[0]} does not compile the native kernels ({said.strip()})")


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    missing = f"CXX names {named[0]!r}, which is not there" if named else "this machine has none"
    raise NativeError(f"they need a C++ compiler, and {missing} (install g++, or set CXX)")


def fits(x: Tensor, *, in_graph: bool = False) -> bool:
    """Whether a kernel takes a tensor of this kind: float32 on a CPU, and nobody traces it.

    Args:
        in_graph: the kernel can be an operation in a graph of torch.compile (of an exported graph
            it cannot).
    """
    traced = torch.compiler.is_compiling()
    if in_graph and torch.compiler.is_dynamo_compiling():
        traced = False
    return x.dtype == torch.float32 and x.device.type == "cpu" and not traced


def pointers(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """An array of the tensors' addresses."""
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def threads_for(work: int, waits: int = 1) -> int:
    """The number of threads for a call; it changes no number.

    Args:
        work: multiplications of the call.
        waits: how often the threads wait for each other in it.
    """
    return torch.get_num_threads() if work >= max(WORTH_STARTING, waits * WORTH_WAITING) else 1
