"""Advantages and targets against numbers worked by hand and slow references."""

import numpy as np
import pytest
import torch

from retain.ops import discounted_sum, gae, lambda_return, n_step_return, vtrace

T, B = 12, 5


def timeline(seed, share=0.25):
    rng = np.random.default_rng(seed)
    facts = {name: rng.normal(size=(T, B)).astype(np.float32)
             for name in ("reward", "value", "next_value")}  # fmt: skip
    facts["terminated"] = rng.random((T, B)) < share
    facts["truncated"] = (rng.random((T, B)) < share) & ~facts["terminated"]
    return facts


def tensors(facts):
    return {key: torch.from_numpy(value) for key, value in facts.items()}


def slow_gae(reward, value, next_value, terminated, truncated, gamma, lam):
    """The definition: a discounted sum of one-step errors up to the episode's end."""
    advantage = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                successor = 0.0 if terminated[k, b] else next_value[k, b]
                error = reward[k, b] + gamma * successor - value[k, b]
                advantage[t, b] += weight * error
                if terminated[k, b] or truncated[k, b]:
                    break
                weight *= gamma * lam
    return advantage


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_gae_is_the_discounted_sum_of_errors_up_to_the_end(lam, seed):
    facts = timeline(seed)
    advantage, target = gae(**tensors(facts), gamma=0.9, lam=lam)
    np.testing.assert_allclose(advantage, slow_gae(**facts, gamma=0.9, lam=lam), atol=1e-5)
    np.testing.assert_allclose(target, advantage.numpy() + facts["value"], atol=1e-6)
    assert advantage.dtype == target.dtype == torch.float32


def test_gae_by_hand():
    """Two steps, then truncated, then one terminated: gamma 0.5, lambda 0.5."""
    column = {
        "reward": [1.0, 2.0, 3.0, 4.0],
        "value": [0.0, 1.0, 2.0, 3.0],
        "next_value": [1.0, 6.0, 3.0, 9.0],
        "terminated": [False, False, False, True],
        "truncated": [False, True, False, False],
    }
    facts = {key: torch.tensor(value).unsqueeze(1) for key, value in column.items()}
    advantage, _ = gae(**facts, gamma=0.5, lam=0.5)
    # errors: 1+.5-0=1.5; 2+3-1=4 (bootstraps, trace ends); 3+1.5-2=2.5; 4-3=1 (no bootstrap)
    assert advantage.flatten().tolist() == [1.5 + 0.25 * 4, 4.0, 2.5 + 0.25 * 1, 1.0]


def test_what_stands_behind_a_termination_does_not_matter():
    facts = tensors(timeline(0))
    clean, _ = gae(**facts, gamma=0.9, lam=0.9)
    rest = {key: column for key, column in facts.items() if key != "value"}
    ratio = {"log_prob": torch.randn(T, B), "behaviour_log_prob": torch.randn(T, B)}
    steps, traces = n_step_return(**rest, gamma=0.9, n=3), vtrace(**ratio, **facts, gamma=0.9)
    for poison in (float("nan"), float("inf"), 1e6):
        next_value = facts["next_value"].masked_fill(facts["terminated"], poison)
        poisoned, rest_poisoned = ({**f, "next_value": next_value} for f in (facts, rest))
        for lam in (0.0, 0.9, 1.0):
            assert torch.isfinite(gae(**poisoned, gamma=0.9, lam=lam)[0]).all()
        assert torch.equal(gae(**poisoned, gamma=0.9, lam=0.9)[0], clean)
        assert torch.equal(n_step_return(**rest_poisoned, gamma=0.9, n=3), steps)
        for one, other in zip(vtrace(**ratio, **poisoned, gamma=0.9), traces, strict=True):
            assert torch.equal(one, other)


def test_value_of_an_endless_reward_is_reached_through_truncations():
    """One-step episodes cut from outside: the fixed point of the target is r / (1 - gamma)."""
    value = torch.zeros(1, 1)
    one, no, yes = torch.ones(1, 1), torch.zeros(1, 1).bool(), torch.ones(1, 1).bool()
    for _ in range(400):
        _, value = gae(
            reward=one, value=value, next_value=value, terminated=no, truncated=yes,
            gamma=0.9, lam=0.95,
        )  # fmt: skip
    assert value.item() == pytest.approx(10.0, abs=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 50])
