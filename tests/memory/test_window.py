"""A window summarises the last L entries of the episode, and nothing else."""

import pytest
import torch

from retain.errors import UsageError
from retain.memory import LSTM, Window, make_memory, step_loop

T, B, D, H, L = 20, 5, 3, 8, 4
SUMMARIES = ("stack", "lstm", "gru", "attention")


def build(summary, length=L):
    torch.manual_seed(0)
    return Window(D, H, length, summary)


def stream(share=0.2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(T, B, D, generator=generator)
    return x, torch.rand(T, B, generator=generator) < share


def last_entries(x, reset, t, b, length=L):
    """The reference: walk back until the episode's start."""
    rows = [x[t, b]]
    while len(rows) < length and t > 0 and not reset[t, b]:
        t -= 1
        rows.insert(0, x[t, b])
    return torch.stack(rows)


@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("length", [1, L, 30])
def test_unroll_equals_the_step_loop_and_two_calls(summary, share, length):
    memory, (x, reset) = build(summary, length), stream(share)
    carry = memory.initial_carry(B)
    out, end = memory(x, carry, reset)
    slow, slow_end = step_loop(memory, x, carry, reset)
    torch.testing.assert_close(out, slow, atol=1e-6, rtol=0)
    first, middle = memory(x[:7], carry, reset[:7])
    second, last = memory(x[7:], middle, reset[7:])
    torch.testing.assert_close(torch.cat((first, second)), out, atol=1e-6, rtol=0)
    for a, b, c in zip(end, slow_end, last, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_stack_holds_the_last_entries_and_which_there_are():
    memory, (x, reset) = build("stack"), stream()
    out, _ = memory(x, memory.initial_carry(B), reset)
    for t in range(T):
        for b in range(B):
            rows = last_entries(x, reset, t, b)
            missing = L - len(rows)
            expected = torch.cat((torch.zeros(missing * D), rows.flatten(),
                                  torch.zeros(missing), torch.ones(L - 1 - missing)))  # fmt: skip
            assert torch.equal(out[t, b], expected)


def test_lstm_summary_is_an_lstm_from_a_zero_state_over_the_entries():
    memory, (x, reset) = build("lstm"), stream()
    out, _ = memory(x, memory.initial_carry(B), reset)
    core = torch.nn.LSTM(D, H)
    core.load_state_dict(memory.summary.core.state_dict())
    for t in range(T):
        for b in range(B):
            expected = core(last_entries(x, reset, t, b).unsqueeze(1))[0][-1, 0]
            torch.testing.assert_close(out[t, b], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("summary", SUMMARIES)
def test_attention_and_the_others_ignore_what_is_not_in_the_episode(summary):
    """Whatever an episode before held, NaN included, the next one neither sees nor learns from."""
    memory, (x, reset) = build(summary), stream(0.0)
    reset[9] = True
    clean = x.clone().requires_grad_()
    out, _ = memory(clean, memory.initial_carry(B), reset)
    poisoned = x.clone()
    poisoned[:9] = float("nan")
    after, _ = memory(poisoned, memory.initial_carry(B), reset)
    assert torch.equal(out[9:], after[9:])
    out[9:].sum().backward()
    assert not clean.grad[:9].any()
    assert clean.grad[9:].abs().sum(-1).all()


@pytest.mark.parametrize("summary", SUMMARIES)
def test_gradients_reach_back_exactly_to_the_receptive_field(summary):
    memory, (x, reset) = build(summary), stream(0.0)
    x.requires_grad_()
    out, _ = memory(x, memory.initial_carry(B), reset)
    out[-1].square().sum().backward()
    reached = x.grad.abs().sum((1, 2)) > 0
    assert reached.tolist() == [t >= T - memory.receptive_field for t in range(T)]


@pytest.mark.parametrize("summary", SUMMARIES)
def test_absorb_leaves_the_carry_of_a_forward(summary):
    memory, (x, reset) = build(summary), stream()
    _, carry = memory(x, memory.initial_carry(B), reset)
    for a, b in zip(carry, memory.absorb(x, memory.initial_carry(B), reset), strict=True):
        assert torch.equal(a, b)


def test_absorb_of_a_recurrence_is_its_carry():
    memory, (x, reset) = LSTM(D, H), stream()
    _, carry = memory(x, memory.initial_carry(B), reset)
    for a, b in zip(carry, memory.absorb(x, memory.initial_carry(B), reset), strict=True):
        assert torch.equal(a, b)


def test_a_window_that_means_nothing_is_refused():
    with pytest.raises(UsageError, match="window is 0"):
        make_memory("window", D, H, window=0)
    with pytest.raises(UsageError, match="lstm"):
        make_memory("window", D, H, summary="lsmt")


def test_attention_is_asked_by_the_current_entry_about_the_valid_ones():
    """The reference: the block on the entries there are, head by head, without any mask."""
    memory, (x, reset) = build("attention"), stream()
    out, _ = memory(x, memory.initial_carry(B), reset)
    net = memory.summary
    seen = set()
    for t in range(T):
        for b in range(B):
            rows = last_entries(x, reset, t, b)
            seen.add(len(rows))
            entry = net.embed(rows)
            read = net.norm(entry + net.position[L - len(rows) :])
            key, value = net.key_value(read).chunk(2, -1)
            query = net.query(read[-1])
            found = []
            for head in range(net.heads):
                part = slice(head * H // net.heads, (head + 1) * H // net.heads)
                score = key[:, part] @ query[part] / (H // net.heads) ** 0.5
                found.append(score.softmax(0) @ value[:, part])
            y = entry[-1] + net.merge(torch.cat(found))
            expected = y + net.mlp(net.norm_out(y))
            torch.testing.assert_close(out[t, b], expected, atol=1e-5, rtol=1e-5)
    assert seen == {1, 2, 3, 4}
