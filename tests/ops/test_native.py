"""The compiled kernels give torch's numbers, on every kind of processor that this one can be."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from retain.memory import GRU, LSTM
from retain.nn.stacked import PairMLP, StackedMLP
from retain.ops.native import NativeError, library, mlps, recurrent
from retain.ops.native.library import PROCESSORS, processor

ORDER = ["DEFAULT", "AVX2", "AVX512"]
HERE = ORDER[: ORDER.index(processor()) + 1]
WIDTHS = (1, 7, 16, 31, 100, 128)
"""Below, at, above and between multiples of a vector."""


@pytest.fixture(params=HERE)
def kind(request, monkeypatch):
    """The library for each kind of processor in turn."""
    built = library(request.param)
    for module in (mlps, recurrent):
        monkeypatch.setattr(module, "library", lambda: built)
    return request.param


def test_every_kind_of_processor_is_known():
    assert sorted(ORDER) == sorted(PROCESSORS)


def build(memory, D, H, layers=1):
    """The same memory on torch's kernels and on ours, with no weight zero."""
    torch.manual_seed(0)
    oracle, ours = memory(D, H, layers), memory(D, H, layers, kernels="native")
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.4 / max(1.0, (parameter.shape[-1] / 16) ** 0.5))
    ours.load_state_dict(oracle.state_dict())
    return oracle, ours


def stream(memory, T, B, D, H, share=0.2):
    generator = torch.Generator().manual_seed(T * 100 + B)
    x = torch.randn(T, B, D, generator=generator)
    carry = tuple(torch.randn(B, 1, H, generator=generator) for _ in range(memory.states))
    return x, carry, torch.rand(T, B, generator=generator) < share


def outcome(memory, x, carry, reset):
    x = x.clone().requires_grad_()
    carry = tuple(leaf.clone().requires_grad_() for leaf in carry)
    out, end = memory(x, carry, reset)
    loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    loss = loss + sum(leaf.square().sum() for leaf in end)
    return [out, *end], torch.autograd.grad(loss, [x, *carry, *memory.parameters()])


def compare(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    for a, b in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * max(1.0, float(b.abs().max())), rtol=0)


@pytest.mark.parametrize("memory", [LSTM, GRU])
@pytest.mark.parametrize("H", WIDTHS)
def test_a_recurrence_and_its_gradients_are_torchs(kind, memory, H):
    oracle, ours = build(memory, 5, H)
    for T, B in ((1, 1), (1, 6), (2, 3), (17, 1), (17, 2), (9, 7), (6, 33)):
        inputs = stream(memory, T, B, 5, H)
        compare(outcome(ours, *inputs), outcome(oracle, *inputs))


@pytest.mark.parametrize("memory", [LSTM, GRU])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_with_no_reset_and_with_resets_only(kind, memory, share):
    oracle, ours = build(memory, 3, 20, layers=2)
    x, carry, reset = stream(memory, 11, 4, 3, 20, share)
    carry = tuple(leaf.repeat(1, 2, 1) for leaf in carry)
    compare(outcome(ours, x, carry, reset), outcome(oracle, x, carry, reset))


@pytest.mark.parametrize("memory", [LSTM, GRU])
def test_every_number_of_rows(kind, memory):
    oracle, ours = build(memory, 3, 9)
    for B in range(1, 34):
        inputs = stream(memory, 4, B, 3, 9)
        compare(outcome(ours, *inputs), outcome(oracle, *inputs))


@pytest.mark.parametrize("memory", [LSTM, GRU])
@torch.no_grad()
def test_gates_that_are_far_open_or_shut_are_torchs(kind, memory):
    oracle, ours = build(memory, 5, 20)
    x, carry, reset = stream(memory, 6, 7, 5, 20)
    for scale in (10.0, 1e2, 1e4, 1e20):
        compare((ours(scale * x, carry, reset)[:1], ()), (oracle(scale * x, carry, reset)[:1], ()))


