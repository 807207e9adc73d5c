"""Submodules that are plain attributes stay what torch's table says."""

import copy
import pickle

import torch
from torch import nn

from retain.nn.lookup import find_submodules_directly


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.absent = None
        self.top = nn.Linear(4, 2)
        find_submodules_directly(self)


def consistent(tower):
    for part in tower.modules():
        for name, inner in part._modules.items():
            assert getattr(part, name) is inner
            assert inner is None or part.__dict__[name] is inner


def test_copies_and_pickles_have_their_own():
    tower = Tower()
    consistent(tower)
    for other in (copy.deepcopy(tower), pickle.loads(pickle.dumps(tower))):
        consistent(other)
        assert other.top is not tower.top
        with torch.no_grad():
            other.top.weight.zero_()
        assert tower.top.weight.any()


def test_another_submodule_takes_the_place_of_the_old_one():
    tower = Tower()
    tower.top = nn.Linear(4, 5)
    assert tower.top.out_features == 5
    assert tower._modules["top"] is tower.top
    tower.absent = nn.ReLU()
    assert tower._modules["absent"] is tower.absent
    assert tower.double().top.weight.dtype == torch.float64
