"""Makes submodules plain attributes."""

from torch import nn


def find_submodules_directly(module: nn.Module) -> None:
    """Puts every submodule into its owner's own attributes in addition to torch's table of modules.

    torch finds `self.head` through `__getattr__`, which is far slower than Python's attribute
    lookup, and acting on a small batch looks up a dozen. Assigning another submodule later removes
    the old one from both places, so the two never differ. Parameters are left to torch, which
    replaces them when a module moves to another device.
    """
    for part in module.modules():
        part.__dict__.update({k: v for k, v in part._modules.items() if v is not None})