def test_n_step_return_sums_n_rewards_or_up_to_the_end(n):
    facts = timeline(1)
    out = n_step_return(**{k: v for k, v in tensors(facts).items() if k != "value"}, gamma=0.9, n=n)
    for b in range(B):
        for t in range(T):
            total, weight = 0.0, 1.0
            for k in range(t, min(t + n, T)):
                total += weight * facts["reward"][k, b]
                weight *= 0.9
                last = k
                if facts["terminated"][k, b] or facts["truncated"][k, b]:
                    break
            if not facts["terminated"][last, b]:
                total += weight * facts["next_value"][last, b]
            assert out[t, b].item() == pytest.approx(total, abs=1e-5)


def test_n_step_return_refuses_no_steps():
    facts = {k: v for k, v in tensors(timeline(1)).items() if k != "value"}
    with pytest.raises(ValueError, match="n is 0"):
        n_step_return(**facts, gamma=0.9, n=0)


def test_vtrace_on_policy_is_the_lambda_return():
    facts = tensors(timeline(2))
    # Inside a segment the successor's value is the next step's, as a collector fills it.
    inside = ~(facts["terminated"] | facts["truncated"])[:-1]
    facts["next_value"][:-1][inside] = facts["value"][1:][inside]
    log_prob = torch.randn(T, B)
    target, _ = vtrace(log_prob=log_prob, behaviour_log_prob=log_prob, **facts, gamma=0.9, lam=0.8)
    _, expected = gae(**facts, gamma=0.9, lam=0.8)
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=0)


def test_vtrace_off_policy_equals_the_sum_of_the_paper():
    facts = timeline(3)
    rng = np.random.default_rng(3)
    log_prob, behaviour = (rng.normal(size=(T, B)).astype(np.float32) for _ in range(2))
    target, advantage = vtrace(
        log_prob=torch.from_numpy(log_prob), behaviour_log_prob=torch.from_numpy(behaviour),
        **tensors(facts), gamma=0.9, rho_clip=0.8, c_clip=0.6,
    )  # fmt: skip
    ratio = np.exp(log_prob - behaviour)
    rho, c = np.minimum(ratio, 0.8), np.minimum(ratio, 0.6)
    ended = facts["terminated"] | facts["truncated"]
    successor = np.where(facts["terminated"], 0.0, facts["next_value"])
    expected = facts["value"].astype(np.float64).copy()
    for b in range(B):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                error = facts["reward"][k, b] + 0.9 * successor[k, b] - facts["value"][k, b]
                expected[t, b] += weight * rho[k, b] * error
                if ended[k, b]:
                    break
                weight *= 0.9 * c[k, b]
    np.testing.assert_allclose(target, expected, atol=1e-5)
    following = successor.copy()
    following[:-1] += np.where(ended[:-1], 0.0, expected[1:] - facts["value"][1:])
    np.testing.assert_allclose(
        advantage, rho * (facts["reward"] + 0.9 * following - facts["value"]), atol=1e-5
    )


def test_discounted_sum_runs_forward_and_restarts_after_an_end():
    reward = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    boundary = torch.tensor([[False], [True], [False], [True]])
    running, carry = discounted_sum(
        reward=reward, boundary=boundary, initial=torch.tensor([10.0]), gamma=0.5
    )
    assert running.flatten().tolist() == [6.0, 5.0, 4.0, 10.0]
    assert carry.tolist() == [0.0]


def test_discounted_sum_of_two_segments_is_that_of_the_whole():
    facts = tensors(timeline(4))
    boundary = facts["terminated"] | facts["truncated"]
    options = {"initial": torch.randn(B), "gamma": 0.9}
    whole, end = discounted_sum(reward=facts["reward"], boundary=boundary, **options)
    first, carry = discounted_sum(reward=facts["reward"][:5], boundary=boundary[:5], **options)
    rest, last = discounted_sum(
        reward=facts["reward"][5:], boundary=boundary[5:], initial=carry, gamma=0.9
    )
    assert torch.equal(torch.cat((first, rest)), whole)
    assert torch.equal(last, end)