@pytest.mark.parametrize("memory", [LSTM, GRU])
@pytest.mark.parametrize("T", [1, 12])
def test_nothing_crosses_a_reset_not_even_nan(kind, memory, T):
    _, ours = build(memory, 3, 20)
    x, carry, reset = stream(memory, T, 5, 3, 20, 0.0)
    at = T // 2
    reset[at, 2] = True
    out, end = ours(x, carry, reset)
    for poison in (1e3, float("nan")):
        other, wrong = x.clone(), tuple(leaf.clone() for leaf in carry)
        other[:at, 2] += poison
        for leaf in wrong:
            leaf[2] += poison
        poisoned, poisoned_end = ours(other, wrong, reset)
        assert torch.equal(poisoned[at:], out[at:])
        assert torch.equal(poisoned[:, [0, 1, 3, 4]], out[:, [0, 1, 3, 4]])
        for a, b in zip(poisoned_end, end, strict=True):
            assert torch.equal(a, b)
    x.requires_grad_()
    carry = tuple(leaf.requires_grad_() for leaf in carry)
    out, end = ours(x, carry, reset)
    loss = out[at:, 2].sum() + sum(leaf[2].sum() for leaf in end)
    into_x, *into_carry = torch.autograd.grad(loss, [x, *carry])
    assert not into_x[:at].any()
    assert into_x[at:, 2].all()
    assert not any(leaf.any() for leaf in into_carry)


@pytest.mark.parametrize("memory", [LSTM, GRU])
@pytest.mark.parametrize("T", [1, 4])
@torch.no_grad()
def test_a_value_that_is_not_a_number_stays_one(kind, memory, T):
    _, ours = build(memory, 3, 20)
    x, carry, reset = stream(memory, T, 3, 3, 20, 0.0)
    x[T - 1, 1, 0] = float("nan")
    out, _ = ours(x, carry, reset)
    assert out[-1, 1].isnan().all()
    assert out[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("memory", [LSTM, GRU])
def test_two_threads_change_no_bit(kind, memory):
    """The weights of x are zero, for torch's own product is not the same with two threads."""
    _, ours = build(memory, 3, 144)
    torch.nn.init.zeros_(ours.weight_ih_l0)
    x, carry, reset = stream(memory, 32, 3, 3, 144)
    one = outcome(ours, x, carry, reset)
    torch.set_num_threads(2)
    try:
        two = outcome(ours, x, carry, reset)
    finally:
        torch.set_num_threads(1)
    for a, b in zip((*one[0], *one[1]), (*two[0], *two[1]), strict=True):
        assert torch.equal(a, b)


def stacks(K, D, hidden, activation, out):
    oracle = StackedMLP(K, D, hidden, activation, out=out)
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    ours = StackedMLP(K, D, hidden, activation, out=out, kernels="native")
    ours.load_state_dict(oracle.state_dict())
    return oracle, ours


def stack_outcome(stack, x, frozen=False):
    x = x.clone().requires_grad_()
    out = stack.stacked(x, frozen=frozen)
    loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    wanted = [x] if frozen else [x, *stack.parameters()]
    return [out], torch.autograd.grad(loss, wanted)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(1,), (7, 16), (100, 128), (16, 33, 20), ()])
def test_a_stack_and_its_gradients_are_torchs(kind, activation, hidden):
    torch.manual_seed(0)
    for K, N, out in ((1, 1, 1), (2, 8, None), (3, 33, 2), (2, 270, 17)):
        if hidden or out:
            oracle, ours = stacks(K, 5, hidden, activation, out)
            x = torch.randn(K, N, 5)
            found = stack_outcome(ours, x)
            compare(found, stack_outcome(oracle, x))
            compare(stack_outcome(ours, x, True), stack_outcome(oracle, x, True))
            with torch.no_grad():
                assert torch.equal(ours.stacked(x), found[0][0])


def test_every_number_of_rows_of_a_stack(kind):
    torch.manual_seed(0)
    oracle, ours = stacks(2, 3, (9, 40), "tanh", None)
    for N in range(1, 60):
        x = torch.randn(2, N, 3)
        compare(stack_outcome(ours, x), stack_outcome(oracle, x))


