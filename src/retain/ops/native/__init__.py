"""Optional compiled kernels behind functions of `ops`, for float32 on a CPU.

Each has its counterpart in torch, which is the reference that its tests compare with.
"""

from retain.ops.native.adam import adam_step
from retain.ops.native.library import Kernels, NativeError, fits, library
from retain.ops.native.mlps import mlp
from retain.ops.native.recurrent import gru, lstm

__all__ = ["Kernels", "NativeError", "adam_step", "fits", "gru", "library", "lstm", "mlp"]
