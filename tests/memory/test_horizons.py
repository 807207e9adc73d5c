"""Biases that give every unit a horizon of its own."""

import pytest
import torch

from retain.errors import UsageError
from retain.memory import LRU, GatedDelta, MinGRU, make_memory
from retain.memory.horizons import spread_horizons

D, H = 3, 32


def test_horizons_are_spread_evenly_in_logarithm():
    horizons = 1 / torch.sigmoid(spread_horizons(4, 2.0, 250.0))
    torch.testing.assert_close(horizons, torch.tensor([2.0, 10.0, 50.0, 250.0]))
    with pytest.raises(UsageError, match="horizons are 1 to 5"):
        spread_horizons(4, 1.0, 5.0)


@pytest.mark.parametrize(("name", "leaf"), [("lstm", 1), ("gru", 0)])
def test_chrono_units_forget_a_state_at_the_rate_of_their_horizon(name, leaf):
    """Without weights and inputs a state shrinks by 1 - 1 / h each step."""
    memory = make_memory(name, D, H, options={"chrono": 100})
    with torch.no_grad():
        for parameter_name, parameter in memory.named_parameters():
            if parameter_name.startswith("weight"):
                parameter.zero_()
        carry = tuple(torch.ones_like(x) for x in memory.initial_carry(1))
        _, after = memory(torch.zeros(1, 1, D), carry, torch.zeros(1, 1, dtype=torch.bool))
    expected = 1 - 1 / torch.logspace(torch.log10(torch.tensor(2.0)), 2, H)
    torch.testing.assert_close(after[leaf][0, 0], expected)


def test_chrono_is_off_by_default_and_must_be_a_horizon():
    memory = make_memory("lstm", D, H)
    assert not any(p.any() for name, p in memory.named_parameters() if name.startswith("bias"))
    with pytest.raises(UsageError, match="chrono is 1 "):
        make_memory("gru", D, H, options={"chrono": 1})


def test_the_metrics_tell_the_horizons():
    memory = MinGRU(D, hidden=H, shortest=4.0, longest=25.0)
    assert memory.metrics(memory.initial_carry(1))["horizon"] == pytest.approx(10.0, rel=1e-4)
    memory = GatedDelta(D, hidden=H, heads=1)
    assert memory.metrics(memory.initial_carry(1))["horizon"] == pytest.approx(8.0, rel=1e-4)
    memory = LRU(D, hidden=H, radius_min=0.9, radius_max=0.9)
    assert memory.metrics(memory.initial_carry(1))["horizon"] == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mingru", {"kernel": 0}, "kernel is 0"),
        ("mingru", {"longest": 1.5}, "horizons are 2 to 1.5"),
        ("lru", {"radius_max": 1.0}, "radii are 0.4 to 1"),
        ("lru", {"states": 0}, "states is 0"),
        ("lru", {"phase": 0.0}, "phase is 0"),
        ("attention", {"heads": 5}, "heads is 5 .expected a divisor of memory_hidden, 32"),
        ("attention", {"length": 0}, "length is 0"),
        ("attention", {"lenght": 8}, "no setting 'lenght'; did you mean 'length'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        make_memory(name, D, H, options=options)