def test_a_row_does_not_depend_on_the_rows_beside_it(kind):
    torch.manual_seed(0)
    _, ours = stacks(2, 3, (33, 20), "relu", 4)
    x = torch.randn(2, 70, 3)
    with torch.no_grad():
        whole = ours.stacked(x)
        for rows in (slice(0, 1), slice(3, 8), slice(5, 66)):
            assert torch.equal(ours.stacked(x[:, rows]), whole[:, rows])


def test_two_threads_change_no_bit_of_a_stack(kind):
    torch.manual_seed(0)
    for K in (1, 2, 3):
        _, ours = stacks(K, 5, (100, 64), "tanh", 3)
        x = torch.randn(K, 257, 5)
        one = stack_outcome(ours, x)
        torch.set_num_threads(2)
        try:
            two = stack_outcome(ours, x)
        finally:
            torch.set_num_threads(1)
        for a, b in zip((*one[0], *one[1]), (*two[0], *two[1]), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("N", [4, 300])
def test_a_pair_reads_one_input_or_two(kind, N):
    torch.manual_seed(0)
    oracle, ours = PairMLP(5, (128, 128), "tanh"), PairMLP(5, (128, 128), "tanh", "native")
    ours.load_state_dict(oracle.state_dict())
    x, y = torch.randn(2, N, 5)
    for inputs in ((x, x), (x, y)):
        found = []
        for pair in (ours, oracle):
            own = [one.clone().requires_grad_() for one in inputs]
            own = [own[0], own[0] if inputs[0] is inputs[1] else own[1]]
            a, b = pair(*own)
            loss = (a * torch.linspace(-1, 1, a.numel()).view_as(a)).sum() + b.square().sum()
            wanted = {id(one): one for one in own}.values()
            found.append(([a, b], torch.autograd.grad(loss, [*wanted, *pair.parameters()])))
        compare(*found)


def test_a_stack_keeps_what_is_not_a_number(kind):
    for activation in ("tanh", "relu"):
        _, ours = stacks(1, 3, (20,), activation, 2)
        x = torch.zeros(1, 3, 3)
        x[0, 1, 0] = float("nan")
        out = ours.stacked(x)[0]
        assert out[1].isnan().all()
        assert out[[0, 2]].isfinite().all()


@torch.no_grad()
def test_other_kinds_of_numbers_take_torchs_path():
    for memory in (LSTM, GRU):
        oracle, ours = (one.double() for one in build(memory, 3, 8))
        x, carry, reset = stream(memory, 9, 2, 3, 8)
        inputs = x.double(), tuple(leaf.double() for leaf in carry), reset
        assert torch.equal(ours(*inputs)[0], oracle(*inputs)[0])
    oracle, ours = (one.double() for one in stacks(2, 3, (8,), "tanh", 2))
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(ours.stacked(x), oracle.stacked(x))


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """An empty cache, and a library that is looked for again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    yield tmp_path
    library.cache_clear()


def test_without_a_compiler_one_line_says_so(nowhere, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NativeError, match="CXX names 'no-such-compiler', which is not there"):
        library()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NativeError, match=r"this machine has none \(install g\+\+, or set CXX\)"):
        library()


def test_a_compiler_that_fails_is_named(nowhere, monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'raise SystemExit(\"error: no\")'")
    with pytest.raises(NativeError, match=r"does not compile the native kernels \(error: no\)"):
        library()
    assert not [*(nowhere / "retain").iterdir()]


def test_what_was_built_once_needs_no_compiler(nowhere, monkeypatch):
    library("DEFAULT")
    (built,) = (nowhere / "retain").iterdir()
    assert built.name.startswith("kernels-default-")
    code = "from retain.ops.native import library; library('DEFAULT')"
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, env={
        "XDG_CACHE_HOME": str(nowhere), "PATH": "", "PYTHONPATH": ":".join(sys.path),
    })  # fmt: skip
    assert run().returncode == 0
    built.unlink()
    built.write_bytes(b"not a library")
    assert f"NativeError: the kernels in {built} do not load" in run().stderr