def test_discounted_sum_leaves_a_broken_episode_behind():
    reward = torch.tensor([[float("nan")], [1.0], [1.0]])
    boundary = torch.tensor([[True], [False], [False]])
    running, carry = discounted_sum(
        reward=reward, boundary=boundary, initial=torch.zeros(1), gamma=0.5
    )
    assert running[1:].flatten().tolist() == [1.0, 1.5]
    assert carry.tolist() == [1.5]


@pytest.mark.parametrize("seed", range(3))
def test_discounted_sum_follows_the_recursion_of_stable_baselines3(seed):
    """VecNormalize: returns = returns * gamma + reward, then 0 where done."""
    facts = tensors(timeline(seed))
    boundary = facts["terminated"] | facts["truncated"]
    out, carry = discounted_sum(
        reward=facts["reward"], boundary=boundary, initial=torch.zeros(B), gamma=0.97
    )
    returns = np.zeros(B)
    for t in range(T):
        returns = returns * 0.97 + facts["reward"][t].numpy()
        np.testing.assert_allclose(out[t], returns, atol=1e-5)
        returns[boundary[t].numpy()] = 0
    np.testing.assert_allclose(carry, returns, atol=1e-5)


def test_vtrace_targets_carry_no_gradient():
    facts = tensors(timeline(5))
    log_prob = torch.randn(T, B, requires_grad=True)
    facts["value"].requires_grad_()
    out = vtrace(log_prob=log_prob, behaviour_log_prob=torch.randn(T, B), **facts, gamma=0.9)
    assert not any(tensor.requires_grad for tensor in out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_return_keeps_the_dtype(dtype):
    facts = {
        k: v if v.dtype == torch.bool else v.to(dtype) for k, v in tensors(timeline(6)).items()
    }
    rest = {key: column for key, column in facts.items() if key != "value"}
    ratio = {"log_prob": facts["reward"], "behaviour_log_prob": facts["value"]}
    outs = [
        *gae(**facts, gamma=0.9, lam=0.9),
        n_step_return(**rest, gamma=0.9, n=3),
        *vtrace(**ratio, **facts, gamma=0.9),
        *discounted_sum(reward=facts["reward"], boundary=facts["truncated"],
                        initial=torch.zeros(B, dtype=dtype), gamma=0.9),
    ]  # fmt: skip
    assert {out.dtype for out in outs} == {dtype}


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], [3.3125, 5.25, 7.0]),
        ([0, 1, 0], [0, 0, 0], [2.5, 2.0, 7.0]),
        ([0, 0, 0], [0, 1, 0], [3.25, 5.0, 7.0]),
        ([0, 0, 1], [0, 0, 0], [3.0625, 4.25, 3.0]),
    ],
)
def test_lambda_returns_worked_by_hand(terminated, truncated, expected):
    """gamma = lam = 1/2, rewards 1 2 3, values of the successors 4 6 8."""

    def column(numbers, dtype=torch.float32):
        return torch.tensor(numbers, dtype=dtype).unsqueeze(1)

    value = column([4.0, 6.0, 8.0])
    value[column(terminated, torch.bool)] = torch.nan
    found = lambda_return(
        reward=column([1.0, 2.0, 3.0]), next_value=value, gamma=0.5, lam=0.5,
        terminated=column(terminated, torch.bool), truncated=column(truncated, torch.bool),
    )  # fmt: skip
    assert found.squeeze(1).tolist() == pytest.approx(expected)


def test_lambda_returns_equal_gaes_targets_where_the_successors_value_is_the_next_one():
    torch.manual_seed(0)
    T, B = 9, 5
    reward, value, last = torch.randn(T, B), torch.randn(T, B), torch.randn(1, B)
    terminated, truncated = torch.rand(T, B) < 0.2, torch.rand(T, B) < 0.2
    named = {"reward": reward, "next_value": torch.cat((value[1:], last)), "terminated": terminated,
             "truncated": truncated, "gamma": 0.9, "lam": 0.7}  # fmt: skip
    torch.testing.assert_close(lambda_return(**named), gae(value=value, **named)[1])
